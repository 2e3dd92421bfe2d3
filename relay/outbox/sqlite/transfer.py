"""This file is the SQLite outbox's rows as they are, to be copied into another outbox or out of one."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import astuple
from datetime import datetime
from functools import partial
from sqlite3 import Connection
from typing import Any

from relay.outbox.sqlite.database import Database
from relay.outbox.sqlite.tenants import instant, instant_text
from relay.outbox.transfer_rows import Decided, Entry, Row

_COLUMNS = """
    id, tenant_id, document_name, message_id, to_logical_id, ordering_key, parameters, state, attempts,
    not_before, reason, created_at, queued_at, settled_at, CAST(payload AS BLOB), payload_size
"""

_PAGE = f"SELECT {_COLUMNS} FROM relay_outbox WHERE id > ? ORDER BY id LIMIT ?"  # noqa: S608  # constants

_PICK = f"""
SELECT {_COLUMNS} FROM relay_outbox WHERE id IN (SELECT value FROM json_each(?)) ORDER BY id
"""  # noqa: S608  # constants

_STORIES = """
SELECT row, at, replace(what, 'blamed', 'counted'), detail FROM relay_history
WHERE row IN (SELECT value FROM json_each(?)) ORDER BY row, id
"""

_TAKE_IN = """
INSERT INTO relay_outbox (
    id, tenant_id, document_name, message_id, to_logical_id, ordering_key, parameters, state, attempts,
    not_before, reason, created_at, queued_at, settled_at, payload, payload_size
) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (id) DO UPDATE SET
    state = excluded.state, attempts = excluded.attempts, not_before = excluded.not_before,
    reason = excluded.reason, queued_at = excluded.queued_at, settled_at = excluded.settled_at,
    payload = excluded.payload, payload_size = excluded.payload_size
"""

_FORGET_STORIES = "DELETE FROM relay_history WHERE row IN (SELECT value FROM json_each(?))"

_TELL = "INSERT INTO relay_history (row, at, what, detail) VALUES (?, ?, ?, ?)"

_LAST = "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'relay_outbox'"

_DECIDE = """
INSERT INTO relay_tenants (tenant_id, revision, paused) VALUES (upper(?), ?, ?)
ON CONFLICT (tenant_id) DO UPDATE SET revision = max(revision, excluded.revision), paused = excluded.paused
"""


_ENTRY = """
    id, at, who, what, tenant_id, selection, reason, messages, outcome, ended_at, wanted, reached, moved_at
