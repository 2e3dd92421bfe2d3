"""The table of answers once more, written by hand: the code must agree with it for every status code.

The order of the tests is from the broad to the fine, so that a wrong row is named at once.
"""

import dataclasses
from typing import get_args

import pytest

from relay.core import answers
from relay.core.answers import (
    Fate,
    FaultOwner,
    Opening,
    Posting,
    asks_for_fresh_token,
    hint_for,
    is_fine,
    row_of,
    row_of_get,
    token_answer,
)
from relay.core.replies import (
    Accepted,
    Answer,
    Form,
    IonCall,
    NoReply,
    Reply,
    TokenRefused,
    TokenUnavailable,
    Versions,
)

EVERY_STATUS = range(100, 600)
CONFIGURATION_CODES = (418, 419, 448, 456, 458, 471)
MESSAGE_CODES = (450, 453, 470, 477)
OTHER_CODES = (0, 200, 202, 417, 420, 447, 449, 451, 457, 459, 472, 476, 540)

# --- the table, by hand ---------------------------------------------------------------------------
# name: statuses, what it does to an opening call, to a post, to the message, and whose fault it is

TABLE = {
    "ok": (range(200, 300), "continue", "next", "delivered", FaultOwner.NOBODY),
    "invalid": ((400,), "back off", "policy", "policy", FaultOwner.MESSAGE),
    "unauthorised": ((401,), "halt", "ping soon", "released", FaultOwner.CREDENTIALS),
    "forbidden": ((403,), "halt", "ping", "released", FaultOwner.CREDENTIALS),
    "not-ready": ((412,), "start over", "start over", "released", FaultOwner.CONFIGURATION),
    "too-large": ((413,), "back off", "next", "parked", FaultOwner.MESSAGE),
    "busy": ((429, 503), "back off", "ping", "released", FaultOwner.ION),
    "broken": (
        (408, 500, 501, 502, *range(504, 600)),
        "back off",
        "ping",
        "counted",
        FaultOwner.ION,
    ),
    "unexpected": (
        (
            *range(100, 200),
            *range(300, 400),
            402,
            404,
            405,
            406,
            407,
            *range(409, 412),
            *range(414, 429),
            *range(430, 500),
        ),
        "back off",
        "ping",
        "released",
        FaultOwner.CONFIGURATION,
    ),
}

NOT_BY_STATUS: dict[str, tuple[Answer, str, str, str, FaultOwner]] = {
    "clock": (Reply(401, clock_off=-3600.0), "back off", "ping", "released", FaultOwner.CONFIGURATION),
    "silent": (NoReply("cut"), "back off", "ping", "counted", FaultOwner.ION),
    "token-refused": (TokenRefused("no"), "halt", "halt", "released", FaultOwner.CREDENTIALS),
    "token-unavailable": (TokenUnavailable("down"), "back off", "ping", "released", FaultOwner.ION),
    "no-v3": (Versions(("v1", "v2")), "longest", "never", "none", FaultOwner.CONFIGURATION),
}

BY_STATUS = {
    status: (name, opening, posting, fate, fault)
    for name, (statuses, opening, posting, fate, fault) in TABLE.items()
    for status in statuses
}

OPENINGS = {
    "continue": Opening.CONTINUE,
    "back off": Opening.BACK_OFF,
    "start over": Opening.START_OVER,
    "longest": Opening.LONGEST,
    "halt": Opening.HALT,
}
POSTINGS = {
    "next": Posting.NEXT,
    "policy": Posting.POLICY,
    "ping soon": Posting.PING_SOON,
    "ping": Posting.PING,
    "start over": Posting.START_OVER,
    "halt": Posting.HALT,
    "never": Posting.NEVER,
}
FATES = {
    "delivered": Fate.DELIVERED,
    "released": Fate.RELEASED,
    "counted": Fate.COUNTED,
    "parked": Fate.PARKED,
    "policy": Fate.POLICY,
    "none": Fate.NONE,
}


