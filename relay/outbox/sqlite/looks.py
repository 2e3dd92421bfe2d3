"""This file is what operators look at: counts, messages, stories, and what a decision would change."""

import json
import sqlite3
from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import get_args

from relay.desk import AGES, Count, Filter, MessageState, Preview, Record, Shape, What
from relay.model import DocumentName, MessageId, OrderingKey, RowId, TenantId
from relay.outbox.decisions import states_of
from relay.outbox.sqlite import due, meant, tenants

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
       coalesce(payload_size,
                CASE typeof(payload) WHEN 'blob' THEN length(payload) ELSE length(CAST(payload AS BLOB)) END),
       state, reason, attempts, not_before, created_at, queued_at, settled_at
FROM relay_outbox WHERE id IN (SELECT value FROM json_each(?)) ORDER BY id
"""

_AHEAD = """
SELECT id FROM relay_outbox INDEXED BY relay_outbox_lanes
WHERE state = 'pending' AND tenant_id = ? AND document_name = ? AND ordering_key IS ? AND id < ?
ORDER BY id LIMIT 1
"""

_HISTORY = "SELECT at, what, detail FROM relay_history WHERE row = ? ORDER BY id"

_GROUPS = """
SELECT upper(tenant_id), document_name, state, count(*) FROM relay_outbox
WHERE id IN (SELECT value FROM json_each(?)) GROUP BY 1, 2, 3
"""

_PAYLOAD = """
SELECT substr(CAST(payload AS BLOB), 1, ?) FROM relay_outbox WHERE id = ? AND payload_size IS NULL
"""

# One row more than the limit: whether there are more.
_AGES = """
SELECT (julianday('now') - julianday(queued_at)) * 86400.0 FROM (
    SELECT * FROM (
        SELECT id, queued_at FROM relay_outbox INDEXED BY relay_outbox_lanes
        WHERE state = 'pending' AND tenant_id = :tenant AND document_name = :document AND ordering_key IS NULL
        ORDER BY id LIMIT :limit + 1)
    UNION ALL
    SELECT * FROM (
        SELECT id, queued_at FROM relay_outbox INDEXED BY relay_outbox_keyed
        WHERE state = 'pending' AND tenant_id = :tenant AND document_name = :document
          AND ordering_key IS NOT NULL
        ORDER BY id LIMIT :limit + 1))
ORDER BY id LIMIT :limit + 1
"""

_PREVIEWED = 5_000
"""Rows that are counted at a time."""

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


def size(connection: sqlite3.Connection) -> int:
    """Of the file, as far as it is in use."""
    (pages,), (bytes_,) = (
        connection.execute(f"PRAGMA {one}").fetchone() for one in ("page_count", "page_size")
    )
    return int(pages * bytes_)


def find(connection: sqlite3.Connection, wanted: Filter, limit: int) -> Sequence[Record]:
    """In the order of their rows."""
    states = _STATES if wanted.state is None else (wanted.state,)
    return _records(connection, meant.first(connection, wanted, states, limit))


def show(connection: sqlite3.Connection, message_id: MessageId, tenant: TenantId | None) -> Sequence[Record]:
    """With history."""
    ids = meant.first(connection, Filter(tenant=tenant, ids=(message_id,)), _STATES, limit=-1)
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


def payload(connection: sqlite3.Connection, row: RowId, limit: int) -> bytes | None:
    """The beginning of it."""
    found = connection.execute(_PAYLOAD, (limit, row)).fetchone()
    return None if found is None else bytes(found[0])


def shape(connection: sqlite3.Connection, tenant: TenantId | None, limit: int) -> Sequence[Shape]:
    """By tenant and document, each along the indexes of pending rows."""
    asked = sorted(tenants.pending(connection)) if tenant is None else [TenantId(tenant.upper())]
    return [
        _shape(connection, each, document, limit)
        for each in asked
        for document in sorted(due.documents(connection, each))
    ]


def _shape(connection: sqlite3.Connection, tenant: TenantId, document: DocumentName, limit: int) -> Shape:
    values = {"tenant": tenant, "document": document, "limit": limit}
    ages = [age for (age,) in connection.execute(_AGES, values)]
    buckets = Counter(bisect_right(AGES, age) for age in ages[:limit])
    counts = tuple(buckets[place] for place in range(len(AGES) + 1))
    return Shape(tenant, document, counts, more=len(ages) > limit)


def preview(connection: sqlite3.Connection, what: What, wanted: Filter, sample: int) -> Preview:
    """What a decision would change, in one snapshot."""
    moment = meant.moment(connection)
    frozen, states = replace(wanted, moment=moment), states_of(what, wanted)
    groups: Counter[tuple[TenantId, DocumentName, MessageState]] = Counter()
    last: RowId | None = RowId(0)
    while last is not None:
        page = meant.page(connection, frozen, states, _PREVIEWED, last)
        for tenant, document, state, number in connection.execute(_GROUPS, (json.dumps(page.ids),)):
            groups[TenantId(tenant), DocumentName(document), state] += number
        last = page.last
    first = _records(connection, meant.first(connection, frozen, states, sample))
    counted = tuple((*group, number) for group, number in groups.most_common())
    return Preview(what, frozen, groups.total(), counted, first)


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
