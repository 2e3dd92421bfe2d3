"""`relay queue`, `relay next` and `relay tenants show`, with a relay and without one."""

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from relay.core.model import DocumentName, Released, RowId, StateName, TenantId, TenantState
from tests.support.keys import settle_rows

if TYPE_CHECKING:
    from relay.core.ports import Store
    from tests.cli.conftest import Operator

SINCE = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
SOON, LATER = (datetime.now(UTC) + timedelta(minutes=minutes) for minutes in (30, 60))


def report_state(
    operator: "Operator",
    state: StateName,
    reason: str = "",
    next_try: datetime | None = None,
    documents: tuple[DocumentName, ...] = (),
) -> None:
    """A relay process beats and reports what ACME does."""

    async def work(outbox: "Store") -> None:
        await outbox.beat("host-1", {"host": "host"})
        await outbox.report(
            [TenantState(TenantId("ACME"), state, reason, SINCE, next_try, documents=documents)]
        )

    operator.at_outbox(work)


def count_attempt(operator: "Operator", row: int = 1) -> None:
    """The message's attempt is counted, and it backs off."""

    async def work(outbox: "Store") -> None:
        await settle_rows(outbox, [(RowId(row), Released("HTTP 500: upset", counted=True, wait=60))])

    operator.at_outbox(work)


# --- queue ----------------------------------------------------------------------------------------


def test_an_empty_queue_has_no_lines(operator: "Operator") -> None:
    operator.run("outbox", "upgrade")
    ran = operator.run("queue")
    assert (ran.code, ran.out, ran.err) == (0, "", "no message is waiting\n")
    assert operator.run("queue", "--json").json["lines"] == []


def test_the_queue_is_grouped_by_tenant_or_by_document(operator: "Operator") -> None:
    operator.enqueue("m1", "m2")
    operator.enqueue("m3", document="Sync.Shipment")
    operator.enqueue("m4", tenant="GLOBEX")
    ran = operator.run("queue")
    assert ran.code == 0
    assert [line.split()[:3] for line in ran.out.splitlines()[2:]] == [
        ["all", "4", "4"],
        ["ACME", "3", "3"],
        ["GLOBEX", "1", "1"],
    ]
    found = operator.run("queue", "--by", "document", "--json").json
    assert [(line["document_name"], line["total"]) for line in found["lines"]] == [
        ("Sync.SalesOrder", 3),
        ("Sync.Shipment", 1),
    ]
    assert found["ages_seconds"] == [60, 300, 900, 3600, 14400, 86400]


def test_one_tenants_queue_is_grouped_by_document_by_default(operator: "Operator") -> None:
    operator.enqueue("m1")
    operator.enqueue("m2", tenant="GLOBEX")
    found = operator.run("queue", "--tenant", "globex", "--json").json
    assert (found["by"], found["total"]) == ("document", 1)
    assert operator.run("queue", "--tenant", "globex", "--by", "tenant", "--json").json["by"] == "tenant"


def test_a_count_that_reached_the_limit_has_a_plus(operator: "Operator") -> None:
    operator.enqueue("m1", "m2", "m3")
    ran = operator.run("queue", "--limit", "2")
    assert [line.split()[:2] for line in ran.out.splitlines()[2:]] == [["all", "2+"], ["ACME", "2+"]]
    assert operator.run("queue", "--limit", "2", "--json").json["more"] is True


# --- next ---------------------------------------------------------------------------------------


def tries(operator: "Operator") -> list[tuple[Any, ...]]:
    found = operator.run("next", "--json").json
    return [
        (one["tenant_id"], one["message_id"], one["rule"], one["at"] is not None) for one in found["tries"]
    ]


def test_an_empty_queue_has_no_next_try(operator: "Operator") -> None:
    operator.run("outbox", "upgrade")
    report_state(operator, "idle")
    ran = operator.run("next")
    assert (ran.code, ran.out, ran.err) == (0, "", "nothing is scheduled\n")


def test_a_due_message_is_not_listed(operator: "Operator") -> None:
    operator.enqueue("m1")
    report_state(operator, "sending")
    assert tries(operator) == []


def test_without_a_relay_nothing_is_scheduled(operator: "Operator") -> None:
    operator.enqueue("m1")
    ran = operator.run("next")
    assert ran.out.startswith("no relay is running; start one with: relay run\n")
    assert "not scheduled" in ran.out
    assert operator.run("next", "--json").json["running"] is False
    assert tries(operator) == [("ACME", None, "no-relay", False)]