def everything() -> list[tuple[Answer, str, str, str]]:
    """Each kind of answer once more than enough, with the reaction that the table asks for."""
    rows: list[tuple[Answer, str, str, str]] = [
        (Reply(status), opening, posting, fate)
        for status, (_name, opening, posting, fate, _fault) in BY_STATUS.items()
    ]
    rows += [(Reply(400, code=code), "back off", "ping", "released") for code in CONFIGURATION_CODES]
    rows += [(Reply(400, form="html"), "back off", "ping", "released")]
    rows += [(Reply(200, form="html"), "back off", "ping", "counted")]
    rows += [(Reply(202, failed=True), "back off", "ping", "counted")]
    rows += [(answer, opening, posting, fate) for answer, opening, posting, fate, _ in NOT_BY_STATUS.values()]
    return rows


def text_of(answer: Answer) -> str:
    match answer:
        case Reply(status, failed=True):
            return f"HTTP {status} (the body reports a failure)"
        case Reply(status, code=None):
            return f"HTTP {status}"
        case Reply(status, code=code):
            return f"HTTP {status} (IMS code {code})"
        case TokenRefused(detail):
            return f"cannot authenticate: {detail}"
        case TokenUnavailable(detail):
            return f"the token service is not available: {detail}"
        case NoReply(detail):
            return detail
        case Versions(supported):
            return f"v3 or later is needed, ION supports {', '.join(supported)}"
        case _:
            raise AssertionError(answer)


# --- rows: what an answer means -------------------------------------------------------------------


def test_the_handwritten_table_covers_every_status_code_once() -> None:
    assert sorted(status for statuses, *_ in TABLE.values() for status in statuses) == list(EVERY_STATUS)


def test_every_status_code_has_the_row_of_the_table() -> None:
    for status in EVERY_STATUS:
        for code in (None, *OTHER_CODES):
            row = row_of(Reply(status, code=code))
            name, opening, posting, fate, fault = BY_STATUS[status]
            found = (row.name, row.opening, row.posting, row.fate, row.fault)
            assert found == (name, OPENINGS[opening], POSTINGS[posting], FATES[fate], fault), status


def test_status_codes_outside_http_are_a_configuration_fault() -> None:
    for status in (-1, 0, 99, 600, 601, 999):
        assert row_of(Reply(status)).name == "unexpected"


@pytest.mark.parametrize("code", CONFIGURATION_CODES)
def test_a_400_about_tenant_sender_or_client_is_the_configurations_fault_and_only_as_a_400(code: int) -> None:
    row = row_of(Reply(400, code=code))
    assert (row.name, row.opening, row.posting, row.fate, row.fault) == (
        "misconfigured", Opening.BACK_OFF, Posting.PING, Fate.RELEASED, FaultOwner.CONFIGURATION,
    )  # fmt: skip
    for status in EVERY_STATUS:
        if status != 400:
            assert row_of(Reply(status, code=code)).name == BY_STATUS[status][0]


@pytest.mark.parametrize("code", MESSAGE_CODES)
def test_a_code_about_the_message_makes_a_400_or_412_the_messages_fault(code: int) -> None:
    for status in EVERY_STATUS:
        expected = "invalid" if status in (400, 412) else BY_STATUS[status][0]
        assert row_of(Reply(status, code=code, form="ims")).name == expected


def test_every_other_internal_code_leaves_a_400_the_messages_fault() -> None:
    for code in range(1000):
        expected = "misconfigured" if code in CONFIGURATION_CODES else "invalid"
        assert row_of(Reply(400, code=code)).name == expected


def test_a_400_in_a_gateways_form_is_a_gateways() -> None:
    names = {form: row_of(Reply(400, form=form)).name for form in get_args(Form)}
    assert names == {"empty": "invalid", "ims": "invalid", "html": "gateway", "other": "gateway"}
    assert (answers.GATEWAY.opening, answers.GATEWAY.posting, answers.GATEWAY.fate, answers.GATEWAY.fault) == (
        Opening.BACK_OFF, Posting.PING, Fate.RELEASED, FaultOwner.CONFIGURATION,
    )  # fmt: skip


