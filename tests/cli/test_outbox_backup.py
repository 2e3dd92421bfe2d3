"""`relay outbox backup` and `relay outbox restore`: what they print and refuse."""

import os
import shutil
import sqlite3
from contextlib import closing
from subprocess import DEVNULL, PIPE
from typing import TYPE_CHECKING

import pytest

from relay.core.model import Delivered, RowId
from relay.core.ports import Store
from tests.outbox.test_write_ahead_log import killed_after_400_inserts
from tests.support.keys import settle_rows

if TYPE_CHECKING:
    from tests.cli.conftest import Operator


def deliver(operator: "Operator", *rows: int) -> None:
    async def work(outbox: Store) -> None:
        await settle_rows(outbox, [(RowId(row), Delivered()) for row in rows])

    operator.at_outbox(work)


def test_the_results_say_what_is_there_and_what_goes_again(operator: "Operator") -> None:
    operator.enqueue("m1", "m2", "m3")
    made = operator.run("outbox", "backup", "backup.db")
    assert (made.code, made.err) == (0, "")
    assert made.out.startswith("the outbox ")
    assert made.out.endswith(" was backed up to backup.db: 3 pending, 0 delivered, 0 parked, 0 dropped\n")
    deliver(operator, 1, 2)
    operator.enqueue("m4")
    done = operator.run("outbox", "restore", "backup.db")
    assert (done.code, done.err) == (0, "")
    missing = "messages that were enqueued since are only in the replaced outbox"
    first, *rest, last = done.out.splitlines()
    assert first.endswith(" was restored from backup.db: 3 pending, 0 delivered, 0 parked, 0 dropped")
    assert rest == [
        "2 messages that were delivered since the backup may be sent again, under the same message ids",
        f"1 {missing}; 1 of them were not delivered: enqueue these again",
    ]
    kept = last.removeprefix("the replaced outbox is kept: ")
    with closing(sqlite3.connect(kept)) as connection:
        assert connection.execute("SELECT count(*) FROM relay_outbox").fetchone() == (4,)
    assert [message["message_id"] for message in operator.list_messages()] == ["m1", "m2", "m3"]
    (entry,) = operator.run("audit", "--json").json
    assert (entry["what"], entry["selection"]) == ("restore", "backup backup.db")


def test_an_unknown_number_is_said_to_be_unknown(operator: "Operator") -> None:
    operator.enqueue("m1")
    operator.run("outbox", "backup", "backup.db")
    (operator.folder / "relay.db").unlink()
    ran = operator.run("outbox", "restore", "backup.db")
    assert ran.code == 0
    assert "how many messages were delivered since the backup is unknown" in ran.out
    assert "is kept" not in ran.out
    found = operator.run("outbox", "restore", "--json", "backup.db").json
    assert (found["sent_again"], found["missing"]) == (0, 0)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (
            ("backup", "backup.db"),
            "backup.db exists; give the backup another name, or replace it with --force",
        ),
        (("backup", "--force", "relay.db"), "is the outbox itself"),
        (("restore", "relay.db"), "is the outbox itself"),
        (("restore", "nothing.db"), "there is no backup at nothing.db"),
        (("restore", "text.db"), "text.db is not a SQLite database; nothing was changed"),
    ],
)
def test_what_cannot_be_done_is_one_line(operator: "Operator", arguments: tuple[str, ...], text: str) -> None:
    operator.enqueue("m1")
    operator.run("outbox", "backup", "backup.db")
    (operator.folder / "text.db").write_text("name,town\n" * 1000)
    ran = operator.run("outbox", *arguments)
    assert (ran.code, ran.out) == (1, "")
    assert text in ran.err
    assert ran.err.count("\n") == 1


@pytest.mark.parametrize(
    ("command", "text"),
    [
        ("backup", "is backed up with it: pg_dump"),
        ("restore", "pg_restore, or a recovery to a point in time"),
    ],
)
def test_a_database_is_backed_up_with_its_own_tools(operator: "Operator", command: str, text: str) -> None:
    """No connection is made."""
    operator.set({"RELAY_OUTBOX__URL": "postgresql://relay:SECRET@nowhere.invalid/shop"})
    ran = operator.run("outbox", command, "backup.db")
    assert (ran.code, ran.out) == (2, "")
    assert text in ran.err
    assert "SECRET" not in ran.err


def test_a_terminal_shows_the_progress(operator: "Operator") -> None:
    operator.enqueue("m1")
    keyboard, screen = os.openpty()
    try:
        ran = operator.start(
            "outbox", "backup", "backup.db", capture_output=False, stdout=PIPE, stdin=DEVNULL, stderr=screen
        )
        seen = os.read(keyboard, 10_000).decode()
    finally:
        os.close(keyboard)
        os.close(screen)
    assert ran.returncode == 0
    pages = (operator.folder / "backup.db").stat().st_size // 4096
    assert [line.strip() for line in seen.split("\r")[-2:]] == [f"{pages} of {pages} pages", "\x1b[K"]


def test_a_backup_over_another_ones_log_is_named_by_every_command(operator: "Operator") -> None:
    path, backup = operator.folder / "relay.db", operator.folder / "backup.db"
    killed_after_400_inserts(path, backup)
    shutil.copy(backup, path)
    for command in (("status",), ("messages", "list"), ("check",), ("outbox", "upgrade"), ("queue",)):
        ran = operator.run(*command)
        assert ran.code in (1, 2), command
        assert "do not belong together" in ran.out + ran.err, command
        assert "relay outbox restore BACKUP" in ran.out + ran.err
    assert path.read_bytes() == backup.read_bytes()


def test_two_relays_on_one_file_are_a_warning_of_the_status(operator: "Operator") -> None:
    operator.enqueue("m1")

    async def first(outbox: Store) -> None:
        await outbox.beat("first", {"host": "host-a", "pid": "7"})

    async def second(outbox: Store) -> None:
        await outbox.beat("second", {"host": "host-b", "pid": "8"})

    operator.at_outbox(first)
    assert operator.run("status", "--json").json["warnings"] == []
    operator.at_outbox(second)
    (warning,) = operator.run("status", "--json").json["warnings"]
    assert warning["code"] == "RELAY-146"
    assert "first (process 7 on host-a), second (process 8 on host-b)" in warning["text"]
    assert "warning: more than one relay runs on the same file" in operator.run("status").out
