"""Error codes: stable for ever, one for each error, found by a line of the log or by an operator's input."""

import pytest

from relay.core import answers
from relay.observability import error_codes

GIVEN = {
    "RELAY-101": ("busy",),
    "RELAY-102": ("broken",),
    "RELAY-103": ("silent",),
    "RELAY-104": ("unexpected",),
    "RELAY-105": ("misconfigured",),
    "RELAY-106": ("not-ready",),
    "RELAY-107": ("no-v3",),
    "RELAY-108": ("documents.withheld",),
    "RELAY-111": ("unauthorised",),
    "RELAY-112": ("forbidden",),
    "RELAY-113": ("token-refused",),
    "RELAY-114": ("token-unavailable",),
    "RELAY-115": (),
    "RELAY-116": ("inbound",),
    "RELAY-121": ("invalid",),
    "RELAY-122": ("too-large",),
    "RELAY-123": ("message.parked", "messages.parked"),
    "RELAY-124": ("tenant.paused",),
    "RELAY-125": ("tenant.stuck",),
    "RELAY-127": ("foreign",),
    "RELAY-128": ("gateway",),
    "RELAY-131": ("outbox",),
    "RELAY-135": ("message.failing",),
    "RELAY-141": ("tenant.lost",),
    "RELAY-143": ("outbox.changed",),
    "RELAY-151": ("relay.recovered",),
    "RELAY-152": ("relay.ended",),
    "RELAY-153": ("relay.cut",),
    "RELAY-154": ("relay.gave_up",),
    "RELAY-155": ("component.crashed",),
    "RELAY-156": ("loop.blocked",),
    "RELAY-157": ("component.stuck",),
    "RELAY-161": ("setting.ignored",),
    "RELAY-162": ("settings.refused",),
    "RELAY-163": ("tenant.missed",),
    "RELAY-164": ("traces",),
    "RELAY-165": ("log.dropped",),
    "RELAY-166": ("clock.jumped",),
    "RELAY-171": ("tenant.delayed",),
    "RELAY-172": (),
    "RELAY-173": (),
}
"""Released codes; a line here may gain a name, and is never changed or removed."""


def test_a_released_code_keeps_its_meaning() -> None:
    found = {code.code: code.kinds + code.events for code in error_codes.CODES}
    assert {code: set(names) - set(found.get(code, ())) for code, names in GIVEN.items()} == {
        code: set() for code in GIVEN
    }


def test_codes_titles_kinds_and_events_are_unique_and_in_order() -> None:
    numbers = [code.code for code in error_codes.CODES]
    assert numbers == sorted(set(numbers))
    for names in (
        [code.title for code in error_codes.CODES],
        [name for code in error_codes.CODES for name in code.kinds + code.events],
    ):
        assert len(names) == len(set(names))


def test_every_answer_that_opens_an_incident_has_a_code() -> None:
    assert [row.name for row in answers.ROWS if error_codes.of_kind(row.name) is None] == ["ok"]


@pytest.mark.parametrize(
    ("event", "kind", "code"),
    [
        ("incident.opened", "busy", "RELAY-101"),
        ("tenant.lost", None, "RELAY-141"),
        ("incident.opened", "unheard-of", None),
        ("relay.sank", None, None),
    ],
)
def test_a_line_has_the_code_of_its_event_or_of_its_kind(
    event: str, kind: str | None, code: str | None
) -> None:
    assert error_codes.of_line(event, kind) == code


@pytest.mark.parametrize("text", ["RELAY-101", "relay-101", "101", " relay101 "])
def test_a_code_may_be_abbreviated(text: str) -> None:
    found = error_codes.find(text)
    assert found is not None
    assert found.code == "RELAY-101"


@pytest.mark.parametrize("text", ["", "100", "1", "RELAY-1011", "busy"])
def test_text_that_is_no_code_is_none(text: str) -> None:
    assert error_codes.find(text) is None


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("busy", "RELAY-101"),
        ("component.crashed", "RELAY-155"),
        ("relay-1O8", "RELAY-108"),
        ("bussy", "RELAY-101"),
    ],
)
def test_similar_codes_are_offered(text: str, first: str) -> None:
    assert error_codes.nearest(text)[0].code == first


def test_nothing_is_offered_where_nothing_is_similar() -> None:
    assert error_codes.nearest("zzzzzz") == []
    assert 1 <= len(error_codes.nearest("RELAY-110")) <= 3
