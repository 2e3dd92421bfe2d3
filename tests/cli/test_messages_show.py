"""`relay messages show`: the history, what the message waits for, since when, and the next attempt."""

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
from tests.support.keys import settle_rows

if TYPE_CHECKING:
    from relay.core.ports import Store
    from tests.cli.conftest import Operator

AN_HOUR_AGO = datetime(2026, 1, 2, 11, 0, tzinfo=UTC)


def settle(operator: "Operator", *settlements: Any) -> None:
    async def work(outbox: "Store") -> None:
        for settlement in settlements:
            await settle_rows(outbox, [(RowId(1), settlement)])

    operator.at_outbox(work)


def shown(operator: "Operator", message_id: str = "m1") -> Any:
    return operator.run("messages", "show", message_id, "--json").json


def report_state(operator: "Operator", state: StateName, *documents: DocumentName) -> None:
    async def work(outbox: "Store") -> None:
        await outbox.beat("host-1", {})
        await outbox.report([TenantState(TenantId("ACME"), state, "", AN_HOUR_AGO, documents=documents)])

    operator.at_outbox(work)


def test_show_prints_the_history_in_order_and_the_state(operator: "Operator") -> None:
    operator.enqueue("m1")
    settle(
        operator, Released("HTTP 503"), Released("HTTP 500", counted=True, wait=60), Parked("HTTP 400: bad")
    )
    operator.run("messages", "retry", "m1")
    settle(operator, Delivered())
    ran = operator.run("messages", "show", "m1")
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


def test_show_as_json_has_history_and_waits(operator: "Operator") -> None:
    operator.enqueue("m1")
    settle(operator, Released("HTTP 500", counted=True, wait=60))
    report_state(operator, "sending")
    found = shown(operator)
    assert [(one["what"], one["detail"]) for one in found["history"]] == [("counted", "HTTP 500")]
    (wait,) = found["waits_for"]
    assert (wait["rule"], wait["next_try"]) == ("back-off", found["not_before"])
    assert found["attempts"] == 1


def test_show_names_the_head_of_the_lane(operator: "Operator") -> None:
    operator.enqueue("m1", "m2")
    report_state(operator, "sending")
    assert [wait["rule"] for wait in shown(operator, "m2")["waits_for"]] == ["lane"]
    assert "message m1 is before it" in shown(operator, "m2")["waits_for"][0]["text"]
    assert [wait["rule"] for wait in shown(operator, "m1")["waits_for"]] == ["next"]
    operator.set({"RELAY_TENANTS__ACME__ORDERING": "none"})
    assert [wait["rule"] for wait in shown(operator, "m2")["waits_for"]] == ["next"]


def test_show_knows_one_lane_for_the_whole_tenant(operator: "Operator") -> None:
    operator.enqueue("m1")
    operator.run(
        "enqueue", "--tenant", "ACME", "--document", "D", "--key", "K", "--message-id", "m2", "-", given=b"x"
    )
    report_state(operator, "sending")
    assert [wait["rule"] for wait in shown(operator, "m2")["waits_for"]] == ["next"]
    operator.set({"RELAY_TENANTS__ACME__ORDERING": "tenant"})
    assert [wait["rule"] for wait in shown(operator, "m2")["waits_for"]] == ["lane"]
    assert [wait["rule"] for wait in shown(operator, "m1")["waits_for"]] == ["next"]


def test_show_knows_from_the_relays_state_that_a_document_is_not_accepted(operator: "Operator") -> None:
    operator.enqueue("m1")
    report_state(operator, "idle", DocumentName("Sync.Other"), DocumentName("Sync.SalesOrder"))
    assert [wait["rule"] for wait in shown(operator)["waits_for"]] == ["not-accepted"]
    report_state(operator, "idle", DocumentName("Sync.Other"))
    assert [wait["rule"] for wait in shown(operator)["waits_for"]] == ["next"]


def test_show_reports_a_pause_a_missing_relay_and_a_missing_tenant(operator: "Operator") -> None:
    operator.enqueue("m1")
    assert shown(operator)["waits_for"][0]["rule"] == "no-relay"
    operator.run("tenants", "pause", "ACME")
    assert shown(operator)["waits_for"][0]["rule"] == "paused"
    operator.unset("RELAY_TENANTS__ACME")
    assert shown(operator)["waits_for"][0]["rule"] == "unconfigured"


def test_show_prints_every_message_of_the_same_id(operator: "Operator") -> None:
    operator.enqueue("m1")
    operator.enqueue("m1", tenant="GLOBEX")
    assert operator.run("messages", "show", "m1").out.count("message m1\n") == 2
    assert [one["tenant_id"] for one in shown(operator)] == ["ACME", "GLOBEX"]
    assert (
        operator.run("messages", "show", "m1", "--tenant", "globex", "--json").json["tenant_id"] == "GLOBEX"
    )


def test_an_unknown_message_exits_with_1(operator: "Operator") -> None:
    operator.enqueue("m1")
    ran = operator.run("messages", "show", "m9")
    assert (ran.code, ran.out, ran.err) == (1, "", "relay: there is no message m9\n")
