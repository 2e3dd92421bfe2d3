"""This file is the outboxes of the benchmark: on SQLite or PostgreSQL, and the application that fills them.

PostgreSQL is a server of the benchmark's own with what a real one has on: a commit is on the disk.
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
    """Whoever hands messages over, on a connection of its own."""

    def insert(self, rows: Iterable[Row]) -> None:
        """Hand these over in one transaction; returns when it is committed."""

    def close(self) -> None:
        """Give the connection back."""


class Store(Protocol):
    """Makes outboxes."""

    def create(self, folder: Path) -> str:
        """A fresh outbox; its URL."""

    def connect(self, url: str) -> Application:
        """An application's connection to it."""


class OnSQLite:
    """Each outbox a file in its folder."""

    def create(self, folder: Path) -> str:
        """A fresh file."""
        url = f"sqlite:///{folder}/outbox.db"
        upgrade(url)
        return url

    def connect(self, url: str) -> Application:
        """An application's connection to it."""
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
    """Each outbox a database of one server."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._numbers = itertools.count(1)

    def create(self, _: Path) -> str:
        """A fresh database."""
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
        """An application's connection to it."""
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
    """The store of this name, `sqlite` or `postgres`."""
    if name == "sqlite":
        yield OnSQLite()
        return
    with own_server(**_DURABLE) as server:
        yield OnPostgreSQL(server.url)
