"""`relay status` and `relay tenants`, with a relay and without one."""

import re
import socket
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from relay.core.model import DocumentName, StateName, TenantId, TenantState
from relay.core.ports import Store

if TYPE_CHECKING:
    from tests.cli.conftest import Operator

SINCE = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def report_state(
    operator: "Operator",
    state: StateName,
    reason: str = "",
    next_try: datetime | None = None,
    *,
    name: str = "host-1",
    host: str = "host",
    kind: str = "",
    documents: tuple[DocumentName, ...] = (),
) -> None:
    """A relay process beats and reports what ACME does."""

    async def work(outbox: Store) -> None:
        await outbox.beat(name, {"host": host, "pid": "1", "version": "0"})
        found = TenantState(TenantId("ACME"), state, reason, SINCE, next_try, kind=kind, documents=documents)
        await outbox.report([found])

    operator.at_outbox(work)


def test_without_a_relay_the_status_says_so(operator: "Operator") -> None:
    operator.enqueue("m1")
    ran = operator.run("status")
    assert ran.code == 0
    assert "no relay is running; start one with: relay run" in ran.out
    assert "stopped" in ran.out


def test_json_has_every_tenant_and_the_relays(operator: "Operator") -> None:
    operator.enqueue("m1", "m2")
    operator.run("messages", "park", "m2")
    later = datetime.now(UTC) + timedelta(minutes=5)
    report_state(operator, "backing-off", "HTTP 503", later, kind="busy")
    found = operator.run("status", "--json").json
    acme = found["tenants"]["ACME"]
    assert acme.pop("oldest_due_seconds") >= 0
    assert acme == {
        "state": "backing-off",
        "pending": 1,
        "delivered": 0,
        "parked": 1,
        "dropped": 0,
        "reason": "HTTP 503",
        "code": "RELAY-101",
        "since": "2026-01-02T03:04:05.000Z",
        "next_try": later.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "relay": "host-1",
        "configured": True,
    }
    assert found["tenants"]["GLOBEX"]["pending"] == 0
    assert found["tenants"]["GLOBEX"]["oldest_due_seconds"] is None
    (relay,) = found["relays"]
    assert (relay["relay"], relay["alive"], relay["pid"]) == ("host-1", True, "1")


def test_the_code_is_given_where_it_is_exact(operator: "Operator") -> None:
    def code() -> str | None:
        found: str | None = operator.run("status", "--json").json["tenants"]["ACME"]["code"]
        return found

    operator.enqueue("m1")
    assert code() == "RELAY-173"
    cases: list[tuple[StateName, str, tuple[DocumentName, ...], str | None]] = [
        ("idle", "", (), None),
        ("sending", "", (DocumentName("Sync.Other"),), "RELAY-108"),
        ("halted", "forbidden", (), "RELAY-112"),
        ("backing-off", "", (), None),
    ]
    for state, kind, documents, expected in cases:
        report_state(operator, state, "HTTP 503", kind=kind, documents=documents)
        assert code() == expected, state
    report_state(operator, "halted", "HTTP 403: no", kind="forbidden")
    assert "HTTP 403: no (RELAY-112)\n" in operator.run("status").out


def test_the_table_has_state_counts_reason_and_next_try(operator: "Operator") -> None:
    operator.enqueue("m1")
    report_state(
        operator, "halted", "forbidden:\n\x1b[31mred", datetime.now(UTC) + timedelta(minutes=15, seconds=30)
    )
    ran = operator.run("status")
    assert "relay host-1: running for" in ran.out
    (line,) = [line for line in ran.out.splitlines() if line.startswith("ACME")]
    assert line.split()[:5] == ["ACME", "halted", "1", "0", "0"]
    assert "in 15 min" in line
    assert line.endswith("forbidden:\\n\\u001b[31mred")


def test_a_tenant_with_messages_that_is_not_configured_is_listed(operator: "Operator") -> None:
    operator.enqueue("m1")
    operator.unset("RELAY_TENANTS__ACME")
    ran = operator.run("status")
    assert ran.code == 0
    assert "unconfigured" in ran.out
    assert "no tenant of this name is configured" in ran.out
    acme = operator.run("status", "--json").json["tenants"]["ACME"]
    assert (acme["state"], acme["configured"], acme["pending"]) == ("unconfigured", False, 1)


def test_a_tenant_with_messages_that_no_relay_owns_is_reported(operator: "Operator") -> None:
    operator.enqueue("m1")
    report_state(operator, "idle")
    globex = operator.run("status", "--json").json["tenants"]["GLOBEX"]
    assert globex["state"] == "idle"  # nothing waits: no relay needs to own it
    operator.enqueue("m2", tenant="GLOBEX")
    assert "no running relay owns it yet" in operator.run("status").out


