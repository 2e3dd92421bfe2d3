"""A connection to PostgreSQL as calls use it: plain names, prepared statements where they can be kept.

Straight to the server a statement is parsed once and takes one round trip from then on. Behind a pooler that
shares connections the next transaction may meet another session of the server: nothing is kept there (no SET,
no named statement, no session lock), and a statement takes two round trips.
"""

from collections.abc import Hashable, Mapping
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from typing import Any, TypeAlias

import asyncpg
from asyncpg.prepared_stmt import PreparedStatement

from relay.outbox.postgres.catalog_names import qualified
from relay.outbox.postgres.table_names import TableNames

Row: TypeAlias = asyncpg.Record
Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

_KEPT = 100
"""Statements of a connection; there are fewer, those of filters apart."""

# A plan that was made for an empty table walks through a full one, so none outlives its execution; that of a
# statement without values would, so those are not kept.
_PLANNING = {"plan_cache_mode": "force_custom_plan"}


async def set_for_session(connection: Connection, settings: Mapping[str, str]) -> bool:
    """Until its end, unless a pooler stands between, which may give the session to others; whether they hold.

    The process that was connected to is the one that answers; a pooler has a number of its own.
    """
    calls = ", ".join(f"set_config('{name}', '{value}', false)" for name, value in settings.items())
    straight = qualified(f"SELECT {calls} WHERE pg_backend_pid() = {connection.get_server_pid()}")
    return await connection.execute(straight) == "SELECT 1"


def utc(when: datetime) -> datetime:
    """An instant as the driver returns it, in UTC."""
    return when.astimezone(UTC)


class StoreConnection:
    """Statements are written with plain names."""

    def __init__(
        self, connection: Connection, names: TableNames, where: str = "", credentials: Hashable = None
    ) -> None:
        """`where`: the database's URL as it may be shown. `credentials`: those that it was opened with."""
        self.connection, self.names, self.where = connection, names, where
        self.credentials = credentials
        self._kept: dict[str, PreparedStatement[Row]] | None = None

    async def keep_statements(self) -> None:
        """From now on, unless a pooler stands between."""
        if await set_for_session(self.connection, _PLANNING):
            self._kept = {}

    def keep_nothing(self) -> None:
        """A statement that was kept is lost: a pooler that repeats the server's own number."""
        self._kept = None

    def transaction(self) -> AbstractAsyncContextManager[None]:
        """What is done within is committed together, or not at all."""
        return self.connection.transaction()

    async def fetch(self, statement: str, *values: Any) -> list[Row]:
        """All rows."""
        return await self._rows(statement, values)

    async def fetchrow(self, statement: str, *values: Any) -> Row | None:
        """The first row."""
        return next(iter(await self._rows(statement, values)), None)

    async def fetchval(self, statement: str, *values: Any) -> Any:
        """The first row's first column."""
        return next((row[0] for row in await self._rows(statement, values)), None)

    async def execute(self, statement: str, *values: Any) -> int:
        """How many rows it touched."""
        text = self.names.within(statement)
        kept = await self._prepare(text, values)
        if kept is None:
            status = await self.connection.execute(text, *values)
        else:
            await kept.fetch(*values)
            status = kept.get_statusmsg() or ""
        return int(status.rpartition(" ")[2]) if status[-1:].isdigit() else 0

    async def _rows(self, statement: str, values: tuple[Any, ...]) -> list[Row]:
        text = self.names.within(statement)
        kept = await self._prepare(text, values)
        return await (self.connection.fetch(text, *values) if kept is None else kept.fetch(*values))

    async def _prepare(self, text: str, values: tuple[Any, ...]) -> "PreparedStatement[Row] | None":
        """The statement as the server keeps it; None where it is not to be kept."""
        if self._kept is None or not values:
            return None
        kept = self._kept.get(text)
        if kept is None and len(self._kept) < _KEPT:
            kept = await self.connection.prepare(text, name=f"ion_relay_{len(self._kept)}")
            self._kept[text] = kept
        return kept
