"""Status and tenants: the truth from the outbox, with a relay and without one."""

import re
import socket
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from relay.core.model import DocumentName, StateName, TenantId, TenantState
from relay.core.ports import Store

if TYPE_CHECKING:
    from tests.cli.conftest import Person

SINCE = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def relay_says(
    person: "Person",
    state: StateName,
    reason: str = "",
    next_try: datetime | None = None,
    *,
    kind: str = "",
    documents: tuple[DocumentName, ...] = (),
    name: str = "host-1",
    host: str = "host",
) -> None:
    """A relay process beats and reports what ACME does."""

    async def work(outbox: Store) -> None:
        await outbox.beat(name, {"host": host, "pid": "1", "version": "0"})
        found = TenantState(TenantId("ACME"), state, reason, SINCE, next_try, kind=kind, documents=documents)
        await outbox.report([found])

    person.at_outbox(work)


def test_without_a_relay_that_is_said_plainly(person: "Person") -> None:
    person.hands_over("m1")
    ran = person.runs("status")
    assert ran.code == 0
    assert "no relay is running; start one with: relay run" in ran.out
    assert "stopped" in ran.out


def test_json_has_a_tenant_each_and_the_relays(person: "Person") -> None:
    person.hands_over("m1", "m2")
    person.runs("messages", "park", "m2")
    later = datetime.now(UTC) + timedelta(minutes=5)
    relay_says(person, "backing-off", "HTTP 503", later, kind="busy")
    found = person.runs("status", "--json").json
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


def test_the_code_is_told_where_it_is_exact(person: "Person") -> None:
    def code() -> str | None:
        found: str | None = person.runs("status", "--json").json["tenants"]["ACME"]["code"]
        return found

    person.hands_over("m1")
    assert code() == "RELAY-173"
    cases: list[tuple[StateName, str, tuple[DocumentName, ...], str | None]] = [
        ("idle", "", (), None),
        ("sending", "", (DocumentName("Sync.Other"),), "RELAY-108"),
        ("halted", "forbidden", (), "RELAY-112"),
        ("backing-off", "", (), None),
    ]
    for state, kind, documents, expected in cases:
        relay_says(person, state, "HTTP 503", kind=kind, documents=documents)
        assert code() == expected, state
    relay_says(person, "halted", "HTTP 403: no", kind="forbidden")
    assert "HTTP 403: no (RELAY-112)\n" in person.runs("status").out


def test_a_table_tells_state_counts_reason_and_next_try(person: "Person") -> None:
    person.hands_over("m1")
    relay_says(
        person, "halted", "forbidden:\n\x1b[31mred", datetime.now(UTC) + timedelta(minutes=15, seconds=30)
    )
    ran = person.runs("status")
    assert "relay host-1: running for" in ran.out
    (line,) = [line for line in ran.out.splitlines() if line.startswith("ACME")]
    assert line.split()[:5] == ["ACME", "halted", "1", "0", "0"]
    assert "in 15 min" in line
    assert line.endswith("forbidden:\\n\\u001b[31mred")


def test_messages_of_a_tenant_that_is_not_configured_are_shown_as_such(person: "Person") -> None:
    person.hands_over("m1")
    person.unsets("RELAY_TENANTS__ACME")
    ran = person.runs("status")
    assert ran.code == 0
    assert "unconfigured" in ran.out
    assert "no tenant of this name is configured" in ran.out
    acme = person.runs("status", "--json").json["tenants"]["ACME"]
    assert (acme["state"], acme["configured"], acme["pending"]) == ("unconfigured", False, 1)


def test_a_relay_that_does_not_carry_a_tenant_is_told(person: "Person") -> None:
    person.hands_over("m1")
    relay_says(person, "idle")
    globex = person.runs("status", "--json").json["tenants"]["GLOBEX"]
    assert globex["state"] == "idle"  # nothing of it waits: nobody need carry it
    person.hands_over("m2", tenant="GLOBEX")
    assert "no running relay owns it yet" in person.runs("status").out


