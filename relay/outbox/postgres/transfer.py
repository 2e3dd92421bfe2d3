"""The PostgreSQL outbox's rows as they are, to be copied into another outbox or out of one.

For the tables' owner: a relay's own role may neither give ids nor read the sequence they come from.
"""

from collections.abc import Iterable, Sequence
from dataclasses import astuple
from typing import Any

from asyncpg import InsufficientPrivilegeError

from relay.core.ports import StoreError
from relay.outbox.postgres.connection import Row, StoreConnection
from relay.outbox.postgres.database import Database, reading, writing
from relay.outbox.transfer_rows import StoredAuditEntry, StoredControl, StoredMessage
from relay.outbox.values import History

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

_BY_IDS = f"SELECT {_COLUMNS} FROM relay_outbox WHERE id = ANY($1::bigint[]) ORDER BY id"  # noqa: S608  # constants

_HISTORIES = """
SELECT message_row, at, replace(what, 'blamed', 'counted'), detail FROM relay_history
WHERE message_row = ANY($1::bigint[]) ORDER BY message_row, id
"""

_WRITE_ROWS = f"""
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

_DELETE_HISTORIES = "DELETE FROM relay_history WHERE message_row = ANY($1::bigint[])"

_ADD_HISTORY = """
INSERT INTO relay_history (message_row, at, what, detail)
SELECT message_row, at, what, detail
FROM unnest($1::bigint[], $2::timestamptz[], $3::text[], $4::text[])
    WITH ORDINALITY AS given (message_row, at, what, detail, place)
ORDER BY place
"""

_LAST = "SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM relay_outbox_id_seq"

_SKIP_IDS = """
SELECT setval(tableoid::regclass, $1) FROM relay_outbox_id_seq
WHERE CASE WHEN is_called THEN last_value ELSE 0 END < $1
"""

_CONTROLS = "SELECT tenant_id, revision, paused FROM relay_tenants WHERE revision > 0 ORDER BY tenant_id"

_WRITE_CONTROLS = """
INSERT INTO relay_tenants AS known (tenant_id, revision, paused)
SELECT * FROM unnest($1::text[], $2::bigint[], $3::text[])
ON CONFLICT (tenant_id) DO UPDATE SET
    revision = greatest(known.revision, excluded.revision), paused = excluded.paused
"""


_ENTRY_COLUMNS = """
    id, at, who, what, tenant_id, selection, reason, messages, outcome, ended_at, wanted, reached, moved_at
"""

_AUDIT_PAGE = f"SELECT {_ENTRY_COLUMNS} FROM relay_audit WHERE id > $1 ORDER BY id LIMIT $2"  # noqa: S608  # constants

_WRITE_AUDIT = f"""
INSERT INTO relay_audit ({_ENTRY_COLUMNS}) OVERRIDING SYSTEM VALUE
SELECT id, at, who, what, tenant_id, selection, reason, messages, outcome, ended_at, wanted::json, reached,
       moved_at
FROM unnest($1::bigint[], $2::timestamptz[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[],
            $8::bigint[], $9::text[], $10::timestamptz[], $11::text[], $12::bigint[], $13::timestamptz[])
    AS given ({_ENTRY_COLUMNS})
ON CONFLICT (id) DO UPDATE SET
    messages = excluded.messages, outcome = excluded.outcome, ended_at = excluded.ended_at,
    reached = excluded.reached, moved_at = excluded.moved_at
"""  # noqa: S608  # constants

_SKIP_AUDIT_IDS = """
SELECT setval(tableoid::regclass, $1) FROM relay_audit_id_seq
WHERE CASE WHEN is_called THEN last_value ELSE 0 END < $1
"""


async def read_page(
    session: StoreConnection, after: int, limit: int, max_bytes: int
) -> Sequence[StoredMessage]:
    """In the order of their ids."""
    return await _with_histories(session, await session.fetch(_PAGE, after, limit, max_bytes))


async def read_rows(session: StoreConnection, ids: Sequence[int]) -> Sequence[StoredMessage]:
    """In the order of their ids."""
    return await _with_histories(session, await session.fetch(_BY_IDS, list(ids)))


async def _with_histories(session: StoreConnection, found: Sequence[Row]) -> Sequence[StoredMessage]:
    histories: dict[int, History] = {}
    for row, at, what, detail in await session.fetch(_HISTORIES, [values["id"] for values in found]):
        histories[row] = (*histories.get(row, ()), (at, what, detail))
    return [StoredMessage(*(*values, histories.get(values["id"], ()))) for values in found]


async def write_rows(session: StoreConnection, rows: Sequence[StoredMessage]) -> None:
    """With their histories."""
    await session.execute(_WRITE_ROWS, *_transpose(row.columns for row in rows))
    await session.execute(_DELETE_HISTORIES, [row.id for row in rows])
    entries = [(row.id, at, what, detail) for row in rows for at, what, detail in row.history]
    if entries:
        await session.execute(_ADD_HISTORY, *_transpose(entries))


async def last_id(session: StoreConnection) -> int:
    """From the table's sequence."""
    return int(await _as_owner(session, _LAST))


async def skip_ids(session: StoreConnection, last: int) -> None:
    """Moves the sequence."""
    if last > 0:
        await _as_owner(session, _SKIP_IDS, last)


async def read_controls(session: StoreConnection) -> Sequence[StoredControl]:
    """By tenant."""
    return [StoredControl(*values) for values in await session.fetch(_CONTROLS)]


async def write_controls(session: StoreConnection, controls: Sequence[StoredControl]) -> None:
    """Greater revisions win."""
    if controls:
        await session.execute(_WRITE_CONTROLS, *_transpose(map(astuple, controls)))


async def read_audit(session: StoreConnection, after: int, limit: int) -> Sequence[StoredAuditEntry]:
    """By id."""
    return [StoredAuditEntry(*values) for values in await session.fetch(_AUDIT_PAGE, after, limit)]


async def write_audit(session: StoreConnection, entries: Sequence[StoredAuditEntry]) -> None:
    """Each as a whole; moves the sequence too."""
    await session.execute(_WRITE_AUDIT, *_transpose(map(astuple, entries)))
    await _as_owner(session, _SKIP_AUDIT_IDS, entries[-1].id)


async def _as_owner(session: StoreConnection, statement: str, *values: int) -> Any:
    try:
        return await session.fetchval(statement, *values)
    except InsufficientPrivilegeError as error:
        raise StoreError(
            f"this role may not give ids in the outbox {session.where}; "
            "copy as the role that owns the tables",
            lasting=True,
        ) from error


def _transpose(rows: Iterable[Sequence[object]]) -> list[list[object]]:
    """Rows to columns. PostgreSQL keeps no NUL; SQLite does, where ION's answer brought one into a reason."""
    columns = zip(*rows, strict=True)
    return [
        [value.replace("\x00", "\ufffd") if isinstance(value, str) else value for value in column]
        for column in columns
    ]


class PostgresTransfer:
    """`transfer_rows.Transfer` on one database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    read_page = reading(read_page)
    read_rows = reading(read_rows)
    write_rows = writing(write_rows)
    last_id = reading(last_id)
    skip_ids = writing(skip_ids)
    read_controls = reading(read_controls)
    write_controls = writing(write_controls)
    read_audit = reading(read_audit)
    write_audit = writing(write_audit)
