"""Opens, creates and upgrades an outbox on SQLite."""

import asyncio
import contextlib
import sqlite3
from pathlib import Path

from relay.outbox.sqlite import errors, read_only, schema
from relay.outbox.sqlite.database import connect
from relay.outbox.sqlite.file_lock import FileLock
from relay.outbox.sqlite.store import SqliteOutbox

__all__ = ["SqliteOutbox", "errors", "open_file", "read_only", "schema", "upgrade_file"]


async def open_file(
    path: Path, *, create: bool, exclusive: bool, purging: bool = False, reading: bool = False
) -> SqliteOutbox:
    """Open it and bring its schema up to date. `exclusive`: as the one relay of the file.

    `reading`: only read it, and change nothing.
    """
    if reading:
        return SqliteOutbox(path, None, purging=False, connect=read_only.connect)
    await asyncio.to_thread(errors.require, path, create=create)
    lock = FileLock(path) if exclusive else None
    try:
        await asyncio.to_thread(upgrade_file, path, create=create, adopt=False)
    except BaseException:
        if lock is not None:
            lock.release()
        raise
    return SqliteOutbox(path, lock, purging=purging)


def upgrade_file(path: Path, *, create: bool, adopt: bool) -> None:
    """Create the tables or bring them up to date. `adopt`: also in another program's database."""
    errors.require(path, create=create)
    try:
        with contextlib.closing(connect(path, create=create)) as connection:
            schema.upgrade(connection, path, adopt=adopt)
    except sqlite3.Error as error:
        raise errors.explain(error, path) from error
