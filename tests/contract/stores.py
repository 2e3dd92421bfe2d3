"""This file is the stores under contract: how a test plays the application, another process, an aged heartbeat.

A further store is one more class here; the suites `test_outbox.py` and `test_desk.py` run on each.
"""

import asyncio
import contextlib
import json
import sqlite3
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol, TypeVar

from relay.model import Draft, RowId, TenantId
from relay.outbox import open_outbox
from relay.ports import Desk, Outbox
from tests.support.memory import MemoryOutbox

T = TypeVar("T")

ACME = TenantId("ACME_PRD")
GLOBEX = TenantId("GLOBEX_PRD")
ROOM = 1_000_000


class Store(Outbox, Desk, Protocol):
    """Both ports on one object."""


class StoreCase(Protocol):
    """One outbox, and what a test may do to it from outside."""

    async def open(self) -> Store:
        """Open it as one more process; closed at the end of the test."""
        ...

    async def insert(self, draft: Draft, *, row: int | None = None) -> RowId:
        """An application's INSERT. `row`: its id was given out earlier, and it commits only now."""
        ...

    async def age_heartbeat(self, relay: str) -> None:
        """As if the relay had not beaten for an hour."""
        ...

    async def close(self) -> None:
        """Close everything."""
        ...


class SqliteCase:
    """A file."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "relay.db"
        self._open: list[Store] = []

    async def open(self) -> Store:
        store = await open_outbox(f"sqlite:///{self.path}")
        self._open.append(store)
        return store

    async def insert(self, draft: Draft, *, row: int | None = None) -> RowId:
        return insert_plainly(self.path, draft, row=row)

    async def age_heartbeat(self, relay: str) -> None:
        with contextlib.closing(sqlite3.connect(self.path)) as connection, connection:
            connection.execute(
                "UPDATE relay_relays SET beat_at = strftime('%Y-%m-%dT%H:%M:%fZ', 'now', '-1 hour') WHERE relay = ?",
                (relay,),
            )

    async def close(self) -> None:
        for store in self._open:
            await store.close()


class MemoryCase:
    """The one that worker tests use."""

    def __init__(self) -> None:
        self._first = MemoryOutbox(time.time)
        self._shelf = self._first.shelf

    async def open(self) -> Store:
        return MemoryOutbox(time.time, self._shelf)

    async def insert(self, draft: Draft, *, row: int | None = None) -> RowId:
        return self._first.insert(draft, row=row)

    async def age_heartbeat(self, relay: str) -> None:
        self._shelf.beats[relay].beat_at -= 3600

    async def close(self) -> None:
        await self._first.close()


def insert_plainly(path: Path, draft: Draft, *, row: int | None = None) -> RowId:
    """As an application does it that knows nothing of the relay: bare `sqlite3`, its own connection."""
    columns = {
        "tenant_id": draft.tenant_id,
        "document_name": draft.document_name,
        "payload": draft.payload,
        "to_logical_id": draft.to_logical_id,
        "parameters": json.dumps(dict(draft.parameters)),
        "ordering_key": draft.ordering_key,
        "message_id": draft.message_id,
        "id": row,
    }
    given = {name: value for name, value in columns.items() if value is not None}
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        cursor = connection.execute(
            f"INSERT INTO relay_outbox ({', '.join(given)}) VALUES ({', '.join('?' * len(given))})",
            tuple(given.values()),
        )
    assert cursor.lastrowid is not None
    return RowId(cursor.lastrowid)


async def until(look: Callable[[], Awaitable[T]], fact: Callable[[T], bool], within: float = 10.0) -> T:
    """Look again until it is so; fails after `within` seconds."""
    async with asyncio.timeout(within):
        while not fact(found := await look()):  # noqa: ASYNC110  (a file tells nobody)
            await asyncio.sleep(0.002)
    return found
