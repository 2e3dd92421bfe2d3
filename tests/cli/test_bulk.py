"""Decisions at the command line: exactly what was shown, in chunks, ended by Ctrl-C; and the audit of them."""

import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from relay.cli.common import who
from relay.core.admin import AuditEntry, Filter
from relay.core.model import AuditId, Delivered, DocumentName, Draft, MessageId, Parked, TenantId
from relay.core.ports import Store
from relay.outbox import SqliteOutbox
from relay.outbox.sqlite import bulk

if TYPE_CHECKING:
    from tests.cli.conftest import Person

ROOT = Path(__file__).resolve().parents[2]
ACME = TenantId("ACME")


def enqueue(person: "Person", count: int) -> None:
    """So many at one go."""
    drafts = [Draft(ACME, DocumentName("Sync.SalesOrder"), b"x", MessageId(f"m{i}")) for i in range(count)]

    async def work(store: Store) -> None:
        await store.add(drafts)

    person.hands_over("first")  # makes the outbox
    person.at_outbox(work)


def audit(person: "Person", *arguments: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = person.runs("audit", "--json", *arguments).json
    return found


def test_every_decision_is_in_the_audit_with_who_and_why(person: "Person") -> None:
    person.hands_over("m1", "m2")
    person.runs("messages", "park", "m1", "--reason", "wrong price")
    person.runs("messages", "retry", "--tenant", "acme", "--yes")
    person.runs("tenants", "pause", "ACME", "--reason", "holidays")
    person.runs("tenants", "ask", "ACME")
    person.runs("tenants", "resume", "ACME")
    entries = audit(person)
    assert [(entry["what"], entry["tenant_id"], entry["messages"], entry["reason"]) for entry in entries] == [
        ("resume", "ACME", 0, ""),
        ("ask", "ACME", 0, ""),
        ("pause", "ACME", 0, "holidays"),
        ("retry", "ACME", 1, ""),
        ("park", None, 1, "wrong price"),
    ]
    assert {entry["who"] for entry in entries} == {who()}
    assert re.fullmatch(r".+@.+", who())
    assert set(entries[0]) == {
        "id", "at", "who", "what", "tenant_id", "selection", "reason", "messages", "outcome", "ended_at",
    }  # fmt: skip
    assert entries[4]["selection"] == "m1"
    assert len(audit(person, "--limit", "2")) == 2
    assert [entry["what"] for entry in audit(person, "--tenant", "globex")] == ["park"]


def test_the_audit_is_a_table_for_people(person: "Person") -> None:
    person.hands_over("m1")
    assert person.runs("audit").err == "nobody did anything yet\n"
    person.runs("messages", "park", "m1", "--reason", "wrong price")
    head, line = person.runs("audit").out.splitlines()
    assert head.split() == ["at", "who", "what", "tenant", "messages", "outcome", "selection", "reason"]
    assert line.endswith("wrong price")
    assert who() in line


def test_a_user_without_a_name_is_told_by_number(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody() -> str:
        raise KeyError("getpwuid(): uid not found: 4711")

    monkeypatch.setattr("getpass.getuser", nobody)
    assert who().startswith(f"{os.getuid()}@")


def test_messages_are_picked_by_what_their_reason_contains(person: "Person") -> None:
    person.hands_over("m1", "m2")
    person.runs("messages", "park", "m1", "--reason", "HTTP 400: no such order")
    person.runs("messages", "park", "m2", "--reason", "HTTP 413")
    listed = person.runs("messages", "list", "--containing", "no such", "--json").json
    assert [message["message_id"] for message in listed] == ["m1"]
    assert person.runs("messages", "retry", "--containing", "413", "--yes").out == "1 message retried\n"
    assert [entry["selection"] for entry in audit(person, "--limit", "1")] == [
        "parked, reason contains '413'"
    ]


def test_the_preview_says_how_many_and_which(person: "Person") -> None:
    enqueue(person, 1_200)
    ran = person.runs("messages", "park", "--tenant", "ACME")
    assert ran.code == 2
    assert ran.err.splitlines()[:3] == [
        "1201 messages would be parked, among them:",
        "  1201 of ACME, Sync.SalesOrder, pending",
        "  first",
    ]
    assert ran.err.splitlines()[-2:] == ["  …", "relay: nobody is here to ask; add --yes to do it"]
    assert person.runs("messages", "park", "--tenant", "ACME", "--yes").out == "1201 messages parked\n"


def test_what_was_delivered_cannot_be_retried_and_it_is_said(person: "Person") -> None:
    person.hands_over("m1", "m2")

    async def work(store: Store) -> None:
        first, second = await store.find(Filter(), 2)
        await store.settle([(first.row, Delivered()), (second.row, Parked("x"))])

    person.at_outbox(work)
    ran = person.runs("messages", "retry", "m1", "m2")
    assert (ran.code, ran.out) == (1, "1 message retried\n")
    assert "1 could not be retried: see their state with relay messages show" in ran.err


def test_asking_again_needs_a_tenant_that_there_is(person: "Person") -> None:
    person.hands_over("m1")
    assert person.runs("tenants", "ask", "acme").out == "ACME: ION is asked again, if a relay carries it\n"
    ran = person.runs("tenants", "ask", "NOBODY")
    assert (ran.code, "there is no tenant NOBODY" in ran.err) == (2, True)
    assert len(audit(person)) == 1


# --- ended by Ctrl-C ------------------------------------------------------------------------------


class Terminal:
    """A command with its own terminal for what it says beside its result."""

    def __init__(self, person: "Person", *arguments: str) -> None:
        self._here, there = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "relay", *arguments],
            cwd=person.folder,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=there,
            text=True,
        )
        os.close(there)
        self.said = ""

    def until_it_says(self, text: str, within: float = 30.0) -> None:
        deadline = time.monotonic() + within
        while text not in self.said:
            ready, _, _ = select.select([self._here], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, f"waited in vain for {text!r}: {self.said!r}"
            self.said += os.read(self._here, 4096).decode()

    def end(self) -> tuple[int, str]:
        out, _ = self.process.communicate(timeout=30)
        os.close(self._here)
        return self.process.returncode, out


def test_ctrl_c_ends_a_long_decision_after_the_chunk_under_way_and_says_how_far_it_came(
    person: "Person",
) -> None:
    """The rest stays as it was; the audit has who ended it. How far it has come stands on the terminal."""
    enqueue(person, 30_000)
    command = Terminal(person, "messages", "park", "--tenant", "ACME", "--yes")
    command.until_it_says(" of 30,001 messages")
    command.process.send_signal(signal.SIGINT)
    command.until_it_says("cancelled before the rest; see relay audit")
    code, out = command.end()
    found = re.fullmatch(r"(\d+) messages parked\n", out)
    assert found is not None
    parked = int(found[1])
    assert code == 130
    assert 0 < parked < 30_001
    assert parked % 500 == 0
    listed = person.runs("status", "--json").json["tenants"]["ACME"]
    assert (listed["parked"], listed["pending"]) == (parked, 30_001 - parked)
    cancel, park = audit(person)
    assert (cancel["what"], cancel["selection"], cancel["who"]) == ("cancel", f"park {park['id']}", who())
    assert (park["outcome"], park["messages"]) == ("cancelled", parked)


def test_a_decision_that_somebody_else_ends_is_trouble(
    person: "Person", monkeypatch: pytest.MonkeyPatch
) -> None:
    enqueue(person, 20)
    monkeypatch.setattr(bulk, "CHUNK", 5)
    go_on = SqliteOutbox.advance

    async def go_on_and_be_cancelled(desk: SqliteOutbox, audit_id: AuditId) -> AuditEntry:
        entry = await go_on(desk, audit_id)
        await desk.cancel(audit_id, "bob@desk")
        return entry

    monkeypatch.setattr(SqliteOutbox, "advance", go_on_and_be_cancelled)
    ran = person.runs("messages", "park", "--tenant", "ACME", "--yes")
    assert (ran.code, ran.out) == (1, "5 messages parked\n")
    assert "cancelled before the rest; see relay audit" in ran.err
    assert [entry["who"] for entry in audit(person)] == ["bob@desk", who()]
