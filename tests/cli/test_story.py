"""The whole story of one message: what happened, what it waits for, since when, and its next try by which rule."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, get_args

import pytest

from relay.cli import story
from relay.cli.story import Around
from relay.desk import MessageState, Record
from relay.flight import NOT_ACCEPTED
from relay.model import (
    Delivered,
    DocumentName,
    MessageId,
    OrderingKey,
    Parked,
    Released,
    RowId,
    StateName,
    TenantId,
    TenantState,
)

if TYPE_CHECKING:
    from relay.ports import Store
    from tests.cli.conftest import Person

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
    return [wait.rule for wait in story.waits(record, around)]


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
        (replace(FINE, state=None), "no-relay", "does not carry ACME"),
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
    first, second = story.waits(record, around)
    assert first.rule == rule
    assert told in first.text
    assert second.rule == "own-delay"


def test_every_live_state_has_its_words() -> None:
    for state in get_args(StateName):
        assert story.waits(RECORD, live(state))


@pytest.mark.parametrize("state", ["halted", "backing-off"])
def test_the_tenants_next_try_and_since_when_are_told(state: StateName) -> None:
    (wait,) = story.waits(RECORD, live(state))
    assert (wait.since, wait.next_try) == (AN_HOUR_AGO, SOON)
    assert story.sentence(wait, NOW).endswith(
        "; since 2026-01-02T11:00:00.000Z; next try in 5 min (2026-01-02T12:05:00.000Z)"
    )


def test_a_document_that_is_not_accepted_is_told_with_the_mend() -> None:
    around = replace(live("idle"), not_accepted=frozenset({"Sync.SalesOrder"}))
    (wait,) = story.waits(RECORD, around)
    assert wait.rule == "not-accepted"
    assert "add it to the connection point in ION Desk" in wait.text
    assert rules(replace(RECORD, document_name=DocumentName("Other")), around) == ["next"]


def test_its_own_delay_is_told_with_attempts_and_the_last_reason_until_it_is_over() -> None:
    record = replace(
        RECORD, not_before=SOON, attempts=3, reason="HTTP 500", history=((AN_HOUR_AGO, "blamed", "HTTP 500"),)
    )
    (wait,) = story.waits(record, FINE)
    assert (wait.rule, wait.next_try, wait.since) == ("own-delay", SOON, AN_HOUR_AGO)
    assert wait.text == "its own delay after 3 attempts, the last: HTTP 500"
    assert rules(replace(record, not_before=AN_HOUR_AGO), FINE) == ["next"]
    (wait,) = story.waits(replace(record, attempts=0, history=()), FINE)
    assert wait.text == "its own delay, the last: HTTP 500"


def test_the_message_before_it_in_its_lane_is_named_with_its_own_trouble() -> None:
    head = replace(RECORD, message_id=MessageId("m1"), not_before=SOON, reason="HTTP 500")
    (wait,) = story.waits(replace(RECORD, ordering_key=OrderingKey("K")), replace(FINE, head=head))
    assert (wait.rule, wait.next_try) == ("lane", SOON)
    assert wait.text == "message m1 is before it in its lane, the key K (HTTP 500)"
    (wait,) = story.waits(RECORD, replace(FINE, head=head))
    assert "the messages without a key" in wait.text
    (wait,) = story.waits(RECORD, replace(FINE, head=replace(head, reason=None), ordering="tenant"))
    assert wait.text == "message m1 is before it in its lane"
    assert rules(RECORD, replace(FINE, head=head, ordering="none")) == ["next"]


@pytest.mark.parametrize("state", ["delivered", "parked", "dropped"])
def test_what_is_settled_waits_for_nothing(state: MessageState) -> None:
    record = replace(RECORD, state=state, reason="HTTP 400", settled_at=NOW)
    assert story.waits(record, replace(FINE, ordering=None)) == []
    assert story.happened(record)[-1].startswith(f"2026-01-02T12:00:00.000Z  {state}")


def test_a_parked_message_says_how_it_goes_on() -> None:
    told = story.now_is(replace(RECORD, state="parked", reason="HTTP 400"))
    assert "parked: HTTP 400" in told
    assert "relay messages retry m7" in told
    assert "relay messages drop m7" in told
    assert "relay messages retry m7" in story.now_is(replace(RECORD, state="dropped", reason="x"))
    assert "ION took custody" in story.now_is(replace(RECORD, state="delivered"))


# --- from a real outbox -----------------------------------------------------------------------------------


def settle(person: "Person", *settlements: Any) -> None:
    async def work(outbox: "Store") -> None:
        for settlement in settlements:
            await outbox.settle([(RowId(1), settlement)])

    person.at_outbox(work)


def shown(person: "Person", message_id: str = "m1") -> Any:
    return person.runs("messages", "show", message_id, "--json").json


def running(person: "Person", state: StateName, reason: str = "") -> None:
    async def work(outbox: "Store") -> None:
        await outbox.beat("host-1", {})
        await outbox.report([TenantState(TenantId("ACME"), state, reason, AN_HOUR_AGO)])

    person.at_outbox(work)


def test_show_tells_what_happened_in_order_and_how_it_stands(person: "Person") -> None:
    person.hands_over("m1")
    settle(person, Released("HTTP 503"), Released("HTTP 500", blamed=True, wait=60), Parked("HTTP 400: bad"))
    person.runs("messages", "retry", "m1")
    settle(person, Delivered())
    ran = person.runs("messages", "show", "m1")
    assert ran.code == 0
    lines = ran.out.splitlines()
    assert lines[0] == "message m1"
    happened = [line.split("Z  ", 1)[1] for line in lines if "Z  " in line]
    assert happened == [
        "handed over, 4 bytes",
        "not delivered, back to waiting: HTTP 503",
        "not delivered, counted as an attempt; it may have arrived all the same: HTTP 500",
        "parked: HTTP 400: bad",
        "back in the queue by hand",
        "delivered",
    ]
    assert lines[-1] == "It was delivered: ION took custody."


def test_show_as_json_has_history_and_waits(person: "Person") -> None:
    person.hands_over("m1")
    settle(person, Released("HTTP 500", blamed=True, wait=60))
    running(person, "sending")
    found = shown(person)
    assert [(one["what"], one["detail"]) for one in found["history"]] == [("blamed", "HTTP 500")]
    (wait,) = found["waits_for"]
    assert (wait["rule"], wait["next_try"]) == ("own-delay", found["not_before"])
    assert found["attempts"] == 1


def test_show_names_the_head_of_the_lane(person: "Person") -> None:
    person.hands_over("m1", "m2")
    running(person, "sending")
    assert [wait["rule"] for wait in shown(person, "m2")["waits_for"]] == ["lane"]
    assert "message m1 is before it" in shown(person, "m2")["waits_for"][0]["text"]
    assert [wait["rule"] for wait in shown(person, "m1")["waits_for"]] == ["next"]
    person.sets({"RELAY_TENANTS__ACME__ORDERING": "none"})
    assert [wait["rule"] for wait in shown(person, "m2")["waits_for"]] == ["next"]


def test_show_knows_one_lane_for_the_whole_tenant(person: "Person") -> None:
    person.hands_over("m1")
    person.runs(
        "enqueue", "--tenant", "ACME", "--document", "D", "--key", "K", "--message-id", "m2", "-", given=b"x"
    )
    running(person, "sending")
    assert [wait["rule"] for wait in shown(person, "m2")["waits_for"]] == ["next"]
    person.sets({"RELAY_TENANTS__ACME__ORDERING": "tenant"})
    assert [wait["rule"] for wait in shown(person, "m2")["waits_for"]] == ["lane"]
    assert [wait["rule"] for wait in shown(person, "m1")["waits_for"]] == ["next"]


def test_show_knows_from_the_relays_state_that_a_document_is_not_accepted(person: "Person") -> None:
    person.hands_over("m1")
    running(person, "idle", f"{NOT_ACCEPTED}Sync.Other, Sync.SalesOrder")
    assert [wait["rule"] for wait in shown(person)["waits_for"]] == ["not-accepted"]
    running(person, "idle", f"{NOT_ACCEPTED}Sync.Other")
    assert [wait["rule"] for wait in shown(person)["waits_for"]] == ["next"]


def test_show_tells_a_pause_a_missing_relay_and_a_missing_tenant(person: "Person") -> None:
    person.hands_over("m1")
    assert shown(person)["waits_for"][0]["rule"] == "no-relay"
    person.runs("tenants", "pause", "ACME")
    assert shown(person)["waits_for"][0]["rule"] == "paused"
    person.unsets("RELAY_TENANTS__ACME")
    assert shown(person)["waits_for"][0]["rule"] == "unconfigured"


def test_show_tells_all_where_tenants_use_the_same_id(person: "Person") -> None:
    person.hands_over("m1")
    person.hands_over("m1", tenant="GLOBEX")
    assert person.runs("messages", "show", "m1").out.count("message m1\n") == 2
    assert [one["tenant_id"] for one in shown(person)] == ["ACME", "GLOBEX"]
    assert person.runs("messages", "show", "m1", "--tenant", "globex", "--json").json["tenant_id"] == "GLOBEX"


def test_a_message_that_is_not_there_is_trouble(person: "Person") -> None:
    person.hands_over("m1")
    ran = person.runs("messages", "show", "m9")
    assert (ran.code, ran.out, ran.err) == (1, "", "relay: there is no message m9\n")
