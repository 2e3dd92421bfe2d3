"""The stores under contract: how a test acts as an application, another process, an aged heartbeat.

A further store is one more class here; the suites `test_outbox.py` and `test_admin.py` run on each, and
`test_leases.py` on those that several relays may share.
"""

import asyncio
import contextlib
import itertools
import json
import sqlite3
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Protocol, TypeVar

from relay.core.admin import Admin, BulkAction, Filter
from relay.core.model import AuditId, Draft, RowId, TenantId
from relay.core.ports import Store
from relay.outbox import open_outbox
from relay.outbox.values import SKIPPED
from tests.support.memory import MemoryOutbox
from tests.support.postgres import connected

T = TypeVar("T")

ACME = TenantId("ACME_PRD")
GLOBEX = TenantId("GLOBEX_PRD")
ROOM = 1_000_000


class StoreCase(Protocol):
    """One outbox, and what a test may do to it from outside."""

    async def open(self, *, purging: bool = False) -> Store:
        """Open it as one more process; closed at the end of the test."""
        ...

    async def insert(self, draft: Draft, *, row: int | None = None) -> RowId:
        """An application's INSERT. `row`: its id was given out earlier, and it commits only now."""
        ...

    async def age_heartbeat(self, relay: str, hours: int = 1) -> None:
        """As if the relay's last beat were so old; below 0: the clock went back since."""
        ...

    async def age_message(self, row: RowId, seconds: float) -> None:
        """As if it had been queued, and settled, so much earlier."""
        ...

    async def age_audit(self, audit_id: AuditId, seconds: float) -> None:
        """As if it had begun, and been gone on with, so much earlier."""
        ...

    async def replace(self, row: RowId, draft: Draft) -> None:
        """As after a restore: the row holds another message."""
        ...

    async def set_attempts(self, row: RowId, attempts: int) -> None:
        """As if it had failed so often."""
        ...

    async def refuse(self, *rows: RowId, raising: bool = True) -> None:
        """Triggers of an application: these rows may not change or go. Not `raising`: silently so."""
        ...

    async def allow(self) -> None:
        """The application drops its triggers."""
        ...

    async def close(self) -> None:
        """Close everything."""
        ...


class SharedCase(Protocol):
    """An outbox that several relays share."""

    async def open(self, lease_seconds: float = 15.0) -> Store:
        """Open it as one more relay; closed at the end of the test."""
        ...

    async def expire(self, relay: str) -> None:
        """As if the relay had not renewed its leases for so long that they just ended."""
        ...

    async def close(self) -> None:
        """Close everything."""
        ...