def test_the_soonest_is_first_and_what_needs_an_operator_last(operator: "Operator") -> None:
    operator.enqueue("m1", "m2")
    operator.enqueue("m3", tenant="GLOBEX")
    operator.run("tenants", "pause", "GLOBEX", "--reason", "change night")
    count_attempt(operator)
    report_state(operator, "backing-off", "HTTP 503", SOON)
    assert tries(operator) == [
        ("ACME", "m1", "back-off", True),
        ("ACME", None, "backing-off", True),
        ("GLOBEX", None, "paused", False),
    ]
    ran = operator.run("next")
    assert [line.split("  ")[-1].strip() for line in ran.out.splitlines()[1:]] == [
        "HTTP 500: upset",
        "HTTP 503",
        "change night",
    ]


@pytest.mark.parametrize("state", ["halted", "paused"])
def test_no_message_of_a_halted_or_paused_tenant_is_scheduled(operator: "Operator", state: StateName) -> None:
    operator.enqueue("m1")
    count_attempt(operator)
    report_state(operator, state, "HTTP 403", SOON)
    assert [(rule, message) for _, message, rule, _ in tries(operator)] == [(state, None)]


def test_a_document_that_is_not_accepted_is_polled_again(operator: "Operator") -> None:
    operator.enqueue("m1")
    report_state(operator, "idle", "", SOON, (DocumentName("Sync.SalesOrder"),))
    (one,) = operator.run("next", "--json").json["tries"]
    assert (one["rule"], one["code"]) == ("not-accepted", "RELAY-108")
    assert one["at"] == SOON.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def test_a_tenant_that_is_pinging_is_tried_now(operator: "Operator") -> None:
    operator.enqueue("m1")
    report_state(operator, "pinging")
    assert tries(operator) == [("ACME", None, "opening", True)]
    assert operator.run("next").out.splitlines()[1].startswith("now")


# --- tenants show -------------------------------------------------------------------------------


def test_a_tenants_state_documents_and_blocked_lanes_are_shown(operator: "Operator") -> None:
    operator.enqueue("m1", "m2")
    operator.enqueue("m3", document="Sync.Shipment")
    count_attempt(operator)
    report_state(operator, "sending", "", SOON, (DocumentName("Sync.Shipment"),))
    found = operator.run("tenants", "show", "acme", "--json").json
    assert (found["state"], found["relay"], found["ordering"]) == ("sending", "host-1", "key")
    assert [(one["document_name"], one["accepted"], one["total"]) for one in found["documents"]] == [
        ("Sync.SalesOrder", True, 2),
        ("Sync.Shipment", False, 1),
    ]
    (lane,) = found["lanes"]
    assert (lane["message_id"], lane["reason"], lane["behind"]) == ("m1", "HTTP 500: upset", 1)
    assert [wait["rule"] for wait in found["waits_for"]] == ["not-accepted"]
    ran = operator.run("tenants", "show", "acme")
    assert ran.out.startswith("tenant ACME is sending for ")
    assert "owned by host-1: waiting to be accepted by ION: Sync.Shipment\n" in ran.out
    assert "  3 pending, 0 delivered, 0 parked, 0 dropped\n" in ran.out
    assert "Its messages wait for: Sync.Shipment is not accepted by ION" in ran.out
    assert "the lane without a key is blocked by m1, retried in " in ran.out


def test_whether_a_document_is_accepted_is_unknown_while_the_tenant_backs_off(operator: "Operator") -> None:
    operator.enqueue("m1")
    report_state(operator, "backing-off", "HTTP 503", LATER)
    found = operator.run("tenants", "show", "ACME", "--json").json
    assert [one["accepted"] for one in found["documents"]] == [None]
    assert [(wait["rule"], wait["next_try"]) for wait in found["waits_for"]] == [
        ("backing-off", found["next_try"])
    ]
    assert "unknown" in operator.run("tenants", "show", "ACME").out


def test_a_tenant_without_waiting_messages_waits_for_nothing(operator: "Operator") -> None:
    operator.run("outbox", "upgrade")
    found = operator.run("tenants", "show", "ACME", "--json").json
    assert (found["waits_for"], found["documents"], found["lanes"]) == ([], [], [])
    assert operator.run("tenants", "show", "ACME").out == (
        "tenant ACME is stopped: no relay is running\n  0 pending, 0 delivered, 0 parked, 0 dropped\n"
    )


def test_an_unknown_tenant_is_a_usage_error(operator: "Operator") -> None:
    operator.run("outbox", "upgrade")
    ran = operator.run("tenants", "show", "OTHER")
    assert (ran.code, ran.err) == (2, "relay: there is no tenant OTHER; known tenants: ACME, GLOBEX\n")
