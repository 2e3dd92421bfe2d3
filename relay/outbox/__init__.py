"""Opens the outbox at a location, prints its schema, and brings it up to date.

A location is an `OutboxLocation`; a URL alone stands for the one with the default names of tables.
"""

import asyncio
import importlib
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, TypeAlias

from relay.core.ports import StoreError
from relay.core.validation import Problem
from relay.outbox import sqlite
from relay.outbox.location import OutboxLocation, shown
from relay.outbox.sqlite import SqliteOutbox
from relay.outbox.sqlite import backup as file_backup
from relay.outbox.sqlite.backup import Backup, Restored
from relay.outbox.sqlite.copying import Progress
from relay.outbox.sqlite.file_system import risks

if TYPE_CHECKING:
    from relay.outbox.postgres import PostgresOutbox

__all__ = [
    "OutboxLocation",
    "SqliteOutbox",
    "StoredOutbox",
    "back_up",
    "may_open_later",
    "open_outbox",
    "restore",
    "risks_of",
    "schema",
    "shown",
    "to_come",
    "upgrade",
]

StoredOutbox: TypeAlias = "SqliteOutbox | PostgresOutbox"
"""`ports.Store`, and its rows as they are (`transfer`)."""


async def open_outbox(
    location: OutboxLocation | str,
    *,
    create: bool = True,
    exclusive: bool = False,
    notify: bool = True,
    lease_seconds: float | None = None,
    purging: bool = False,
    reading: bool = False,
) -> StoredOutbox:
    """Open it. Raises StoreError.

    A file is brought up to date, and made where there is none if `create`; `exclusive`: as the one relay of
    the file. A database must be up to date (`upgrade`); several relays share it by leases of `lease_seconds`
    (None: without leases); `notify` False: it is polled only. `purging`: a payload is purged when its message
    is delivered. `reading`: a file is only read; it is neither brought up to date nor created.
    """
    at = _locate(location)
    if at.is_served:
        opened: PostgresOutbox = await _postgres().open_database(
            at, notify=notify, lease_seconds=lease_seconds, purging=purging
        )
        return opened
    return await sqlite.open_file(
        at.path, create=create, exclusive=exclusive, purging=purging, reading=reading
    )


def may_open_later(location: OutboxLocation | str, error: StoreError) -> bool:
    """Whether a start should wait after this error of `open_outbox`: it passes without an operator.

    So does a database that is away; of a file, what another program or a full disk does to it.
    """
    return not error.lasting and (_locate(location).is_served or sqlite.errors.is_passing(error))


def schema(location: OutboxLocation | str) -> str:
    """The statements that create the outbox, for an operator or an application's own migrations."""
    at = _locate(location)
    if at.is_served:
        text: str = _postgres().schema_of(at)
        return text
    _ = at.path  # it must name a file
    return sqlite.schema.ddl()


def upgrade(location: OutboxLocation | str) -> Sequence[str]:
    """Create the outbox or bring it up to date, also in an application's own database. Raises StoreError.

    What else was corrected, a line each. Not within a running loop.
    """
    at = _locate(location)
    if at.is_served:
        corrected: Sequence[str] = asyncio.run(_postgres().upgrade_database(at))
        return corrected
    sqlite.upgrade_file(at.path, create=True, adopt=True)
    return ()


def to_come(location: OutboxLocation | str) -> str | None:
    """What `relay run` does before it can use the outbox, in words; None: nothing. Raises StoreError.

    Nothing is changed. A database is brought up to date by `upgrade` alone.
    """
    at = _locate(location)
    return None if at.is_served else sqlite.read_only.to_come(at.path)


def back_up(location: OutboxLocation | str, target: Path, *, force: bool, progress: Progress) -> Backup:
    """Copy a file, which may be in use, into another one. Raises StoreError."""
    at = _locate(location)
    if at.is_served:
        raise StoreError(
            f"the outbox {at.shown} is in a database, and is backed up with it: pg_dump, or a base backup "
            "with archived write-ahead log, for a recovery to a point in time",
            lasting=True,
        )
    return file_backup.back_up(at.path, target, force=force, progress=progress)


def restore(location: OutboxLocation | str, backup: Path, *, who: str, progress: Progress) -> Restored:
    """Put a backup in the place of a file, which nothing may use. Raises StoreError."""
    at = _locate(location)
    if at.is_served:
        raise StoreError(
            f"the outbox {at.shown} is in a database, and is restored with it: pg_restore, or a recovery to "
            "a point in time; run relay check afterwards: it finds a sequence that lags behind",
            lasting=True,
        )
    return file_backup.restore(at.path, backup, who=who, progress=progress)


def risks_of(location: OutboxLocation | str) -> Sequence[Problem]:
    """What may damage or lose a file where it lies; a database has its own."""
    at = _locate(location)
    if at.is_served:
        return ()
    sqlite.errors.require(at.path, create=True)
    return risks(at.path)


def _locate(location: OutboxLocation | str) -> OutboxLocation:
    return OutboxLocation(location) if isinstance(location, str) else location


def _postgres() -> ModuleType:
    """The store on PostgreSQL; its driver is an extra."""
    try:
        importlib.import_module("asyncpg")
    except ModuleNotFoundError as error:
        raise StoreError(
            "an outbox on PostgreSQL needs the driver asyncpg; "
            "install it with: pip install ion-relay[postgres]",
            lasting=True,
        ) from error
    return importlib.import_module("relay.outbox.postgres")