class SqliteCase:
    """A file."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "relay.db"
        self._open: list[Store] = []

    async def open(self, *, purging: bool = False) -> Store:
        store = await open_outbox(f"sqlite:///{self.path}", purging=purging)
        self._open.append(store)
        return store

    async def insert(self, draft: Draft, *, row: int | None = None) -> RowId:
        return insert_plainly(self.path, draft, row=row)

    async def age_heartbeat(self, relay: str, hours: int = 1) -> None:
        with contextlib.closing(sqlite3.connect(self.path)) as connection, connection:
            connection.execute(
                "UPDATE relay_relays SET beat_at = strftime('%Y-%m-%dT%H:%M:%fZ', 'now', ?) WHERE relay = ?",
                (f"{-hours:+} hours", relay),
            )

    async def age_message(self, row: RowId, seconds: float) -> None:
        self._make_older("relay_outbox", ("queued_at", "settled_at"), row, seconds)

    async def age_audit(self, audit_id: AuditId, seconds: float) -> None:
        self._make_older("relay_audit", ("at", "moved_at"), audit_id, seconds)

    def _make_older(self, table: str, columns: tuple[str, ...], row: int, seconds: float) -> None:
        changes = (
            f"{name} = strftime('%Y-%m-%dT%H:%M:%fZ', {name}, '-{seconds} seconds')" for name in columns
        )
        with contextlib.closing(sqlite3.connect(self.path)) as connection, connection:
            connection.execute(f"UPDATE {table} SET {', '.join(changes)} WHERE id = ?", (row,))

    async def replace(self, row: RowId, draft: Draft) -> None:
        with contextlib.closing(sqlite3.connect(self.path)) as connection, connection:
            connection.execute("DELETE FROM relay_outbox WHERE id = ?", (row,))
        insert_plainly(self.path, draft, row=row)

    async def set_attempts(self, row: RowId, attempts: int) -> None:
        with contextlib.closing(sqlite3.connect(self.path)) as connection, connection:
            connection.execute("UPDATE relay_outbox SET attempts = ? WHERE id = ?", (attempts, row))

    async def refuse(self, *rows: RowId, raising: bool = True) -> None:
        with contextlib.closing(sqlite3.connect(self.path)) as connection, connection:
            for row, event in itertools.product(rows, ("UPDATE", "DELETE")):
                what = "RAISE(ABORT, 'not this row')" if raising else "RAISE(IGNORE)"
                connection.execute(
                    f"CREATE TRIGGER application_{event}_{row} BEFORE {event} ON relay_outbox "
                    f"WHEN OLD.id = {row} BEGIN SELECT {what}; END"
                )

    async def allow(self) -> None:
        with contextlib.closing(sqlite3.connect(self.path)) as connection, connection:
            names = "SELECT name FROM sqlite_master WHERE type = 'trigger' AND name LIKE 'application%'"
            for (name,) in connection.execute(names).fetchall():
                connection.execute(f"DROP TRIGGER {name}")

    async def close(self) -> None:
        for store in self._open:
            await store.close()


class MemoryCase:
    """The one that worker tests use."""

    def __init__(self) -> None:
        self._first = MemoryOutbox(time.time)
        self._shelf = self._first.shelf
        self._open: list[MemoryOutbox] = []

    async def open(self, *, purging: bool = False) -> Store:
        self._open.append(MemoryOutbox(time.time, self._shelf, purging=purging))
        return self._open[-1]

    async def replace(self, row: RowId, draft: Draft) -> None:
        del self._shelf.rows[row]
        self._first.insert(draft, row=row)

    async def set_attempts(self, row: RowId, attempts: int) -> None:
        self._shelf.rows[row].attempts = attempts

    async def refuse(self, *rows: RowId, raising: bool = True) -> None:
        for store in self._open:
            store.refuses = dict.fromkeys(rows, "not this row" if raising else SKIPPED)

    async def allow(self) -> None:
        for store in self._open:
            store.refuses = {}

    async def insert(self, draft: Draft, *, row: int | None = None) -> RowId:
        return self._first.insert(draft, row=row)

    async def age_heartbeat(self, relay: str, hours: int = 1) -> None:
        self._shelf.beats[relay].beat_at -= 3600 * hours

    async def age_message(self, row: RowId, seconds: float) -> None:
        found = self._shelf.rows[row]
        found.queued_at -= seconds
        found.settled_at = found.settled_at and found.settled_at - seconds

    async def age_audit(self, audit_id: AuditId, seconds: float) -> None:
        entry = self._shelf.audit[audit_id]
        self._shelf.audit[audit_id] = replace(entry, at=entry.at - timedelta(seconds=seconds))
        if audit_id in self._shelf.orders:
            self._shelf.orders[audit_id].moved_at -= seconds

    async def close(self) -> None:
        await self._first.close()


class SharedMemoryCase:
    """The one that tests of the supervisor use."""

    def __init__(self) -> None:
        self._open: list[MemoryOutbox] = []

    async def open(self, lease_seconds: float = 15.0) -> Store:
        shelf = self._open[0].shelf if self._open else None
        self._open.append(MemoryOutbox(time.time, shelf, lease_seconds))
        return self._open[-1]

    async def expire(self, relay: str) -> None:
        for holder in self._open[0].shelf.register.holders.values():
            if holder.relay == relay:
                holder.until = time.time()

    async def close(self) -> None:
        for store in self._open:
            await store.close()


class PostgresCase:
    """A database of its own."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._open: list[Store] = []

    async def open(self, *, purging: bool = False) -> Store:
        store = await open_outbox(self.url, purging=purging)
        self._open.append(store)
        return store

    async def insert(self, draft: Draft, *, row: int | None = None) -> RowId:
        given = {name: value for name, value in columns_of(draft, row).items() if value is not None}
        values = ", ".join(f"${number}" for number in range(1, len(given) + 1))
        async with connected(self.url) as connection:
            return RowId(
                await connection.fetchval(
                    f"INSERT INTO relay_outbox ({', '.join(given)}) OVERRIDING SYSTEM VALUE "
                    f"VALUES ({values}) RETURNING id",
                    *given.values(),
                )
            )

    async def age_heartbeat(self, relay: str, hours: int = 1) -> None:
        async with connected(self.url) as connection:
            await connection.execute(
                "UPDATE relay_relays SET beat_at = now() - make_interval(hours => $2) WHERE relay = $1",
                relay,
                hours,
            )

    async def age_message(self, row: RowId, seconds: float) -> None:
        await self._make_older("relay_outbox", ("queued_at", "settled_at"), row, seconds)

    async def age_audit(self, audit_id: AuditId, seconds: float) -> None:
        await self._make_older("relay_audit", ("at", "moved_at"), audit_id, seconds)

    async def _make_older(self, table: str, columns: tuple[str, ...], row: int, seconds: float) -> None:
        changes = (f"{name} = {name} - make_interval(secs => {seconds})" for name in columns)
        async with connected(self.url) as connection:
            await connection.execute(f"UPDATE {table} SET {', '.join(changes)} WHERE id = $1", row)

    async def replace(self, row: RowId, draft: Draft) -> None:
        async with connected(self.url) as connection:
            await connection.execute("DELETE FROM relay_outbox WHERE id = $1", row)
        await self.insert(draft, row=row)

    async def set_attempts(self, row: RowId, attempts: int) -> None:
        async with connected(self.url) as connection:
            await connection.execute("UPDATE relay_outbox SET attempts = $2 WHERE id = $1", row, attempts)

    async def refuse(self, *rows: RowId, raising: bool = True) -> None:
        what = "RAISE 'not this row'" if raising else "RETURN NULL"
        listed = ", ".join(map(str, rows))
        async with connected(self.url) as connection:
            await connection.execute(
                "CREATE OR REPLACE FUNCTION application() RETURNS trigger LANGUAGE plpgsql AS "
                f"$$ BEGIN {what}; END $$"
            )
            await connection.execute(
                "CREATE TRIGGER application BEFORE UPDATE OR DELETE ON relay_outbox FOR EACH ROW "
                f"WHEN (OLD.id IN ({listed})) EXECUTE FUNCTION application()"
            )

    async def allow(self) -> None:
        async with connected(self.url) as connection:
            await connection.execute("DROP FUNCTION IF EXISTS application CASCADE")

    async def close(self) -> None:
        await self.allow()
        for store in self._open:
            await store.close()


