"""Bulk actions: exactly the messages previewed, in chunks, cancelled by Ctrl-C; and their audit."""

import os
import pty
import pwd
import re
import select
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from relay.cli.common import current_user
from relay.core.admin import AuditEntry, Filter
from relay.core.model import AuditId, Delivered, DocumentName, Draft, MessageId, Parked, TenantId
from relay.core.ports import Store
from relay.outbox import SqliteOutbox
from relay.outbox.sqlite import bulk
from tests.support.keys import key_of

if TYPE_CHECKING:
    from tests.cli.conftest import Operator

ACME = TenantId("ACME")


def enqueue(operator: "Operator", count: int) -> None:
    """This many messages in one transaction."""
    drafts = [Draft(ACME, DocumentName("Sync.SalesOrder"), b"x", MessageId(f"m{i}")) for i in range(count)]

    async def work(store: Store) -> None:
        await store.add(drafts)

    operator.enqueue("first")  # makes the outbox
    operator.at_outbox(work)


def audit(operator: "Operator", *arguments: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = operator.run("audit", "--json", *arguments).json
    return found


def test_every_action_is_in_the_audit_with_its_operator_and_reason(operator: "Operator") -> None:
    operator.enqueue("m1", "m2")
    operator.run("messages", "park", "m1", "--reason", "wrong price")
    operator.run("messages", "retry", "--tenant", "acme", "--yes")
    operator.run("tenants", "pause", "ACME", "--reason", "holidays")
    operator.run("tenants", "ask", "ACME")
    operator.run("tenants", "resume", "ACME")
    entries = audit(operator)
    assert [(entry["what"], entry["tenant_id"], entry["messages"], entry["reason"]) for entry in entries] == [
        ("resume", "ACME", 0, ""),
        ("ask", "ACME", 0, ""),
        ("pause", "ACME", 0, "holidays"),
        ("retry", "ACME", 1, ""),
        ("park", None, 1, "wrong price"),
    ]
    assert {entry["who"] for entry in entries} == {current_user()}
    assert re.fullmatch(r".+@.+", current_user())
    assert set(entries[0]) == {
        "id", "at", "who", "what", "tenant_id", "selection", "reason", "messages", "outcome", "ended_at",
    }  # fmt: skip
    assert entries[4]["selection"] == "m1"
    assert len(audit(operator, "--limit", "2")) == 2
    assert [entry["what"] for entry in audit(operator, "--tenant", "globex")] == ["park"]


def test_the_audit_is_a_table_without_json(operator: "Operator") -> None:
    operator.enqueue("m1")
    assert operator.run("audit").err == "the audit is empty\n"
    operator.run("messages", "park", "m1", "--reason", "wrong price")
    head, line = operator.run("audit").out.splitlines()
    assert head.split() == ["at", "who", "what", "tenant", "messages", "outcome", "selection", "reason"]
    assert line.endswith("wrong price")
    assert current_user() in line


def test_a_user_without_a_name_is_recorded_by_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 4_294_967_000)
    assert current_user().startswith("4294967000@")


@pytest.mark.parametrize("name", ["LOGNAME", "USER", "LNAME", "USERNAME", "SUDO_USER"])
def test_a_users_name_is_the_systems_and_not_the_environments(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "somebody-else")
    assert current_user().startswith(f"{pwd.getpwuid(os.geteuid()).pw_name}@")


def test_of_root_it_is_recorded_who_became_it_by_sudo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUDO_UID", str(pwd.getpwnam("nobody").pw_uid))
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert current_user().startswith("root (sudo by nobody)@")
    monkeypatch.setenv("SUDO_UID", "x" * 99)
    assert current_user().startswith("root@")
    monkeypatch.setattr("os.geteuid", lambda: 4_294_967_000)
    monkeypatch.setenv("SUDO_UID", "0")
    assert current_user().startswith("4294967000@"), "anybody may set the variable"


def test_messages_are_selected_by_what_their_reason_contains(operator: "Operator") -> None:
    operator.enqueue("m1", "m2")
    operator.run("messages", "park", "m1", "--reason", "HTTP 400: no such order")
    operator.run("messages", "park", "m2", "--reason", "HTTP 413")
    listed = operator.run("messages", "list", "--containing", "no such", "--json").json
    assert [message["message_id"] for message in listed] == ["m1"]
    assert operator.run("messages", "retry", "--containing", "413", "--yes").out == "1 message retried\n"
    assert [entry["selection"] for entry in audit(operator, "--limit", "1")] == [
        "parked, reason contains '413'"
    ]


