"""The SQLite outbox's rows as they are, to be copied into another outbox or out of one."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import astuple
from datetime import datetime
from sqlite3 import Connection
from typing import Any

from relay.outbox.sqlite.database import Database, reading, writing
from relay.outbox.sqlite.instants import format_instant, parse_instant
from relay.outbox.transfer_rows import StoredAuditEntry, StoredControl, StoredMessage
from relay.outbox.values import MAX_ATTEMPTS, History

# What is read of an id that is not UTF-8 may be another's too: the row's number makes it one of its own.
_MESSAGE_ID = """
    CASE WHEN CAST(as_read(CAST(message_id AS BLOB)) AS BLOB) = CAST(message_id AS BLOB) THEN message_id
         ELSE substr(as_read(CAST(message_id AS BLOB)), 1, 200) || ' row ' || id END
"""

_COLUMNS = f"""
    id, tenant_id, document_name, {_MESSAGE_ID}, to_logical_id, ordering_key, parameters, state,
    min(attempts, {MAX_ATTEMPTS}), not_before, CAST(reason AS TEXT), created_at, queued_at, settled_at,
    CAST(payload AS BLOB), CAST(payload_size AS INTEGER)
"""

_PAGE = f"SELECT {_COLUMNS} FROM relay_outbox WHERE id > ? ORDER BY id LIMIT ?"  # noqa: S608  # constants

_BY_IDS = f"""
SELECT {_COLUMNS} FROM relay_outbox WHERE id IN (SELECT value FROM json_each(?)) ORDER BY id
"""  # noqa: S608  # constants

_HISTORIES = """
SELECT row, CAST(at AS TEXT), replace(what, 'blamed', 'counted'), CAST(detail AS TEXT) FROM relay_history
WHERE row IN (SELECT value FROM json_each(?)) ORDER BY row, id
"""

_WRITE_ROW = """
INSERT INTO relay_outbox (
    id, tenant_id, document_name, message_id, to_logical_id, ordering_key, parameters, state, attempts,
    not_before, reason, created_at, queued_at, settled_at, payload, payload_size
) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (id) DO UPDATE SET
    state = excluded.state, attempts = excluded.attempts, not_before = excluded.not_before,
    reason = excluded.reason, queued_at = excluded.queued_at, settled_at = excluded.settled_at,
    payload = excluded.payload, payload_size = excluded.payload_size
"""

_DELETE_HISTORIES = "DELETE FROM relay_history WHERE row IN (SELECT value FROM json_each(?))"

_ADD_HISTORY = "INSERT INTO relay_history (row, at, what, detail) VALUES (?, ?, ?, ?)"

_LAST = "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'relay_outbox'"

_WRITE_CONTROL = """
INSERT INTO relay_tenants (tenant_id, revision, paused) VALUES (upper(?), ?, ?)
ON CONFLICT (tenant_id) DO UPDATE SET revision = max(revision, excluded.revision), paused = excluded.paused
"""


_ENTRY_COLUMNS = """
    id, at, who, what, tenant_id, selection, reason, messages, outcome, ended_at, wanted, reached, moved_at
"""

_AUDIT_PAGE = """
SELECT id, CAST(at AS TEXT), CAST(who AS TEXT), CAST(what AS TEXT), CAST(tenant_id AS TEXT),
       CAST(selection AS TEXT), CAST(reason AS TEXT), CAST(messages AS INTEGER), outcome,
       CAST(ended_at AS TEXT), CASE WHEN json_valid(wanted) THEN wanted END, CAST(reached AS INTEGER),
       CAST(moved_at AS TEXT)