def test_a_2xx_with_a_page_is_no_delivery() -> None:
    for status in EVERY_STATUS:
        name = "foreign" if 200 <= status < 300 else "gateway" if status == 400 else BY_STATUS[status][0]
        row = row_of(Reply(status, form="html"))
        assert row.name == name
        fine = {form for form in get_args(Form) if is_fine(Reply(status, form=form))}
        assert fine == ({"empty", "ims", "other"} if 200 <= status < 300 else set())
    assert (answers.FOREIGN.opening, answers.FOREIGN.posting, answers.FOREIGN.fate, answers.FOREIGN.fault) == (
        Opening.BACK_OFF, Posting.PING, Fate.COUNTED, FaultOwner.CONFIGURATION,
    )  # fmt: skip


@pytest.mark.parametrize("status", [200, 202, 299])
def test_a_2xx_that_says_fail_is_what_its_code_stands_for(status: int) -> None:
    def row(code: int | None) -> str:
        return row_of(Reply(status, code=code, form="ims", failed=True)).name

    assert {code: row(code) for code in CONFIGURATION_CODES} == dict.fromkeys(
        CONFIGURATION_CODES, "misconfigured"
    )
    assert {code: row(code) for code in MESSAGE_CODES} == dict.fromkeys(MESSAGE_CODES, "invalid")
    assert {code: row(code) for code in (None, 0, 202, 399, 540, 599, 600, 9999)} == dict.fromkeys(
        (None, 0, 202, 399, 540, 599, 600, 9999), "broken"
    )
    for code in (400, 401, 402, 403, 404, 412, 413, 417, 429, 499, 500, 503):
        assert row(code) == BY_STATUS[code][0]


def test_no_message_is_the_cause_of_an_answer_to_a_get() -> None:
    for answer, *_ in everything():
        row = row_of(answer)
        expected = "unexpected" if row.fault is FaultOwner.MESSAGE else row.name
        assert row_of_get(answer).name == expected


@pytest.mark.parametrize("name", NOT_BY_STATUS)
def test_answers_that_are_no_status_have_the_row_of_the_table(name: str) -> None:
    answer, opening, posting, fate, fault = NOT_BY_STATUS[name]
    row = row_of(answer)
    assert (row.name, row.opening, row.posting, row.fate, row.fault) == (
        name, OPENINGS[opening], POSTINGS[posting], FATES[fate], fault,
    )  # fmt: skip


def test_a_list_of_accepted_documents_is_fine() -> None:
    assert row_of(Accepted(frozenset())).name == "ok"


def test_rows_are_complete_each_once_and_each_says_something() -> None:
    names = [row.name for row in answers.ROWS]
    assert names == [
        "ok", "foreign", "invalid", "gateway", "unauthorised", "clock", "forbidden", "unexpected", "misconfigured",
        "not-ready",
        "too-large", "busy", "broken", "silent", "token-refused", "token-unavailable", "no-v3",
    ]  # fmt: skip
    for row in answers.ROWS:
        assert all((row.answer, row.hint, row.source)), row.name
        assert row.source.startswith("["), "every row cites its source"


@pytest.mark.parametrize(
    ("supported", "fine"),
    [
        (("v1", "v2", "v3"), True),
        (("v3",), True),
        (("v4",), True),
        (("v10",), True),
        (("v9999",), True),
        (("v3", "junk"), True),
        (("junk", "v3"), True),
        ((), False),
        (("v1", "v2"), False),
        (("v0",), False),
        (("",), False),
        (("v",), False),
        (("3",), False),
        (("V3",), False),
        (("v3.1",), False),
        (("v-3",), False),
        ((" v3",), False),
        (("v3 ",), False),
        (("v3\n",), False),
        (("xv3",), False),
        (("v٣",), False),
        (("v" + "9" * 5000,), False),
    ],
)
def test_v3_or_later_must_be_among_the_versions(supported: tuple[str, ...], fine: bool) -> None:
    assert is_fine(Versions(supported)) is fine
    assert row_of(Versions(supported)).name == ("ok" if fine else "no-v3")


