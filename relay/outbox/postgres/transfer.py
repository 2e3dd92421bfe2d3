"""This file is the PostgreSQL outbox's rows as they are, to be copied into another outbox or out of one.

For the tables' owner: a relay's own role may neither give ids nor see the sequence they come from.
"""

from collections.abc import Iterable, Sequence
from dataclasses import astuple
from datetime import datetime
from typing import Any

from asyncpg import InsufficientPrivilegeError, Record

from relay.core.ports import StoreError
from relay.outbox.postgres.connection import StoreConnection
from relay.outbox.postgres.database import Database
from relay.outbox.transfer_rows import Decided, Entry, Row

_COLUMNS = """
    id, tenant_id, document_name, message_id, to_logical_id, ordering_key, parameters, state, attempts,
    not_before, reason, created_at, queued_at, settled_at, payload, payload_size
"""

_PAGE = f"""
SELECT {_COLUMNS} FROM (
    SELECT *, sum(octet_length(payload)) OVER (ORDER BY id) AS upto, row_number() OVER (ORDER BY id) AS place
    FROM (SELECT * FROM relay_outbox WHERE id > $1 ORDER BY id LIMIT $2) next
) sized WHERE place = 1 OR upto <= $3 ORDER BY id
"""  # noqa: S608  # constants

_PICK = f"SELECT {_COLUMNS} FROM relay_outbox WHERE id = ANY($1::bigint[]) ORDER BY id"  # noqa: S608  # constants

_STORIES = """
SELECT message_row, at, replace(what, 'blamed', 'counted'), detail FROM relay_history
WHERE message_row = ANY($1::bigint[]) ORDER BY message_row, id
"""

_TAKE_IN = f"""
INSERT INTO relay_outbox ({_COLUMNS}) OVERRIDING SYSTEM VALUE
SELECT id, tenant_id, document_name, message_id, to_logical_id, ordering_key, parameters::json, state,
       attempts, not_before, reason, created_at, queued_at, settled_at, payload, payload_size
FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[],
            $9::int[], $10::timestamptz[], $11::text[], $12::timestamptz[], $13::timestamptz[],
            $14::timestamptz[], $15::bytea[], $16::bigint[]) AS given ({_COLUMNS})
ON CONFLICT (id) DO UPDATE SET
    state = excluded.state, attempts = excluded.attempts, not_before = excluded.not_before,
    reason = excluded.reason, queued_at = excluded.queued_at, settled_at = excluded.settled_at,
    payload = excluded.payload, payload_size = excluded.payload_size
"""  # noqa: S608  # constants

_FORGET_STORIES = "DELETE FROM relay_history WHERE message_row = ANY($1::bigint[])"

_TELL = """
INSERT INTO relay_history (message_row, at, what, detail)
SELECT message_row, at, what, detail
FROM unnest($1::bigint[], $2::timestamptz[], $3::text[], $4::text[])
    WITH ORDINALITY AS given (message_row, at, what, detail, place)
ORDER BY place
"""

_LAST = "SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM relay_outbox_id_seq"

_SKIP_TO = """
SELECT setval(tableoid::regclass, $1) FROM relay_outbox_id_seq
WHERE CASE WHEN is_called THEN last_value ELSE 0 END < $1
"""

_DECIDED = "SELECT tenant_id, revision, paused FROM relay_tenants WHERE revision > 0 ORDER BY tenant_id"

_DECIDE = """
INSERT INTO relay_tenants AS known (tenant_id, revision, paused)
SELECT * FROM unnest($1::text[], $2::bigint[], $3::text[])
ON CONFLICT (tenant_id) DO UPDATE SET
    revision = greatest(known.revision, excluded.revision), paused = excluded.paused
"""


_ENTRY = """
    id, at, who, what, tenant_id, selection, reason, messages, outcome, ended_at, wanted, reached, moved_at
"""

_ENTRIES = f"SELECT {_ENTRY} FROM relay_audit WHERE id > $1 ORDER BY id LIMIT $2"  # noqa: S608  # constants

_ENTER = f"""
INSERT INTO relay_audit ({_ENTRY}) OVERRIDING SYSTEM VALUE
SELECT id, at, who, what, tenant_id, selection, reason, messages, outcome, ended_at, wanted::json, reached,
       moved_at
FROM unnest($1::bigint[], $2::timestamptz[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[],
            $8::bigint[], $9::text[], $10::timestamptz[], $11::text[], $12::bigint[], $13::timestamptz[])
    AS given ({_ENTRY})
ON CONFLICT (id) DO UPDATE SET
    messages = excluded.messages, outcome = excluded.outcome, ended_at = excluded.ended_at,
    reached = excluded.reached, moved_at = excluded.moved_at
"""  # noqa: S608  # constants

