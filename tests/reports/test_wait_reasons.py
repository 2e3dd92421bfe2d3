"""Why a message waits: by which rule, in words with a hint, since when, and when it is tried next."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import get_args

import pytest

from relay.core import answers
from relay.core.admin import Record
from relay.core.model import (
    BACK_OFF,
    NOT_ACCEPTED,
    DocumentName,
    MessageId,
    OrderingKey,
    RowId,
    StateName,
    TenantId,
    TenantState,
)
from relay.observability import error_codes
from relay.reports.wait_reasons import (
    Rule,
    WaitContext,
    message_wait_reasons,
    not_accepted,
    state_code,
    state_reason,
)

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
FINE = WaitContext(
    NOW, "key", TenantState(TenantId("ACME"), "sending", "", AN_HOUR_AGO), None, running=True, ahead=None
)


def live(state: StateName, reason: str = "HTTP 503", kind: str = "busy") -> WaitContext:
    return replace(FINE, state=TenantState(TenantId("ACME"), state, reason, AN_HOUR_AGO, SOON, kind=kind))


def unaccepted(*documents: str, state: StateName = "idle") -> WaitContext:
    names = tuple(map(DocumentName, documents))
    found = TenantState(TenantId("ACME"), state, "", AN_HOUR_AGO, SOON, kind=NOT_ACCEPTED, documents=names)
    return replace(FINE, state=found)


def rules(record: Record, context: WaitContext) -> list[Rule]:
    return [wait.rule for wait in message_wait_reasons(record, context)]


def test_where_nothing_is_in_its_way_it_goes_next() -> None:
    assert rules(RECORD, FINE) == ["next"]


@pytest.mark.parametrize(
    ("context", "rule", "text"),
    [
        (replace(FINE, ordering=None), "unconfigured", "RELAY_TENANTS__ACME__LOGICAL_ID"),
        (
            replace(FINE, paused="change night"),
            "paused",
            "change night; end it with: relay tenants resume ACME",
        ),
        (replace(FINE, running=False, state=None), "no-relay", "start one with: relay run"),
        (replace(FINE, state=None), "no-relay", "no running relay owns ACME yet"),
        (
            live("halted", "HTTP 403", "forbidden"),
            "halted",
            "halted for 60 min: HTTP 403; correct it; or: relay tenants resume ACME",
        ),
        (live("paused"), "paused", "relay tenants resume ACME"),
        (live("backing-off"), "backing-off", "after growing pauses: HTTP 503"),
        (live("initialising"), "opening", "checking whether ION is ready"),
        (live("pinging", "", ""), "opening", "checking whether ION is ready"),
        (live("pinging"), "opening", "checking whether ION is ready, after: HTTP 503"),
    ],
)
def test_the_wait_reason_of_the_whole_tenant_comes_first(context: WaitContext, rule: str, text: str) -> None:
    record = replace(RECORD, not_before=SOON, reason="HTTP 500", attempts=1)
    first, second = message_wait_reasons(record, context)
    assert first.rule == rule
    assert text in first.with_command
    assert "relay " not in first.text.replace("relay is", "").replace("running relay owns", "").replace(
        "the relay", ""
    ), "the page has a button instead of a command"
    assert second.rule == "back-off"


def test_every_live_state_has_a_wait_reason() -> None:
    for state in get_args(StateName):
        assert message_wait_reasons(RECORD, live(state))


@pytest.mark.parametrize("state", ["halted", "backing-off"])
def test_a_tenants_wait_reason_has_since_and_next_try(state: StateName) -> None:
    (wait,) = message_wait_reasons(RECORD, live(state))
    assert (wait.since, wait.next_try) == (AN_HOUR_AGO, SOON)
    assert wait.sentence(NOW).endswith(
        "; since 2026-01-02T11:00:00.000Z; next try in 5 min (2026-01-02T12:05:00.000Z)"
        "; see: relay explain RELAY-101"
    )


@pytest.mark.parametrize(
    ("context", "code"),
    [
        (FINE, None),
        (replace(FINE, ordering=None), "RELAY-163"),
        (replace(FINE, paused="change night"), "RELAY-124"),
        (replace(FINE, running=False, state=None), "RELAY-173"),
        (replace(FINE, state=None), None),
        (unaccepted("Sync.SalesOrder"), "RELAY-108"),
        (live("halted", "HTTP 403", "forbidden"), "RELAY-112"),
        (live("paused"), "RELAY-124"),
        (live("backing-off", "HTTP 429: slow down", "busy"), "RELAY-101"),
        (live("backing-off", "the connection was cut", "silent"), "RELAY-103"),
        (live("backing-off", "HTTP 503", kind=""), None),
        (live("pinging"), "RELAY-101"),
        (live("pinging", "", ""), None),
    ],
)
def test_a_wait_has_the_code_of_the_run_book_where_it_is_exact(
    context: WaitContext, code: str | None
) -> None:
    (wait,) = message_wait_reasons(RECORD, context)
    assert (wait.code, wait.as_json()["code"]) == (code, code)
    assert ("relay explain" in wait.sentence(NOW)) == (code is not None)


def test_a_document_that_is_not_accepted_has_a_hint() -> None:
    context = unaccepted("Sync.SalesOrder")
    (wait,) = message_wait_reasons(RECORD, context)
    assert wait.rule == "not-accepted"
    assert "add it to the connection point in ION Desk" in wait.text
    assert rules(replace(RECORD, document_name=DocumentName("Other")), context) == ["next"]


def test_a_back_off_shows_attempts_and_the_last_reason_until_it_is_over() -> None:
    record = replace(
        RECORD,
        not_before=SOON,
        attempts=3,
        reason="HTTP 500",
        history=((AN_HOUR_AGO, "counted", "HTTP 500"),),
    )
    (wait,) = message_wait_reasons(record, FINE)
    assert (wait.rule, wait.next_try, wait.since) == ("back-off", SOON, AN_HOUR_AGO)
    assert wait.text == "its own back-off after 3 attempts, the last: HTTP 500"
    assert rules(replace(record, not_before=AN_HOUR_AGO), FINE) == ["next"]
    (wait,) = message_wait_reasons(replace(record, attempts=0, history=()), FINE)
    assert wait.text == "its own back-off, the last: HTTP 500"


def test_the_message_before_it_in_its_lane_is_named_with_its_reason() -> None:
    head = replace(RECORD, message_id=MessageId("m1"), not_before=SOON, reason="HTTP 500")
    (wait,) = message_wait_reasons(replace(RECORD, ordering_key=OrderingKey("K")), replace(FINE, ahead=head))
    assert (wait.rule, wait.next_try) == ("lane", SOON)
    assert wait.text == "message m1 is before it in its lane, the key K (HTTP 500)"
    (wait,) = message_wait_reasons(RECORD, replace(FINE, ahead=head))
    assert "the messages without a key" in wait.text
    (wait,) = message_wait_reasons(RECORD, replace(FINE, ahead=replace(head, reason=None), ordering="tenant"))
    assert wait.text == "message m1 is before it in its lane (its own time: it was enqueued to be sent later)"
    sendable = replace(head, reason=None, not_before=AN_HOUR_AGO)
    (wait,) = message_wait_reasons(RECORD, replace(FINE, ahead=sendable, ordering="tenant"))
    assert (wait.text, wait.next_try) == ("message m1 is before it in its lane", None)


def test_a_message_that_was_enqueued_for_later_says_so() -> None:
    (wait,) = message_wait_reasons(replace(RECORD, not_before=SOON), FINE)
    assert (wait.rule, wait.next_try) == ("back-off", SOON)
    assert wait.text == "its own time: it was enqueued to be sent later"


def test_a_document_name_with_a_comma_is_not_split() -> None:
    context = unaccepted("A, B", "C")
    comma = replace(RECORD, document_name=DocumentName("A, B"))
    assert rules(comma, context) == ["not-accepted"]
    assert rules(replace(RECORD, document_name=DocumentName("A")), context) == ["next"]


def test_a_live_states_reason_is_worded_from_its_data() -> None:
    assert state_reason("", "HTTP 503", ()) == "HTTP 503"
    documents = (DocumentName("Sync.SalesOrder"), DocumentName("Sync.Shipment"))
    assert state_reason(NOT_ACCEPTED, "", documents) == (
        "waiting to be accepted by ION: Sync.SalesOrder, Sync.Shipment"
    )
    assert state_reason(NOT_ACCEPTED, "did you mean B instead of b?", (DocumentName("b"),)) == (
        "waiting to be accepted by ION: b; did you mean B instead of b?"
    )
    thousands = tuple(DocumentName(f"D{number:05}") for number in range(10_000))
    text = state_reason(NOT_ACCEPTED, "", thousands)
    assert text.endswith(", D00009 and 9,990 more")
    assert state_reason(NOT_ACCEPTED, "", thousands[:10]).endswith(", D00009")
    assert state_reason(BACK_OFF, "", ()) == "a message waits for its back-off"


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ("sync.shipment", "; did you mean Sync.Shipment? Else add it to"),
        ("sync.order", "; did you mean Sync.Order? Else add it to"),
        ("order", "; add it to"),
    ],
)
def test_a_message_is_told_the_name_that_was_meant_by_its_own_document(document: str, said: str) -> None:
    reason = (
        "did you mean Sync.Order instead of sync.order? did you mean Sync.Shipment instead of sync.shipment?"
    )
    state = unaccepted(document).state
    assert state is not None
    text = not_accepted(DocumentName(document), replace(state, reason=reason)).text
    assert text.startswith(f"{document} is not accepted by ION{said}")


@pytest.mark.parametrize("row", answers.ROWS, ids=lambda row: row.name)
@pytest.mark.parametrize("state", ["backing-off", "halted", "initialising", "pinging", "sending"])
def test_a_failing_state_has_the_code_of_its_kind(state: StateName, row: answers.Row) -> None:
    found = live(state, kind=row.name).state
    assert found is not None
    assert state_code(found) == error_codes.of_kind(row.name)


def test_a_state_in_which_nothing_fails_has_no_code() -> None:
    for state in set(get_args(StateName)) - {"backing-off", "halted", "paused"}:
        for kind in ("", BACK_OFF):
            found = live(state, "", kind).state
            assert found is not None
            assert state_code(found) is None
    found = live("paused", "anything").state
    assert found is not None
    assert state_code(found) == "RELAY-124"
