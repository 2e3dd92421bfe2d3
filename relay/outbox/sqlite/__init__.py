"""Opens, creates and upgrades an outbox on SQLite."""

import asyncio
import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from relay.core.ports import RestoredBackup
from relay.outbox.sqlite import errors, read_only, schema, sole_relay, write_ahead_log
from relay.outbox.sqlite.database import connect
from relay.outbox.sqlite.file_lock import FileLock, is_locked_here
from relay.outbox.sqlite.last_use import read_use, restored_since
from relay.outbox.sqlite.store import SqliteOutbox

__all__ = ["SqliteOutbox", "errors", "open_file", "read_only", "schema", "upgrade_file"]


async def open_file(
    path: Path, *, create: bool, exclusive: bool, purging: bool = False, reading: bool = False
) -> SqliteOutbox:
    """Open it and bring its schema up to date. `exclusive`: as the one relay of the file.

    `reading`: only read it, and change nothing.
    """
    if reading:
        await asyncio.to_thread(write_ahead_log.require_own, path)
        return SqliteOutbox(path, None, purging=False, connect=read_only.connect)
    if not exclusive:
        await asyncio.to_thread(upgrade_file, path, create=create, adopt=False)
        return SqliteOutbox(path, None, purging=purging)
    await asyncio.to_thread(errors.require, path, create=create)
    lock = await asyncio.to_thread(FileLock, path, create=create)
    try:
        restored = await asyncio.to_thread(_begin_use, path, lock)
    except BaseException:
        lock.release()
        raise
    return SqliteOutbox(path, lock, purging=purging, restored=restored)


def upgrade_file(path: Path, *, create: bool, adopt: bool) -> None:
    """Create the tables or bring them up to date. `adopt`: also in another program's database."""
    with _upgraded(path, create=create, adopt=adopt):
        pass


def _begin_use(path: Path, lock: FileLock) -> RestoredBackup | None:
    """Whether the outbox is an older one than when a relay last used it. Raises StoreError beside a relay."""
    write_ahead_log.require_own(path)
    with _upgraded(path, create=True, adopt=False) as connection:
        sole_relay.require_alone(connection, path)
        return restored_since(lock.before, read_use(connection))


@contextlib.contextmanager
def _upgraded(path: Path, *, create: bool, adopt: bool) -> Iterator[sqlite3.Connection]:
    errors.require(path, create=create)
    if not is_locked_here(path):  # a relay examined it before it used it
        write_ahead_log.require_own(path)
    try:
        with contextlib.closing(connect(path, create=create)) as connection:
            schema.upgrade(connection, path, adopt=adopt)
            yield connection
    except sqlite3.Error as error:
        raise errors.explain(error, path) from error