_SKIP_ENTRIES = """
SELECT setval(tableoid::regclass, $1) FROM relay_audit_id_seq
WHERE CASE WHEN is_called THEN last_value ELSE 0 END < $1
"""


class PostgresRows:
    """`rows.Rows` on one database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(self, after: int, limit: int, max_bytes: int) -> Sequence[Row]:
        """See rows.Rows."""

        async def work(session: StoreConnection) -> Sequence[Row]:
            return await _with_stories(session, await session.fetch(_PAGE, after, limit, max_bytes))

        return await self._database.read(work)

    async def pick(self, ids: Sequence[int]) -> Sequence[Row]:
        """See rows.Rows."""

        async def work(session: StoreConnection) -> Sequence[Row]:
            return await _with_stories(session, await session.fetch(_PICK, list(ids)))

        return await self._database.read(work)

    async def take_in(self, rows: Sequence[Row]) -> None:
        """See rows.Rows."""

        async def work(session: StoreConnection) -> None:
            await session.execute(_TAKE_IN, *_columns(_values(row) for row in rows))
            await session.execute(_FORGET_STORIES, [row.id for row in rows])
            told = [(row.id, at, what, _text(detail)) for row in rows for at, what, detail in row.history]
            if told:
                await session.execute(_TELL, *_columns(told))

        await self._database.write(work)

    async def last(self) -> int:
        """See rows.Rows."""

        async def work(session: StoreConnection) -> int:
            return int(await self._as_owner(session, _LAST))

        return await self._database.read(work)

    async def skip_to(self, last: int) -> None:
        """See rows.Rows."""

        async def work(session: StoreConnection) -> None:
            await self._as_owner(session, _SKIP_TO, last)

        if last > 0:
            await self._database.write(work)

    async def decided(self) -> Sequence[Decided]:
        """See rows.Rows."""

        async def work(session: StoreConnection) -> Sequence[Decided]:
            return [Decided(*values) for values in await session.fetch(_DECIDED)]

        return await self._database.read(work)

    async def decide(self, decided: Sequence[Decided]) -> None:
        """See rows.Rows."""

        async def work(session: StoreConnection) -> None:
            values = ((one.tenant_id, one.revision, one.paused) for one in decided)
            await session.execute(_DECIDE, *_columns(values))

        if decided:
            await self._database.write(work)

    async def entries(self, after: int, limit: int) -> Sequence[Entry]:
        """See rows.Rows."""

        async def work(session: StoreConnection) -> Sequence[Entry]:
            return [Entry(*values) for values in await session.fetch(_ENTRIES, after, limit)]

        return await self._database.read(work)

    async def enter(self, entries: Sequence[Entry]) -> None:
        """See rows.Rows."""

        async def work(session: StoreConnection) -> None:
            columns = _columns(map(astuple, entries))
            kept = ([_text(each) if isinstance(each, str) else each for each in column] for column in columns)
            await session.execute(_ENTER, *kept)
            await self._as_owner(session, _SKIP_ENTRIES, entries[-1].id)

        await self._database.write(work)

    async def _as_owner(self, session: StoreConnection, statement: str, *values: int) -> Any:
        try:
            return await session.fetchval(statement, *values)
        except InsufficientPrivilegeError as error:
            raise StoreError(
                f"this role may not give ids in the outbox {self._database.place.where}; "
                "copy as the role that owns the tables",
                lasting=True,
            ) from error


async def _with_stories(session: StoreConnection, found: Sequence[Record]) -> Sequence[Row]:
    stories: dict[int, list[tuple[datetime, str, str]]] = {}
    for row, at, what, detail in await session.fetch(_STORIES, [values["id"] for values in found]):
        stories.setdefault(row, []).append((at, what, detail))
    return [Row(*(*values, tuple(stories.get(values["id"], ())))) for values in found]


def _values(row: Row) -> tuple[object, ...]:
    return (
        row.id,
        row.tenant_id,
        row.document_name,
        row.message_id,
        row.to_logical_id,
        row.ordering_key,
        row.parameters,
        row.state,
        row.attempts,
        row.not_before,
        _text(row.reason),
        row.created_at,
        row.queued_at,
        row.settled_at,
        row.payload,
        row.payload_size,
    )


def _columns(rows: Iterable[tuple[object, ...]]) -> list[list[object]]:
    return [list(column) for column in zip(*rows, strict=True)]


def _text(text: str | None) -> str | None:
    """PostgreSQL keeps no NUL; SQLite does, and a far side's answer may have brought one into a reason."""
    return None if text is None else text.replace("\x00", "\ufffd")