def test_alive_is_for_health_checks(person: "Person") -> None:
    person.hands_over("m1")
    assert person.runs("status", "--alive").code == 1
    relay_says(person, "idle")
    ran = person.runs("status", "--alive")
    assert (ran.code, ran.out) == (0, "running: host-1\n")


def test_here_asks_for_a_relay_of_this_host(person: "Person") -> None:
    """Among replicas on one database, each one's own probe must not be content with the others."""
    person.hands_over("m1")
    relay_says(person, "idle")
    ran = person.runs("status", "--here")
    assert (ran.code, ran.out) == (
        1,
        f"no relay is running on {socket.gethostname()}; start one with: relay run\n",
    )
    relay_says(person, "idle", name="this-1", host=socket.gethostname())
    ran = person.runs("status", "--alive", "--here")
    assert (ran.code, ran.out) == (0, "running: this-1\n")


def test_of_several_relays_it_is_told_which_carries_what(person: "Person") -> None:
    """And a message's story names its tenant's."""
    person.hands_over("m1")
    relay_says(person, "backing-off", "HTTP 503", name="one")
    relay_says(person, "backing-off", "HTTP 503", name="two")
    ran = person.runs("status")
    assert re.search(r"relay one: running for .*, carries 0 of the tenants\n", ran.out)
    assert re.search(r"relay two: running for .*, carries 1 of the tenants\n", ran.out)
    assert person.runs("messages", "show", "m1", "--json").json["relay"] == "two"
    assert "carried by two" in person.runs("messages", "show", "m1").out


def test_with_nothing_at_all_that_is_said(person: "Person") -> None:
    person.runs("outbox", "upgrade")
    person.unsets("RELAY_TENANTS__")
    assert "no tenant is configured, and the outbox holds no messages" in person.runs("status").out


# --- tenants ---------------------------------------------------------------------------------------------


def paused(person: "Person") -> dict[str, str | None]:
    async def work(outbox: Store) -> dict[str, str | None]:
        return {tenant: control.paused for tenant, control in (await outbox.notification()).controls.items()}

    return person.at_outbox(work)


def test_a_pause_is_kept_in_the_outbox_until_it_is_resumed(person: "Person") -> None:
    person.hands_over("m1")
    ran = person.runs("tenants", "pause", "acme", "--reason", "change night")
    assert ran.code == 0
    assert "ACME is paused: change night" in ran.out
    assert paused(person) == {"ACME": "change night"}
    assert person.runs("status", "--json").json["tenants"]["ACME"]["state"] == "paused"
    assert person.runs("tenants", "resume", "ACME").code == 0
    assert paused(person) == {"ACME": None}


def test_a_pause_without_a_reason_gets_one_and_an_empty_one_is_refused(person: "Person") -> None:
    person.hands_over("m1")
    person.runs("tenants", "pause", "ACME")
    assert paused(person) == {"ACME": "paused by hand"}
    assert person.runs("tenants", "pause", "ACME", "--reason", " ").code == 2


@pytest.mark.parametrize("command", ["pause", "resume"])
def test_a_tenant_nobody_knows_is_refused_with_those_there_are(person: "Person", command: str) -> None:
    person.hands_over("m1")
    ran = person.runs("tenants", command, "OTHER")
    assert ran.code == 2
    assert "there is no tenant OTHER; there are: ACME, GLOBEX" in ran.err
    assert paused(person) == {}


def test_a_tenant_that_only_has_messages_can_be_paused_too(person: "Person") -> None:
    person.hands_over("m1")
    person.unsets("RELAY_TENANTS__ACME")
    assert person.runs("tenants", "pause", "ACME").code == 0


def test_tenants_are_listed_with_their_state(person: "Person") -> None:
    person.hands_over("m1")
    person.runs("tenants", "pause", "GLOBEX", "--reason", "why")
    assert person.runs("tenants", "list", "--json").json == [
        {"tenant_id": "ACME", "configured": True, "state": "stopped", "reason": "no relay is running"}
        | {"logical_id": "lid://acme.orders.1"},
        {"tenant_id": "GLOBEX", "configured": True, "state": "paused", "reason": "why"}
        | {"logical_id": "lid://globex.orders.1"},
    ]
    assert "lid://globex.orders.1" in person.runs("tenants", "list").out