"""

_ENTRIES = f"SELECT {_ENTRY} FROM relay_audit WHERE id > ? ORDER BY id LIMIT ?"  # noqa: S608  # constants

_ENTER = f"""
INSERT OR REPLACE INTO relay_audit ({_ENTRY}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""  # noqa: S608  # constants


class SqliteRows:
    """`rows.Rows` on one SQLite file."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(self, after: int, limit: int, max_bytes: int) -> Sequence[Row]:
        """See rows.Rows."""
        return await self._database.read(partial(_page, after=after, limit=limit, max_bytes=max_bytes))

    async def pick(self, ids: Sequence[int]) -> Sequence[Row]:
        """See rows.Rows."""
        return await self._database.read(partial(_pick, ids=ids))

    async def take_in(self, rows: Sequence[Row]) -> None:
        """See rows.Rows."""
        await self._database.write(partial(_take_in, rows=rows))

    async def last(self) -> int:
        """See rows.Rows."""
        return await self._database.read(_last)

    async def skip_to(self, last: int) -> None:
        """See rows.Rows."""
        await self._database.write(partial(_skip_to, last=last))

    async def decided(self) -> Sequence[Decided]:
        """See rows.Rows."""
        return await self._database.read(_decided)

    async def decide(self, decided: Sequence[Decided]) -> None:
        """See rows.Rows."""
        await self._database.write(partial(_decide, decided=decided))

    async def entries(self, after: int, limit: int) -> Sequence[Entry]:
        """See rows.Rows."""
        return await self._database.read(partial(_entries, after=after, limit=limit))

    async def enter(self, entries: Sequence[Entry]) -> None:
        """See rows.Rows."""
        await self._database.write(partial(_enter, entries=entries))


def _page(connection: Connection, after: int, limit: int, max_bytes: int) -> Sequence[Row]:
    found: list[tuple[Any, ...]] = []
    size = 0
    for values in connection.execute(_PAGE, (after, limit)):
        size += len(values[-2])
        if found and size > max_bytes:
            break
        found.append(values)
    return _with_stories(connection, found)


def _pick(connection: Connection, ids: Sequence[int]) -> Sequence[Row]:
    return _with_stories(connection, connection.execute(_PICK, (json.dumps(list(ids)),)).fetchall())


def _with_stories(connection: Connection, found: Sequence[tuple[Any, ...]]) -> Sequence[Row]:
    stories: dict[int, list[tuple[datetime, str, str]]] = {}
    ids = json.dumps([values[0] for values in found])
    for row, at, what, detail in connection.execute(_STORIES, (ids,)):
        stories.setdefault(row, []).append((instant(at), what, detail))
    return [_row(values, stories.get(values[0], ())) for values in found]


def _row(values: tuple[Any, ...], story: Iterable[tuple[datetime, str, str]]) -> Row:
    *said, not_before, reason, created_at, queued_at, settled_at, payload, payload_size = values
    times = instant(created_at), instant(queued_at), _instant(settled_at)
    everything = (*said, _instant(not_before), reason, *times, payload, payload_size, tuple(story))
    return Row(*everything)


def _take_in(connection: Connection, rows: Sequence[Row]) -> None:
    connection.executemany(_TAKE_IN, [_values(row) for row in rows])
    connection.execute(_FORGET_STORIES, (json.dumps([row.id for row in rows]),))
    told = ((row.id, instant_text(at), what, detail) for row in rows for at, what, detail in row.history)
    connection.executemany(_TELL, told)


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
        row.not_before and instant_text(row.not_before),
        row.reason,
        instant_text(row.created_at),
        instant_text(row.queued_at),
        row.settled_at and instant_text(row.settled_at),
        row.payload,
        row.payload_size,
    )


def _last(connection: Connection) -> int:
    (last,) = connection.execute(_LAST).fetchone()
    return int(last)


def _skip_to(connection: Connection, last: int) -> None:
    changed = connection.execute(
        "UPDATE sqlite_sequence SET seq = max(seq, ?) WHERE name = 'relay_outbox'", (last,)
    )
    if not changed.rowcount:
        connection.execute("INSERT INTO sqlite_sequence (name, seq) VALUES ('relay_outbox', ?)", (last,))


def _decided(connection: Connection) -> Sequence[Decided]:
    query = "SELECT upper(tenant_id), revision, paused FROM relay_tenants WHERE revision > 0 ORDER BY 1"
    return [Decided(*values) for values in connection.execute(query)]


def _decide(connection: Connection, decided: Sequence[Decided]) -> None:
    connection.executemany(_DECIDE, [(one.tenant_id, one.revision, one.paused) for one in decided])


def _entries(connection: Connection, after: int, limit: int) -> Sequence[Entry]:
    return [_entry(values) for values in connection.execute(_ENTRIES, (after, limit))]


def _entry(values: tuple[Any, ...]) -> Entry:
    number, at, *said, ended_at, wanted, reached, moved_at = values
    everything = (number, instant(at), *said, _instant(ended_at), wanted, reached, instant(moved_at))
    return Entry(*everything)


def _enter(connection: Connection, entries: Sequence[Entry]) -> None:
    values = map(astuple, entries)
    texts = ([instant_text(each) if isinstance(each, datetime) else each for each in one] for one in values)
    connection.executemany(_ENTER, texts)


def _instant(text: str | None) -> datetime | None:
    return None if text is None else instant(text)
