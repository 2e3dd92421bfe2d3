"""The write-ahead log of a file: its size, who keeps it from shrinking, and whether it is this file's.

SQLite writes the log back into the file as it goes, but never past what a reader still needs: one transaction
that stays open lets the log grow with every commit.
"""

import contextlib
import os
import sqlite3
from pathlib import Path

from relay.core.ports import StoreError
from relay.outbox.sqlite import errors
from relay.outbox.sqlite.database import prepare
from relay.outbox.sqlite.file_lock import SQLITE_LOCKS, file_id, sibling

_SHRINK_MILLISECONDS = 200
"""Readers are waited for so long, and writers meanwhile wait too."""

_READ_LOCKS = range(123, 128)
"""The bytes of the -shm file that readers lock (SQLite's WAL-index format)."""


def log_bytes(path: Path) -> int:
    """The size of the log; 0 where there is none."""
    try:
        return sibling(path, "-wal").stat().st_size
    except OSError:
        return 0


def shrink(connection: sqlite3.Connection) -> None:
    """Write the log back and empty it, unless somebody reads for longer; outside of a transaction."""
    connection.execute(f"PRAGMA busy_timeout = {_SHRINK_MILLISECONDS}")
    try:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    finally:
        connection.execute(f"PRAGMA busy_timeout = {int(errors.LOCK_SECONDS * 1000)}")


# --- who has it open ------------------------------------------------------------------------------


def readers(path: Path) -> list[str]:
    """The visible processes that are in the middle of a read transaction, as `process 7 (python)`."""
    return _holders(sibling(path, "-shm"), _READ_LOCKS)


def users(path: Path) -> list[str]:
    """The processes that have the file open."""
    return _holders(path, SQLITE_LOCKS)


def _holders(file: Path, locks: range) -> list[str]:
    found = file_id(file)
    if found is None:
        return []
    try:
        lines = Path("/proc/locks").read_text("ascii").splitlines()
    except OSError:
        return []
    pids: dict[int, None] = {}
    for words in map(str.split, lines):
        if "POSIX" not in words or "->" in words:
            continue
        pid, place, start, end = words[-4:]
        if place.rpartition(":")[2] == str(found[1]) and int(start) in locks and end != "EOF":
            pids[int(pid)] = None
    return [f"process {pid} ({_command(pid)})" for pid in pids if pid > 0 and pid != os.getpid()]


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text("utf-8", "replace").strip()
    except OSError:
        return "unknown"


# --- whose it is ----------------------------------------------------------------------------------


def require_own(path: Path) -> None:
    """Raise StoreError if the log was written for another file, and would damage the one that stands here.

    A backup that is put over the file while the log of the file before it remains is damaged by that log. The
    file then changed after its log did, which otherwise only the last write-back does. Such a file, if nobody
    has it open, is examined whole, and without a change: rarely, since that takes as long as reading it.
    """
    log = sibling(path, "-wal")
    try:
        file, written = path.stat(), log.stat()
    except OSError:
        return
    if not written.st_size or file.st_ctime_ns < written.st_mtime_ns:
        return
    if users(path):
        return
    problem = _problem(path)
    if problem is not None:
        raise StoreError(
            f"the outbox {path} and its write-ahead log {log} do not belong together ({problem}): the file "
            "was replaced, perhaps by a backup, and the log of the one before remained; nothing was changed; "
            "stop every program that uses it, and restore the backup with: relay outbox restore BACKUP (if "
            f"{path} is the only copy of the backup, move it to another name first)",
            lasting=True,
        )


def _problem(path: Path) -> str | None:
    """What is wrong with the file and its log together. A connection that cannot write changes neither."""
    try:
        with contextlib.closing(prepare(path, "mode=ro")) as connection:
            (found,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
    except sqlite3.DatabaseError as error:
        damaged = errors.code(error) in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
        return str(error) if damaged else None
    return None if found == "ok" else " ".join(str(found).split())