def test_only_a_2xx_lets_an_opening_continue() -> None:
    for status in EVERY_STATUS:
        assert is_fine(Reply(status)) is (200 <= status < 300)
    for answer, *_ in NOT_BY_STATUS.values():
        assert is_fine(answer) is False


def test_only_a_401_asks_for_a_fresh_token() -> None:
    for status in EVERY_STATUS:
        assert asks_for_fresh_token(Reply(status)) is (status == 401)
    for answer, *_ in NOT_BY_STATUS.values():
        assert asks_for_fresh_token(answer) is False


def test_the_token_service_refuses_by_400_401_and_403_and_fails_by_everything_else() -> None:
    for status in EVERY_STATUS:
        answer = token_answer(status, "why", 7.0)
        refused = status in (400, 401, 403)
        refusal = TokenRefused("the token service answers why")
        assert answer == (refusal if refused else TokenUnavailable("why", 7.0))
    assert token_answer(500, "why", None) == TokenUnavailable("why", None)


@pytest.mark.parametrize("error", ["access_denied", "invalid_client", "invalid_grant", "invalid_request",
                                   "invalid_scope", "unauthorized_client", "unsupported_grant_type"])  # fmt: skip
def test_the_token_service_may_refuse_with_a_success(error: str) -> None:
    for status in EVERY_STATUS:
        refused = status in (400, 401, 403) or 200 <= status < 300
        assert isinstance(token_answer(status, "why", None, error), TokenRefused) == refused


def test_other_errors_in_a_success_of_the_token_service_are_no_refusals() -> None:
    for error in ("temporarily_unavailable", "server_error", "slow_down", "Bad Request", ""):
        assert token_answer(200, "why", 7.0, error) == TokenUnavailable("why", 7.0)


def test_a_clock_explains_a_401_alone() -> None:
    for status in EVERY_STATUS:
        if status != 401:
            assert row_of(Reply(status, clock_off=3600.0)) is row_of(Reply(status))


def test_the_hint_depends_on_the_call_where_the_cause_does() -> None:
    """A 400 to a ping is not cured by another document."""
    calls = get_args(IonCall)
    for row in answers.ROWS:
        for call in calls:
            assert hint_for(row, call) == answers.HINTS_BY_CALL.get((row.name, call), row.hint)
    names = {row.name for row in answers.ROWS}
    assert all(name in names and call in calls for name, call in answers.HINTS_BY_CALL)
    for status in EVERY_STATUS:
        for call in calls[:3]:
            assert "document and" not in hint_for(row_of_get(Reply(status, form="ims")), call)
    assert "logical id" in hint_for(row_of_get(Reply(400)), "acceptedDocuments")
    assert "ION URL" in hint_for(row_of_get(Reply(400)), "ping")
    assert "document flow" in hint_for(row_of_get(Reply(503)), "ping")
    assert "document flow" not in hint_for(row_of(Reply(503)), "post")


def test_rows_are_values_that_nothing_can_change() -> None:
    assert not hasattr(answers.OK, "__dict__")
    with pytest.raises(dataclasses.FrozenInstanceError):
        answers.OK.name = "other"  # type: ignore[misc]


def test_these_answers_have_a_hint_of_their_own_by_call() -> None:
    assert sorted(answers.HINTS_BY_CALL) == [
        ("busy", "ping"),
        ("forbidden", "ping"),
        ("forbidden", "versions"),
        ("not-ready", "acceptedDocuments"),
        ("unexpected", "acceptedDocuments"),
        ("unexpected", "ping"),
        ("unexpected", "post"),
        ("unexpected", "versions"),
    ]
    assert all(answers.HINTS_BY_CALL.values())
