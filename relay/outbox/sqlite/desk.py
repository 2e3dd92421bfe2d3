"""This file is the outbox as operators see it: count, look through, show, and decide about messages.

Decisions come in chunks of rows, one short transaction each, so that the relay's settlements and the
applications' inserts get in between however many rows are meant.
"""

import json
import sqlite3
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import get_args

from relay.model import DocumentName, MessageId, OrderingKey, RowId, TenantId
from relay.outbox.sqlite import due, tenants
from relay.ports import Count, Filter, MessageState, Record

_OLDEST_LOOKED_AT = 20
"""Rows a document and lane kind; a retried one is queued anew at its old place and may hide older ones."""

_COUNTS = """
SELECT upper(tenant_id), max(pending, 0), max(delivered, 0), max(parked, 0), max(dropped, 0)
FROM relay_counts ORDER BY tenant_id
"""

_OLDEST_WITHOUT_KEY = """
SELECT min(queued_at) FROM (
    SELECT queued_at FROM relay_outbox INDEXED BY relay_outbox_lanes
    WHERE state = 'pending' AND tenant_id = ? AND document_name = ? AND ordering_key IS NULL
      AND (not_before IS NULL OR not_before <= strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
    ORDER BY id LIMIT ?)
"""

_OLDEST_KEYED = """
SELECT min(queued_at) FROM (
    SELECT queued_at FROM relay_outbox INDEXED BY relay_outbox_keyed
    WHERE state = 'pending' AND ordering_key IS NOT NULL AND tenant_id = ? AND document_name = ?
      AND (not_before IS NULL OR not_before <= strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
    ORDER BY id LIMIT ?)
"""

_AGE = "SELECT max(0.0, (julianday('now') - julianday(?)) * 86400.0)"

_RECORDS = """
SELECT id, upper(tenant_id), document_name, message_id, to_logical_id, ordering_key, parameters,
       CASE typeof(payload) WHEN 'blob' THEN length(payload) ELSE length(CAST(payload AS BLOB)) END,
       state, reason, attempts, not_before, created_at, queued_at, settled_at
FROM relay_outbox WHERE id IN (SELECT value FROM json_each(?)) ORDER BY id
"""

_BY_IDS = """
SELECT id FROM relay_outbox
WHERE message_id IN (SELECT value FROM json_each(:ids)) AND id > :after
  AND (:tenant IS NULL OR tenant_id = :tenant) AND (:document IS NULL OR document_name = :document)
  AND state IN (SELECT value FROM json_each(:states))
ORDER BY id LIMIT :limit
"""

_ASIDE = """
SELECT id FROM relay_outbox INDEXED BY relay_outbox_aside
WHERE (state = 'parked' OR state = 'dropped') AND state = :state AND id > :after
  AND (:tenant IS NULL OR tenant_id = :tenant) AND (:document IS NULL OR document_name = :document)
ORDER BY id LIMIT :limit
"""

_OF_TENANT = """
SELECT id FROM relay_outbox INDEXED BY relay_outbox_tenant
WHERE tenant_id = :tenant AND id > :after AND (:document IS NULL OR document_name = :document)
  AND state IN (SELECT value FROM json_each(:states))
ORDER BY id LIMIT :limit
"""

_OF_ALL = """
SELECT id FROM relay_outbox NOT INDEXED
WHERE id > :after AND (:document IS NULL OR document_name = :document)
  AND state IN (SELECT value FROM json_each(:states))
ORDER BY id LIMIT :limit
"""

_AHEAD = """
SELECT id FROM relay_outbox INDEXED BY relay_outbox_lanes
WHERE state = 'pending' AND tenant_id = ? AND document_name = ? AND ordering_key IS ? AND id < ?
ORDER BY id LIMIT 1
"""

_HISTORY = "SELECT at, what, detail FROM relay_history WHERE row = ? ORDER BY id"

_STATES: tuple[MessageState, ...] = get_args(MessageState)


# --- looking --------------------------------------------------------------------------------------


def counts(connection: sqlite3.Connection) -> Mapping[TenantId, Count]:
    """From the counters that triggers keep; the oldest from the heads of the pending rows."""
    found = {}
    for tenant, pending, delivered, parked, dropped in connection.execute(_COUNTS).fetchall():
        if pending or delivered or parked or dropped:
            oldest = _oldest_due(connection, tenant) if pending else None
            found[TenantId(tenant)] = Count(pending, delivered, parked, dropped, oldest)
    return found


