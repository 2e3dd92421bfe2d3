"""Create the outboxes of the benchmark, on SQLite or PostgreSQL, and enqueue as an application does.

PostgreSQL is a server of its own with the durability of a real one: a commit is on disk.
"""

import asyncio
import itertools
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import asyncpg

from relay.outbox import upgrade
from tests.support.postgres import own_server

_INSERT = "INSERT INTO relay_outbox (tenant_id, document_name, payload, message_id)"
_INTO_SQLITE = _INSERT + " VALUES (?, 'Sync.SalesOrder', ?, ?)"
_INTO_POSTGRES = _INSERT + " VALUES ($1, 'Sync.SalesOrder', $2, $3)"
_DURABLE = {"fsync": "on", "full_page_writes": "on", "shared_buffers": "256MB"}

Row = tuple[str, bytes, str]
"""A message: tenant, payload, message id."""


class Application(Protocol):
    """An application that enqueues messages, on a connection of its own."""

    def insert(self, rows: Iterable[Row]) -> None:
        """Enqueue the rows in one transaction; returns when it is committed."""

    def close(self) -> None:
        """Close the connection."""


class Store(Protocol):
    """Creates outboxes and connects to them."""

    def create(self, folder: Path) -> str:
        """Create an empty outbox; its URL."""

    def connect(self, url: str) -> Application:
        """Connect to the outbox as an application."""


class OnSQLite:
    """Each outbox is a file in its folder."""

    def create(self, folder: Path) -> str:
        """Create an empty outbox; its URL."""
        url = f"sqlite:///{folder}/outbox.db"
        upgrade(url)
        return url

    def connect(self, url: str) -> Application:
        """Connect to the outbox as an application."""
        return _SQLiteApplication(url.removeprefix("sqlite:///"))


class _SQLiteApplication:
    def __init__(self, path: str) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None, timeout=30)

    def insert(self, rows: Iterable[Row]) -> None:
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.executemany(_INTO_SQLITE, rows)
        self._connection.execute("COMMIT")

    def close(self) -> None:
        self._connection.close()


class OnPostgreSQL:
    """Each outbox is a database of one server."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._numbers = itertools.count(1)

    def create(self, _: Path) -> str:
        """Create an empty database with an outbox; its URL."""
        name = f"bench_{next(self._numbers)}"
        asyncio.run(self._create(name))
        url = f"{self._url.rpartition('/')[0]}/{name}"
        upgrade(url)
        return url

    async def _create(self, name: str) -> None:
        connection = await asyncpg.connect(self._url)
        await connection.execute(f"CREATE DATABASE {name}")
        await connection.close()

    def connect(self, url: str) -> Application:
        """Connect to the outbox as an application."""
        return _PostgreSQLApplication(url)


class _PostgreSQLApplication:
    def __init__(self, url: str) -> None:
        self._runner = asyncio.Runner()
        self._connection = self._runner.run(asyncpg.connect(url))

    def insert(self, rows: Iterable[Row]) -> None:
        self._runner.run(self._insert(rows))

    async def _insert(self, rows: Iterable[Row]) -> None:
        await self._connection.executemany(_INTO_POSTGRES, rows)

    def close(self) -> None:
        self._runner.run(self._connection.close())
        self._runner.close()


@contextmanager
def running(name: str) -> Iterator[Store]:
    """Provide the store of this name, `sqlite` or `postgres`."""
    if name == "sqlite":
        yield OnSQLite()
        return
    with own_server(**_DURABLE) as server:
        yield OnPostgreSQL(server.url)