def test_the_preview_says_how_many_and_which(operator: "Operator") -> None:
    enqueue(operator, 1_200)
    ran = operator.run("messages", "park", "--tenant", "ACME")
    assert ran.code == 2
    assert ran.err.splitlines()[:3] == [
        "1201 messages would be parked, among them:",
        "  1201 of ACME, Sync.SalesOrder, pending",
        "  first",
    ]
    assert ran.err.splitlines()[-2:] == [
        "  …",
        "relay: cannot ask for confirmation without a terminal; add --yes",
    ]
    assert operator.run("messages", "park", "--tenant", "ACME", "--yes").out == "1201 messages parked\n"


def test_a_delivered_message_cannot_be_retried_and_is_counted(operator: "Operator") -> None:
    operator.enqueue("m1", "m2")

    async def work(store: Store) -> None:
        first, second = await store.find(Filter(), 2)
        await store.settle([(key_of(first), Delivered()), (key_of(second), Parked("x"))])

    operator.at_outbox(work)
    ran = operator.run("messages", "retry", "m1", "m2")
    assert (ran.code, ran.out) == (1, "1 message retried\n")
    assert "1 could not be retried: see their state with relay messages show" in ran.err


def test_retrying_ion_needs_a_known_tenant(operator: "Operator") -> None:
    operator.enqueue("m1")
    assert (
        operator.run("tenants", "ask", "acme").out == "ACME: ION is retried now, if a relay owns the tenant\n"
    )
    ran = operator.run("tenants", "ask", "NOBODY")
    assert (ran.code, "there is no tenant NOBODY" in ran.err) == (2, True)
    assert len(audit(operator)) == 1


# --- ended by Ctrl-C ------------------------------------------------------------------------------


class Terminal:
    """A command with a terminal of its own as stderr."""

    def __init__(self, operator: "Operator", *arguments: str) -> None:
        self._here, there = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "relay", *arguments],
            cwd=operator.folder,
            env=operator.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=there,
            text=True,
        )
        os.close(there)
        self.text = ""

    def wait_for(self, text: str, within: float = 30.0) -> None:
        deadline = time.monotonic() + within
        while text not in self.text:
            ready, _, _ = select.select([self._here], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, f"waited in vain for {text!r}: {self.text!r}"
            self.text += os.read(self._here, 4096).decode()

    def end(self) -> tuple[int, str]:
        out, _ = self.process.communicate(timeout=30)
        os.close(self._here)
        return self.process.returncode, out


def test_ctrl_c_cancels_a_bulk_action_after_the_current_chunk_and_reports_what_was_changed(
    operator: "Operator",
) -> None:
    """The rest is unchanged; the audit records who cancelled it. The terminal shows the progress."""
    enqueue(operator, 30_000)
    command = Terminal(operator, "messages", "park", "--tenant", "ACME", "--yes")
    command.wait_for(" of 30,001 messages")
    command.process.send_signal(signal.SIGINT)
    command.wait_for("cancelled before all messages were changed; see relay audit")
    code, out = command.end()
    found = re.fullmatch(r"(\d+) messages parked\n", out)
    assert found is not None
    parked = int(found[1])
    assert code == 130
    assert 0 < parked < 30_001
    assert parked % 500 == 0
    listed = operator.run("status", "--json").json["tenants"]["ACME"]
    assert (listed["parked"], listed["pending"]) == (parked, 30_001 - parked)
    cancel, park = audit(operator)
    assert (cancel["what"], cancel["selection"], cancel["who"]) == (
        "cancel",
        f"park {park['id']}",
        current_user(),
    )
    assert (park["outcome"], park["messages"]) == ("cancelled", parked)


def test_a_bulk_action_cancelled_by_another_operator_exits_with_1(
    operator: "Operator", monkeypatch: pytest.MonkeyPatch
) -> None:
    enqueue(operator, 20)
    monkeypatch.setattr(bulk, "CHUNK", 5)
    advance = SqliteOutbox.advance

    async def advance_and_be_cancelled(store: SqliteOutbox, audit_id: AuditId) -> AuditEntry:
        entry = await advance(store, audit_id)
        await store.cancel(audit_id, "bob@desk")
        return entry

    monkeypatch.setattr(SqliteOutbox, "advance", advance_and_be_cancelled)
    ran = operator.run("messages", "park", "--tenant", "ACME", "--yes")
    assert (ran.code, ran.out) == (1, "5 messages parked\n")
    assert "cancelled before all messages were changed; see relay audit" in ran.err
    assert [entry["who"] for entry in audit(operator)] == ["bob@desk", current_user()]
