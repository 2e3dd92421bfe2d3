"""What operators read, on SQLite: counts, messages with their history, previews of bulk actions."""

import json
import sqlite3
from bisect import bisect_right
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import get_args

from relay.core.admin import AGES, FIRST, Action, Count, Filter, MessageState, Preview, QueueAges, Record
from relay.core.model import DocumentName, MessageId, Ordering, RowId, TenantId
from relay.outbox.bulk import states_of
from relay.outbox.sqlite import due, selection, tenants
from relay.outbox.sqlite.instants import parse_instant
from relay.outbox.sqlite.json_rows import in_one_step, integer, row_ids, rows, text
from relay.outbox.values import EXAMINED, READ_PARAMETERS, History, PendingFilter, message_record

_OLDEST_EXAMINED = 5
"""Rows a document and lane kind; a retried one is queued anew at its old place and may hide older ones."""

_IS_DUE = "(not_before IS NULL OR not_before <= strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))"

_COUNTS = in_one_step(
    5,
    f"""
SELECT upper(tenant_id), max({integer("pending")}, 0), max({integer("delivered")}, 0),
       max({integer("parked")}, 0), max({integer("dropped")}, 0)
FROM relay_counts ORDER BY tenant_id
""",  # noqa: S608  # constants
)

# Of the first pending rows of each tenant's documents, without a key and with one: the oldest that is due.
_OLDEST = in_one_step(
    2,
    f"""
WITH head(tenant, document) AS (
    SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]') FROM json_each(?1)
)
SELECT tenant, (
    SELECT (julianday('now') - julianday(min(queued_at))) * 86400.0 FROM (
        SELECT queued_at FROM relay_outbox INDEXED BY relay_outbox_lanes
        WHERE state = 'pending' AND tenant_id = head.tenant AND document_name = head.document
          AND ordering_key IS NULL AND {_IS_DUE}
        ORDER BY id LIMIT {_OLDEST_EXAMINED}))
FROM head
UNION ALL
SELECT tenant, (
    SELECT (julianday('now') - julianday(min(queued_at))) * 86400.0 FROM (
        SELECT queued_at FROM relay_outbox INDEXED BY relay_outbox_keyed
        WHERE state = 'pending' AND ordering_key IS NOT NULL AND tenant_id = head.tenant
          AND document_name = head.document AND {_IS_DUE}
        ORDER BY id LIMIT {_OLDEST_EXAMINED}))
FROM head
""",  # noqa: S608  # constants
)

# The casts are for rows that were written with the constraints switched off.
_TEXTS = ("document_name", "message_id", "to_logical_id", "ordering_key")
_INSTANTS = ("not_before", "created_at", "queued_at", "settled_at")
_RECORDS = in_one_step(
    15,
    f"""
SELECT id, upper(tenant_id), {", ".join(map(text, _TEXTS))},
       substr(CAST(parameters AS TEXT), 1, {READ_PARAMETERS}),
       coalesce({integer("payload_size")},
                CASE typeof(payload) WHEN 'blob' THEN length(payload) ELSE length(CAST(payload AS BLOB)) END),
       {text("state")}, {text("reason")}, {integer("attempts")}, {", ".join(map(text, _INSTANTS))}
FROM relay_outbox WHERE id IN (SELECT value FROM json_each(?)) ORDER BY id
""",  # noqa: S608  # constants
)

_BEFORE = in_one_step(
    1,
    """
SELECT id FROM relay_outbox INDEXED BY relay_outbox_lanes
WHERE state = 'pending' AND tenant_id = ? AND document_name = ? AND ordering_key IS ? AND id < ?
ORDER BY id LIMIT ?
""",
)

_HISTORY = in_one_step(
    3,
    f"""
SELECT {text("at")}, replace(what, 'blamed', 'counted'), {text("detail")}
FROM relay_history WHERE row = ? ORDER BY id
""",  # noqa: S608  # constants
)

_GROUPS = in_one_step(
    4,
    """
SELECT upper(tenant_id), document_name, state, count(*) FROM relay_outbox
WHERE id IN (SELECT value FROM json_each(?)) GROUP BY 1, 2, 3
""",
)

_PAYLOAD = """
SELECT substr(CAST(payload AS BLOB), 1, ?) FROM relay_outbox WHERE id = ? AND payload_size IS NULL
"""

# One row more than the limit: whether there are more.
_AGES = in_one_step(
    1,
    """
SELECT coalesce((julianday('now') - julianday(queued_at)) * 86400.0, 0.0) FROM (
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
""",
)

_STATES: tuple[MessageState, ...] = get_args(MessageState)


# --- queries --------------------------------------------------------------------------------------


def counts(connection: sqlite3.Connection) -> Mapping[TenantId, Count]:
    """From the counters that triggers keep; the oldest from the heads of the pending rows."""
    found = rows(connection, _COUNTS)
    oldest = _oldest_due(connection, [tenant for tenant, pending, *_ in found if pending])
    return {
        TenantId(tenant): Count(pending, delivered, parked, dropped, oldest.get(tenant))
        for tenant, pending, delivered, parked, dropped in found
        if pending or delivered or parked or dropped
    }


