"""`relay messages show`: what happened, what it waits for, since when, and its next try by which rule."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from relay.core.model import (
    Delivered,
    DocumentName,
    Parked,
    Released,
    RowId,
    StateName,
    TenantId,
    TenantState,
)

if TYPE_CHECKING:
    from relay.core.ports import Store
    from tests.cli.conftest import Person

AN_HOUR_AGO = datetime(2026, 1, 2, 11, 0, tzinfo=UTC)


def settle(person: "Person", *settlements: Any) -> None:
    async def work(outbox: "Store") -> None:
        for settlement in settlements:
            await outbox.settle([(RowId(1), settlement)])

    person.at_outbox(work)


def shown(person: "Person", message_id: str = "m1") -> Any:
    return person.runs("messages", "show", message_id, "--json").json


def running(person: "Person", state: StateName, *documents: DocumentName) -> None:
    async def work(outbox: "Store") -> None:
        await outbox.beat("host-1", {})
        await outbox.report([TenantState(TenantId("ACME"), state, "", AN_HOUR_AGO, documents=documents)])

    person.at_outbox(work)


def test_show_tells_what_happened_in_order_and_how_it_stands(person: "Person") -> None:
    person.hands_over("m1")
    settle(person, Released("HTTP 503"), Released("HTTP 500", counted=True, wait=60), Parked("HTTP 400: bad"))
    person.runs("messages", "retry", "m1")
    settle(person, Delivered())
    ran = person.runs("messages", "show", "m1")
    assert ran.code == 0
    lines = ran.out.splitlines()
    assert lines[0] == "message m1"
    happened = [line.split("Z  ", 1)[1] for line in lines if "Z  " in line]
    assert happened == [
        "enqueued, 4 bytes",
        "not delivered, back to waiting: HTTP 503",
        "not delivered, counted as an attempt; it may have arrived nevertheless: HTTP 500",
        "parked: HTTP 400: bad",
        "retried by an operator",
        "delivered",
    ]
    assert lines[-1] == "It was delivered: ION took custody."


def test_show_as_json_has_history_and_waits(person: "Person") -> None:
    person.hands_over("m1")
    settle(person, Released("HTTP 500", counted=True, wait=60))
    running(person, "sending")
    found = shown(person)
    assert [(one["what"], one["detail"]) for one in found["history"]] == [("counted", "HTTP 500")]
    (wait,) = found["waits_for"]
    assert (wait["rule"], wait["next_try"]) == ("back-off", found["not_before"])
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
    running(person, "idle", DocumentName("Sync.Other"), DocumentName("Sync.SalesOrder"))
    assert [wait["rule"] for wait in shown(person)["waits_for"]] == ["not-accepted"]
    running(person, "idle", DocumentName("Sync.Other"))
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
