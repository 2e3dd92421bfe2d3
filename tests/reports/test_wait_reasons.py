"""Why a message waits: by which rule, in words with the mend, since when, and when it is tried next."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import get_args

import pytest

from relay.core.admin import Record
from relay.core.model import DocumentName, MessageId, OrderingKey, RowId, StateName, TenantId, TenantState
from relay.reports.wait_reasons import Around, waits

NOW = datetime(2026, 1, 2, 12, 0, tzinfo=UTC)
AN_HOUR_AGO, SOON = NOW - timedelta(hours=1), NOW + timedelta(minutes=5)

RECORD = Record(
    row=RowId(7),
    tenant_id=TenantId("ACME"),
    document_name=DocumentName("Sync.SalesOrder"),
    message_id=MessageId("m7"),
    to_logical_id="lid://default",
    ordering_key=None,
    parameters={},
    size=4,
    state="pending",
    reason=None,
    attempts=0,
    not_before=None,
    created_at=AN_HOUR_AGO,
    queued_at=AN_HOUR_AGO,
    settled_at=None,
)
FINE = Around(
    NOW, "key", TenantState(TenantId("ACME"), "sending", "", AN_HOUR_AGO), None, running=True, head=None
)


def live(state: StateName, reason: str = "HTTP 503") -> Around:
    return replace(FINE, state=TenantState(TenantId("ACME"), state, reason, AN_HOUR_AGO, SOON))


def rules(record: Record, around: Around) -> list[str]:
    return [wait.rule for wait in waits(record, around)]


def test_where_nothing_is_in_its_way_it_goes_next() -> None:
    assert rules(RECORD, FINE) == ["next"]


@pytest.mark.parametrize(
    ("around", "rule", "told"),
    [
        (replace(FINE, ordering=None), "unconfigured", "RELAY_TENANTS__ACME__LOGICAL_ID"),
        (
            replace(FINE, paused="change night"),
            "paused",
            "change night; end it with: relay tenants resume ACME",
        ),
        (replace(FINE, running=False, state=None), "no-relay", "start one with: relay run"),
        (replace(FINE, state=None), "no-relay", "no relay that runs carries ACME"),
        (
            live("halted", "HTTP 403"),
            "halted",
            "halted for 60 min: HTTP 403; correct it, or: relay tenants resume ACME",
        ),
        (live("paused"), "paused", "relay tenants resume ACME"),
        (live("backing-off"), "backing-off", "after growing pauses: HTTP 503"),
        (live("initialising"), "opening", "asked whether it is ready"),
        (live("pinging"), "opening", "asked whether it is ready"),
    ],
)
def test_what_holds_the_whole_tenant_is_told_first(around: Around, rule: str, told: str) -> None:
    record = replace(RECORD, not_before=SOON, reason="HTTP 500", attempts=1)
    first, second = waits(record, around)
    assert first.rule == rule
    assert told in first.text
    assert second.rule == "back-off"


def test_every_live_state_has_its_words() -> None:
    for state in get_args(StateName):
        assert waits(RECORD, live(state))


@pytest.mark.parametrize("state", ["halted", "backing-off"])
def test_the_tenants_next_try_and_since_when_are_told(state: StateName) -> None:
    (wait,) = waits(RECORD, live(state))
    assert (wait.since, wait.next_try) == (AN_HOUR_AGO, SOON)
    assert wait.sentence(NOW).endswith(
        "; since 2026-01-02T11:00:00.000Z; next try in 5 min (2026-01-02T12:05:00.000Z)"
        "; see: relay explain RELAY-101"
    )


@pytest.mark.parametrize(
    ("around", "code"),
    [
        (FINE, None),
        (replace(FINE, ordering=None), "RELAY-163"),
        (replace(FINE, paused="change night"), "RELAY-124"),
        (replace(FINE, running=False, state=None), "RELAY-173"),
        (replace(FINE, state=None), None),
        (replace(FINE, not_accepted=frozenset({RECORD.document_name})), "RELAY-108"),
        (live("halted", "HTTP 403"), "RELAY-112"),
        (live("paused"), "RELAY-124"),
        (live("backing-off", "HTTP 429: slow down"), "RELAY-101"),
        (live("backing-off", "the connection was cut"), None),
        (live("pinging"), None),
    ],
)
def test_a_wait_has_the_code_of_the_run_book_where_it_is_exact(around: Around, code: str | None) -> None:
    (wait,) = waits(RECORD, around)
    assert (wait.code, wait.as_json()["code"]) == (code, code)
    assert ("relay explain" in wait.sentence(NOW)) == (code is not None)


def test_a_document_that_is_not_accepted_is_told_with_the_mend() -> None:
    around = replace(live("idle"), not_accepted=frozenset({DocumentName("Sync.SalesOrder")}))
    (wait,) = waits(RECORD, around)
    assert wait.rule == "not-accepted"
    assert "add it to the connection point in ION Desk" in wait.text
    assert rules(replace(RECORD, document_name=DocumentName("Other")), around) == ["next"]


def test_its_own_delay_is_told_with_attempts_and_the_last_reason_until_it_is_over() -> None:
    record = replace(
        RECORD,
        not_before=SOON,
        attempts=3,
        reason="HTTP 500",
        history=((AN_HOUR_AGO, "counted", "HTTP 500"),),
    )
    (wait,) = waits(record, FINE)
    assert (wait.rule, wait.next_try, wait.since) == ("back-off", SOON, AN_HOUR_AGO)
    assert wait.text == "its own delay after 3 attempts, the last: HTTP 500"
    assert rules(replace(record, not_before=AN_HOUR_AGO), FINE) == ["next"]
    (wait,) = waits(replace(record, attempts=0, history=()), FINE)
    assert wait.text == "its own delay, the last: HTTP 500"


def test_the_message_before_it_in_its_lane_is_named_with_its_own_trouble() -> None:
    head = replace(RECORD, message_id=MessageId("m1"), not_before=SOON, reason="HTTP 500")
    (wait,) = waits(replace(RECORD, ordering_key=OrderingKey("K")), replace(FINE, head=head))
    assert (wait.rule, wait.next_try) == ("lane", SOON)
    assert wait.text == "message m1 is before it in its lane, the key K (HTTP 500)"
    (wait,) = waits(RECORD, replace(FINE, head=head))
    assert "the messages without a key" in wait.text
    (wait,) = waits(RECORD, replace(FINE, head=replace(head, reason=None), ordering="tenant"))
    assert wait.text == "message m1 is before it in its lane"
    assert rules(RECORD, replace(FINE, head=head, ordering="none")) == ["next"]