class SharedPostgresCase:
    """A database that several relays share."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._open: list[Store] = []

    async def open(self, lease_seconds: float = 15.0) -> Store:
        store = await open_outbox(self.url, exclusive=True, lease_seconds=lease_seconds)
        self._open.append(store)
        return store

    async def expire(self, relay: str) -> None:
        async with connected(self.url) as connection:
            await connection.execute("UPDATE relay_holders SET until = now() WHERE relay = $1", relay)

    async def close(self) -> None:
        for store in self._open:
            await store.close()


def columns_of(draft: Draft, row: int | None) -> dict[str, object]:
    """What an INSERT gives; None: nothing."""
    return {
        "tenant_id": draft.tenant_id,
        "document_name": draft.document_name,
        "payload": draft.payload,
        "to_logical_id": draft.to_logical_id,
        "parameters": json.dumps(dict(draft.parameters)),
        "ordering_key": draft.ordering_key,
        "message_id": draft.message_id,
        "id": row,
    }


def insert_plainly(path: Path, draft: Draft, *, row: int | None = None) -> RowId:
    """As an application does it that knows nothing of the relay: bare `sqlite3`, its own connection."""
    given = {name: value for name, value in columns_of(draft, row).items() if value is not None}
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        cursor = connection.execute(
            f"INSERT INTO relay_outbox ({', '.join(given)}) VALUES ({', '.join('?' * len(given))})",
            tuple(given.values()),
        )
    assert cursor.lastrowid is not None
    return RowId(cursor.lastrowid)


async def retry(admin: Admin, wanted: Filter, reason: str = "") -> int:
    """A bulk action, to its end."""
    return await admin.decide(BulkAction("retry", wanted, "ann@desk", reason))


async def park(admin: Admin, wanted: Filter, reason: str) -> int:
    """The same."""
    return await admin.decide(BulkAction("park", wanted, "ann@desk", reason))


async def drop(admin: Admin, wanted: Filter, reason: str) -> int:
    """The same."""
    return await admin.decide(BulkAction("drop", wanted, "ann@desk", reason))


async def until(read: Callable[[], Awaitable[T]], fact: Callable[[T], bool], within: float = 10.0) -> T:
    """Read again until it is so; fails after `within` seconds."""
    async with asyncio.timeout(within):
        while not fact(found := await read()):  # noqa: ASYNC110  (a file sends no event)
            await asyncio.sleep(0.002)
    return found