def _oldest_due(connection: sqlite3.Connection, of: Sequence[TenantId]) -> Mapping[TenantId, float]:
    documents = due.documents_of(connection, of)
    heads = json.dumps([(tenant, name) for tenant, names in documents.items() for name in names])
    oldest: dict[TenantId, float] = {}
    for tenant, age in rows(connection, _OLDEST, (heads,)):
        if age is not None:  # none is due; a clock that was set back makes negative ones
            oldest[tenant] = max(age, oldest.get(tenant, 0.0))
    return oldest


def size(connection: sqlite3.Connection) -> int:
    """Of the file, as far as it is in use."""
    (pages,), (bytes_,) = (
        connection.execute(f"PRAGMA {one}").fetchone() for one in ("page_count", "page_size")
    )
    return int(pages * bytes_)


def find(
    connection: sqlite3.Connection, wanted: Filter, limit: int, after: RowId = FIRST
) -> Sequence[Record]:
    """In the order of their rows."""
    states = _STATES if wanted.state is None else (wanted.state,)
    return _records(connection, selection.first(connection, wanted, states, limit, after))


def show(connection: sqlite3.Connection, message_id: MessageId, tenant: TenantId | None) -> Sequence[Record]:
    """With history."""
    ids = selection.first(connection, Filter(tenant=tenant, ids=(message_id,)), _STATES, limit=-1)
    return _records(connection, ids, with_history=True)


def before(
    connection: sqlite3.Connection,
    record: Record,
    ordering: Ordering,
    skipped: Collection[DocumentName],
    limit: int,
) -> Sequence[Record]:
    """The pending messages before it in its lane."""
    if ordering == "none":
        return []
    tenant = record.tenant_id
    wanted = due.documents(connection, tenant).difference(skipped)
    if ordering == "tenant":
        first = due.pending_ids(connection, tenant, wanted, PendingFilter(frozenset(), frozenset(), limit))
        return _records(connection, [row for row in first if row < record.row])
    lane: list[RowId] = []
    for document in wanted:
        values = (tenant, document, record.ordering_key, record.row, limit)
        lane += row_ids(connection, _BEFORE, values)
    return _records(connection, sorted(lane)[:limit])


def payload(connection: sqlite3.Connection, row: RowId, limit: int) -> bytes | None:
    """The beginning of it."""
    found = connection.execute(_PAYLOAD, (limit, row)).fetchone()
    return None if found is None else bytes(found[0])


def queue_ages(connection: sqlite3.Connection, tenant: TenantId | None, limit: int) -> Sequence[QueueAges]:
    """By tenant and document, each along the indexes of pending rows."""
    of = sorted(tenants.pending(connection)) if tenant is None else [TenantId(tenant.upper())]
    return [
        _ages_of(connection, each, document, limit)
        for each, documents in due.documents_of(connection, of).items()
        for document in documents
    ]


def _ages_of(
    connection: sqlite3.Connection, tenant: TenantId, document: DocumentName, limit: int
) -> QueueAges:
    values = {"tenant": tenant, "document": document, "limit": limit}
    ages = [age for (age,) in rows(connection, _AGES, values)]
    buckets = Counter(bisect_right(AGES, age) for age in ages[:limit])
    counts = tuple(buckets[place] for place in range(len(AGES) + 1))
    return QueueAges(tenant, document, counts, more=len(ages) > limit)


def preview(connection: sqlite3.Connection, what: Action, wanted: Filter, sample: int = 5) -> Preview:
    """What a bulk action would change, in one snapshot."""
    moment = selection.moment(connection)
    frozen, states = replace(wanted, moment=moment), states_of(what, wanted)
    groups: Counter[tuple[TenantId, DocumentName, MessageState]] = Counter()
    last: RowId | None = FIRST
    while last is not None:
        page = selection.page(connection, frozen, states, EXAMINED, last)
        for tenant, document, state, number in rows(connection, _GROUPS, (json.dumps(page.ids),)):
            groups[TenantId(tenant), DocumentName(document), state] += number
        last = page.last
    first = _records(connection, selection.first(connection, frozen, states, sample))
    counted = tuple((*group, number) for group, number in groups.most_common())
    return Preview(what, frozen, groups.total(), counted, first)


def _records(
    connection: sqlite3.Connection, ids: Sequence[RowId], *, with_history: bool = False
) -> Sequence[Record]:
    return [
        message_record(row, parse_instant, _history(connection, row[0]) if with_history else ())
        for row in rows(connection, _RECORDS, (json.dumps(ids),))
    ]


def _history(connection: sqlite3.Connection, row: RowId) -> History:
    return tuple((parse_instant(at), what, detail) for at, what, detail in rows(connection, _HISTORY, (row,)))
