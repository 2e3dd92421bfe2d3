"""An application that knows nothing of the relay: a bare driver, a connection of its own, its INSERT."""

import sqlite3
from collections.abc import Mapping
from typing import Any, Protocol

import asyncpg


class RefusedError(Exception):
    """The database refused the row; the text is the driver's."""


class Application(Protocol):
    """The same statements on each kind of database."""

    async def insert(self, **columns: Any) -> Mapping[str, Any]:
        """A row with these columns beside the three that are needed, as it is stored. Raises RefusedError."""
        ...

    async def run(self, statement: str) -> None:
        """Without values."""
        ...

    async def rows(self, query: str) -> list[tuple[Any, ...]]:
        """All of them."""
        ...


def _row(columns: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"tenant_id": "ACME_PRD", "document_name": "Sync.SalesOrder", "payload": b"x", **columns}


class SqliteApplication:
    """On a file."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection

    async def insert(self, **columns: Any) -> Mapping[str, Any]:
        row = _row(columns)
        try:
            cursor = self.connection.execute(
                f"INSERT INTO relay_outbox ({', '.join(row)}) VALUES ({', '.join('?' * len(row))})",
                tuple(row.values()),
            )
        except sqlite3.IntegrityError as error:
            raise RefusedError(str(error)) from error
        found = self.connection.execute("SELECT * FROM relay_outbox WHERE id = ?", (cursor.lastrowid,))
        return dict(zip([column[0] for column in found.description], found.fetchone(), strict=True))

    async def run(self, statement: str) -> None:
        self.connection.execute(statement)

    async def rows(self, query: str) -> list[tuple[Any, ...]]:
        return self.connection.execute(query).fetchall()


class PostgresApplication:
    """On a database."""

    def __init__(self, connection: "asyncpg.Connection[asyncpg.Record]") -> None:
        self.connection = connection

    async def insert(self, **columns: Any) -> Mapping[str, Any]:
        row = _row(columns)
        values = ", ".join(f"${number}" for number in range(1, len(row) + 1))
        try:
            found = await self.connection.fetchrow(
                f"INSERT INTO relay_outbox ({', '.join(row)}) VALUES ({values}) RETURNING *", *row.values()
            )
        except asyncpg.IntegrityConstraintViolationError as error:
            raise RefusedError(str(error)) from error
        assert found is not None
        return dict(found)

    async def run(self, statement: str) -> None:
        await self.connection.execute(statement)

    async def rows(self, query: str) -> list[tuple[Any, ...]]:
        return [tuple(row) for row in await self.connection.fetch(query)]