def _oldest_due(connection: sqlite3.Connection, tenant: TenantId) -> float | None:
    heads = [
        connection.execute(sql, (tenant, document, _OLDEST_LOOKED_AT)).fetchone()[0]
        for document in due.documents(connection, tenant)
        for sql in (_OLDEST_WITHOUT_KEY, _OLDEST_KEYED)
    ]
    oldest = min((head for head in heads if head is not None), default=None)
    if oldest is None:
        return None
    (age,) = connection.execute(_AGE, (oldest,)).fetchone()
    return float(age)


def find(connection: sqlite3.Connection, wanted: Filter, limit: int) -> Sequence[Record]:
    """In the order of their rows."""
    states = _STATES if wanted.state is None else (wanted.state,)
    return _records(connection, select(connection, wanted, states, limit))


def show(connection: sqlite3.Connection, message_id: MessageId, tenant: TenantId | None) -> Sequence[Record]:
    """With history."""
    ids = select(connection, Filter(tenant=tenant, ids=(message_id,)), _STATES, limit=-1)
    return _records(connection, ids, with_history=True)


def ahead(connection: sqlite3.Connection, record: Record) -> Record | None:
    """The head of its lane, over all documents, if that is another message."""
    heads = [
        row
        for document in due.documents(connection, record.tenant_id)
        for row in connection.execute(_AHEAD, (record.tenant_id, document, record.ordering_key, record.row))
    ]
    found = _records(connection, [RowId(row) for (row,) in sorted(heads)[:1]])
    return found[0] if found else None


def newest_row(connection: sqlite3.Connection) -> RowId:
    """The highest id so far: what comes later is not meant by a decision taken now."""
    (row,) = connection.execute("SELECT coalesce(max(id), 0) FROM relay_outbox").fetchone()
    return RowId(row)


def select(
    connection: sqlite3.Connection, wanted: Filter, states: Sequence[MessageState], limit: int, after: int = 0
) -> list[RowId]:
    """The lowest ids behind `after` that are meant and in one of the states; each way along an index."""
    values = {
        "ids": json.dumps(wanted.ids),
        "tenant": wanted.tenant,
        "document": wanted.document,
        "states": json.dumps(states),
        "limit": limit,
        "after": after,
    }
    if wanted.ids:
        return _ids(connection, _BY_IDS, values)
    if "delivered" in states:
        return _ids(connection, _OF_ALL if wanted.tenant is None else _OF_TENANT, values)
    found = set[RowId]()
    for state in states:
        if state == "pending":
            found.update(_pending(connection, wanted, limit, after))
        else:
            found.update(_ids(connection, _ASIDE, values | {"state": state}))
    return sorted(found)[:limit]


def _pending(connection: sqlite3.Connection, wanted: Filter, limit: int, after: int) -> list[RowId]:
    span = due.Span(frozenset(), frozenset(), limit, after)
    asked = tenants.pending(connection) if wanted.tenant is None else [wanted.tenant]
    found: list[RowId] = []
    for tenant in asked:
        names = due.documents(connection, tenant)
        names = names if wanted.document is None else names & {wanted.document}
        found += due.pending_ids(connection, tenant, names, span)
    return found


def _ids(connection: sqlite3.Connection, sql: str, values: Mapping[str, object]) -> list[RowId]:
    return [RowId(row) for (row,) in connection.execute(sql, values)]


def _records(
    connection: sqlite3.Connection, ids: Sequence[RowId], *, with_history: bool = False
) -> Sequence[Record]:
    return [
        Record(
            row=row[0],
            tenant_id=row[1],
            document_name=DocumentName(row[2]),
            message_id=MessageId(row[3]),
            to_logical_id=row[4],
            ordering_key=None if row[5] is None else OrderingKey(row[5]),
            parameters=json.loads(row[6]),
            size=row[7],
            state=row[8],
            reason=row[9],
            attempts=row[10],
            not_before=None if row[11] is None else tenants.instant(row[11]),
            created_at=tenants.instant(row[12]),
            queued_at=tenants.instant(row[13]),
            settled_at=None if row[14] is None else tenants.instant(row[14]),
            history=_history(connection, row[0]) if with_history else (),
        )
        for row in connection.execute(_RECORDS, (json.dumps(ids),)).fetchall()
    ]


def _history(connection: sqlite3.Connection, row: RowId) -> tuple[tuple[datetime, str, str], ...]:
    return tuple(
        (tenants.instant(at), what, detail) for at, what, detail in connection.execute(_HISTORY, (row,))
    )