def test_alive_is_for_health_checks(operator: "Operator") -> None:
    operator.enqueue("m1")
    assert operator.run("status", "--alive").code == 1
    report_state(operator, "idle")
    ran = operator.run("status", "--alive")
    assert (ran.code, ran.out) == (0, "running: host-1\n")


def test_here_is_for_relays_on_this_host(operator: "Operator") -> None:
    """Among replicas on one database, a probe must not succeed because of another replica."""
    operator.enqueue("m1")
    report_state(operator, "idle")
    ran = operator.run("status", "--here")
    assert (ran.code, ran.out) == (
        1,
        f"no relay is running on {socket.gethostname()}; start one with: relay run\n",
    )
    report_state(operator, "idle", name="this-1", host=socket.gethostname())
    ran = operator.run("status", "--alive", "--here")
    assert (ran.code, ran.out) == (0, "running: this-1\n")


def test_the_status_says_how_many_tenants_each_of_several_relays_owns(operator: "Operator") -> None:
    """And `messages show` names the relay of the message's tenant."""
    operator.enqueue("m1")
    report_state(operator, "backing-off", "HTTP 503", name="one")
    report_state(operator, "backing-off", "HTTP 503", name="two")
    ran = operator.run("status")
    assert re.search(r"relay one: running for .*, owns 0 tenants\n", ran.out)
    assert re.search(r"relay two: running for .*, owns 1 tenant\n", ran.out)
    assert operator.run("messages", "show", "m1", "--json").json["relay"] == "two"
    assert "owned by two" in operator.run("messages", "show", "m1").out


def test_without_tenants_and_messages_the_status_says_so(operator: "Operator") -> None:
    operator.run("outbox", "upgrade")
    operator.unset("RELAY_TENANTS__")
    assert "no tenant is configured, and the outbox holds no messages" in operator.run("status").out


# --- tenants ---------------------------------------------------------------------------------------------


def pauses(operator: "Operator") -> dict[str, str | None]:
    async def work(outbox: Store) -> dict[str, str | None]:
        return {tenant: control.paused for tenant, control in (await outbox.notification()).controls.items()}

    return operator.at_outbox(work)


def test_a_pause_is_kept_until_the_tenant_is_resumed(operator: "Operator") -> None:
    operator.enqueue("m1")
    ran = operator.run("tenants", "pause", "acme", "--reason", "change night")
    assert ran.code == 0
    assert "ACME is paused: change night" in ran.out
    assert pauses(operator) == {"ACME": "change night"}
    assert operator.run("status", "--json").json["tenants"]["ACME"]["state"] == "paused"
    assert operator.run("tenants", "resume", "ACME").code == 0
    assert pauses(operator) == {"ACME": None}


def test_a_pause_has_a_default_reason_and_an_empty_one_is_refused(operator: "Operator") -> None:
    operator.enqueue("m1")
    operator.run("tenants", "pause", "ACME")
    assert pauses(operator) == {"ACME": "paused by hand"}
    assert operator.run("tenants", "pause", "ACME", "--reason", " ").code == 2


@pytest.mark.parametrize("command", ["pause", "resume"])
def test_an_unknown_tenant_is_refused_with_the_known_ones(operator: "Operator", command: str) -> None:
    operator.enqueue("m1")
    ran = operator.run("tenants", command, "OTHER")
    assert ran.code == 2
    assert "there is no tenant OTHER; known tenants: ACME, GLOBEX" in ran.err
    assert pauses(operator) == {}


def test_a_tenant_that_only_has_messages_can_be_paused_too(operator: "Operator") -> None:
    operator.enqueue("m1")
    operator.unset("RELAY_TENANTS__ACME")
    assert operator.run("tenants", "pause", "ACME").code == 0


def test_tenants_are_listed_with_their_state(operator: "Operator") -> None:
    operator.enqueue("m1")
    operator.run("tenants", "pause", "GLOBEX", "--reason", "why")
    assert operator.run("tenants", "list", "--json").json == [
        {"tenant_id": "ACME", "configured": True, "state": "stopped", "reason": "no relay is running"}
        | {"logical_id": "lid://acme.orders.1"},
        {"tenant_id": "GLOBEX", "configured": True, "state": "paused", "reason": "why"}
        | {"logical_id": "lid://globex.orders.1"},
    ]
    assert "lid://globex.orders.1" in operator.run("tenants", "list").out