FROM relay_audit WHERE id > ? ORDER BY id LIMIT ?
"""

_WRITE_ENTRY = f"""
INSERT OR REPLACE INTO relay_audit ({_ENTRY_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""  # noqa: S608  # constants

_CONTROLS = """
SELECT upper(CAST(tenant_id AS TEXT)), CAST(revision AS INTEGER), CAST(paused AS TEXT)
FROM relay_tenants WHERE revision > 0 ORDER BY 1
"""

_SKIP_IDS = "UPDATE sqlite_sequence SET seq = max(seq, ?) WHERE name = 'relay_outbox'"

_FIRST_SEQUENCE = "INSERT INTO sqlite_sequence (name, seq) VALUES ('relay_outbox', ?)"


def read_page(connection: Connection, after: int, limit: int, max_bytes: int) -> Sequence[StoredMessage]:
    """Row by row, so that no more is read than fits."""
    found: list[tuple[Any, ...]] = []
    size = 0
    for values in connection.execute(_PAGE, (after, limit)):
        size += len(values[-2])
        if found and size > max_bytes:
            break
        found.append(values)
    return _with_histories(connection, found)


def read_rows(connection: Connection, ids: Sequence[int]) -> Sequence[StoredMessage]:
    """In the order of their ids."""
    return _with_histories(connection, connection.execute(_BY_IDS, (json.dumps(list(ids)),)).fetchall())


def _with_histories(connection: Connection, found: Sequence[tuple[Any, ...]]) -> Sequence[StoredMessage]:
    histories: dict[int, History] = {}
    ids = json.dumps([values[0] for values in found])
    for row, at, what, detail in connection.execute(_HISTORIES, (ids,)):
        histories[row] = (*histories.get(row, ()), (parse_instant(at), what, detail))
    return [_stored_message(values, histories.get(values[0], ())) for values in found]


def _stored_message(values: tuple[Any, ...], history: History) -> StoredMessage:
    *first, not_before, reason, created_at, queued_at, settled_at, payload, payload_size = values
    times = parse_instant(created_at), parse_instant(queued_at), _optional_instant(settled_at)
    return StoredMessage(
        *(*first, _optional_instant(not_before), reason, *times, payload, payload_size, history)
    )


def write_rows(connection: Connection, rows: Sequence[StoredMessage]) -> None:
    """With their histories."""
    connection.executemany(_WRITE_ROW, _format(row.columns for row in rows))
    connection.execute(_DELETE_HISTORIES, (json.dumps([row.id for row in rows]),))
    entries = ((row.id, at, what, detail) for row in rows for at, what, detail in row.history)
    connection.executemany(_ADD_HISTORY, _format(entries))


def last_id(connection: Connection) -> int:
    """From the table's sequence."""
    (last,) = connection.execute(_LAST).fetchone()
    return int(last)


def skip_ids(connection: Connection, last: int) -> None:
    """The sequence begins with the first row, or here."""
    if not connection.execute(_SKIP_IDS, (last,)).rowcount:
        connection.execute(_FIRST_SEQUENCE, (last,))


def read_controls(connection: Connection) -> Sequence[StoredControl]:
    """By tenant."""
    return [StoredControl(*values) for values in connection.execute(_CONTROLS)]


def write_controls(connection: Connection, controls: Sequence[StoredControl]) -> None:
    """Greater revisions win."""
    connection.executemany(_WRITE_CONTROL, [astuple(control) for control in controls])


def read_audit(connection: Connection, after: int, limit: int) -> Sequence[StoredAuditEntry]:
    """By id."""
    return [_stored_entry(values) for values in connection.execute(_AUDIT_PAGE, (after, limit))]


def _stored_entry(values: tuple[Any, ...]) -> StoredAuditEntry:
    number, at, *facts, ended_at, wanted, reached, moved_at = values
    times = parse_instant(at), _optional_instant(ended_at), parse_instant(moved_at)
    return StoredAuditEntry(*(number, times[0], *facts, times[1], wanted, reached, times[2]))


def write_audit(connection: Connection, entries: Sequence[StoredAuditEntry]) -> None:
    """Each as a whole."""
    connection.executemany(_WRITE_ENTRY, _format(map(astuple, entries)))


def _format(rows: Iterable[Sequence[object]]) -> Iterator[Sequence[object]]:
    for row in rows:
        yield [format_instant(value) if isinstance(value, datetime) else value for value in row]


def _optional_instant(text: str | None) -> datetime | None:
    return None if text is None else parse_instant(text)


class SqliteTransfer:
    """`transfer_rows.Transfer` on one file."""

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
