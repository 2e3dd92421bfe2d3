"""The write-ahead log: one that belongs to another file is found, and one that cannot shrink is explained."""

import asyncio
import contextlib
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from relay.core.ports import StoreError
from relay.outbox import back_up, upgrade
from relay.outbox.sqlite import write_ahead_log
from relay.outbox.sqlite.incidents import MAX_LOG_BYTES
from tests.outbox.conftest import Opener
from tests.outbox.test_backup import (
    INSERT,
    Writer,
    ask,
    digest,
    filled,
    is_whole,
    no_progress,
    pending,
    put_back,
    url,
)

OF_400 = INSERT.replace("?", "zeroblob(9000)")
"""A message of three pages: 400 of them are more than SQLite keeps in its log before it begins it anew."""


def killed_after_400_inserts(path: Path, backup: Path) -> None:
    """A backup, 400 inserts, and `kill -9`: the log remains."""
    filled(path, 200, 3000)
    back_up(url(path), backup, force=False, progress=no_progress)
    writer = Writer(path)
    for _ in range(400):
        writer.run(OF_400)
    writer.kill()
    assert write_ahead_log.log_bytes(path) > 0


def by_copying(backup: Path, path: Path) -> None:
    shutil.copy(backup, path)


def by_copying_with_its_times(backup: Path, path: Path) -> None:
    shutil.copy2(backup, path)


def by_renaming(backup: Path, path: Path) -> None:
    shutil.copy2(backup, backup.with_name("again.db"))
    backup.with_name("again.db").replace(path)


@pytest.mark.parametrize("how", [by_copying, by_copying_with_its_times, by_renaming])
@pytest.mark.parametrize("opener", ["relay", "command", "upgrade"])
async def test_a_backup_over_the_file_while_its_log_remains_is_refused_unchanged(
    opened: Opener, tmp_path: Path, how: Callable[[Path, Path], None], opener: str
) -> None:
    """Opened as it is, it would be damaged for good."""
    path, backup = tmp_path / "relay.db", tmp_path / "backup.db"
    killed_after_400_inserts(path, backup)
    how(backup, path)
    log = digest(tmp_path / "relay.db-wal")
    openers: dict[str, Callable[[], Awaitable[object]]] = {
        "relay": lambda: opened(path, exclusive=True),
        "command": lambda: opened(path),
        "upgrade": lambda: asyncio.to_thread(upgrade, url(path)),
    }
    for _ in range(2):
        with pytest.raises(
            StoreError, match=r"do not belong together .*relay outbox restore BACKUP"
        ) as caught:
            await openers[opener]()
        assert caught.value.lasting
    assert (digest(path), digest(tmp_path / "relay.db-wal")) == (digest(backup), log)


def test_the_command_puts_it_right(tmp_path: Path) -> None:
    path, backup = tmp_path / "relay.db", tmp_path / "backup.db"
    killed_after_400_inserts(path, backup)
    shutil.copy(backup, path)
    done = put_back(path, backup)
    assert done.compared is None
    assert (pending(path), is_whole(path)) == (200, True)
    assert done.replaced is not None
    assert digest(done.replaced) == digest(backup)
    assert done.replaced.with_name(done.replaced.name + "-wal").exists(), (
        "kept with the log of its predecessor"
    )


def test_without_the_command_the_file_would_be_damaged(tmp_path: Path) -> None:
    """That is why; should SQLite find it out itself one day, the check may go."""
    path, backup = tmp_path / "relay.db", tmp_path / "backup.db"
    killed_after_400_inserts(path, backup)
    shutil.copy(backup, path)
    with contextlib.suppress(sqlite3.DatabaseError):
        ask(path, "SELECT count(*) FROM relay_outbox")
    try:
        whole = is_whole(path)
    except sqlite3.DatabaseError:
        whole = False
    assert not whole


async def test_a_killed_relay_is_opened_without_an_examination(
    opened: Opener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its log is newer than the file."""
    path = tmp_path / "relay.db"
    killed_after_400_inserts(path, tmp_path / "backup.db")
    monkeypatch.setattr(write_ahead_log, "_problem", None)
    await opened(path, exclusive=True)
    assert pending(path) == 600


async def test_a_file_that_changed_last_but_fits_its_log_is_opened(opened: Opener, tmp_path: Path) -> None:
    """As after a write-back, or a change of its rights."""
    path = tmp_path / "relay.db"
    killed_after_400_inserts(path, tmp_path / "backup.db")
    path.chmod(0o660)
    await opened(path, exclusive=True)
    assert pending(path) == 600


async def test_a_file_that_is_in_use_is_not_examined(
    opened: Opener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A command beside a busy relay costs what it did."""
    path = filled(tmp_path / "relay.db", 10)
    writer = Writer(path)
    writer.run(OF_400)
    path.chmod(0o660)
    monkeypatch.setattr(write_ahead_log, "_problem", None)
    await opened(path)
    writer.kill()


# --- a long reader --------------------------------------------------------------------------------

_READ = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN")
connection.execute("SELECT count(*) FROM relay_outbox").fetchall()
print("reads", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def reader(tmp_path: Path) -> Iterator["subprocess.Popen[str]"]:
    """A process within a read transaction on `relay.db`."""
    path = filled(tmp_path / "relay.db", 1)
    with subprocess.Popen(
        [sys.executable, "-c", _READ, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "reads\n"
        yield process
        process.kill()


async def test_who_keeps_the_log_from_shrinking_is_named(
    opened: Opener, tmp_path: Path, reader: "subprocess.Popen[str]"
) -> None:
    path = tmp_path / "relay.db"
    outbox = await opened(path, exclusive=True)
    assert await outbox.incidents() == [], "it is of no interest while the log is small"
    await outbox.beat("relay", {})  # what the reader keeps from being written back
    os.truncate(tmp_path / "relay.db-wal", MAX_LOG_BYTES + 1)  # sparse; SQLite reads only what it committed
    (found,) = await outbox.incidents()
    assert (found.kind, await outbox.log_bytes()) == ("log-grown", MAX_LOG_BYTES + 1)
    assert f"has 128 MiB and cannot shrink: it is read by process {reader.pid} (python" in found.detail


async def test_a_log_shrinks_as_soon_as_nobody_needs_it(
    opened: Opener, tmp_path: Path, reader: "subprocess.Popen[str]"
) -> None:
    path = tmp_path / "relay.db"
    outbox = await opened(path, exclusive=True)
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(INSERT, (bytes(1_000_000),))
    os.truncate(tmp_path / "relay.db-wal", MAX_LOG_BYTES + 1)
    assert [found.kind for found in await outbox.incidents()] == ["log-grown"]
    reader.kill()
    reader.wait()
    assert await outbox.incidents() == []
    assert await outbox.log_bytes() == 0
    assert pending(path) == 2
