"""What operators read, on PostgreSQL: counts, messages with their history, previews of bulk actions."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import assert_never, get_args

from relay.core.admin import AGES, FIRST, Action, Count, Filter, MessageState, Preview, QueueAges, Record
from relay.core.model import DocumentName, MessageId, Ordering, RowId, TenantId
from relay.outbox.bulk import states_of
from relay.outbox.postgres import due, selection
from relay.outbox.postgres.connection import StoreConnection, utc
from relay.outbox.postgres.instants import seconds_until
from relay.outbox.values import (
    EXAMINED,
    MAX_TEXT,
    READ_PARAMETERS,
    History,
    PendingFilter,
    message_record,
)

_KEYED = selection.KEYED.format(after=selection.FROM_FIRST)
_OLDEST_EXAMINED = 5
"""Rows a document and lane kind; a retried one is queued anew at its old place and may hide older ones."""

_COUNTS = """
SELECT tenant_id, greatest(sum(pending), 0)::bigint, greatest(sum(delivered), 0)::bigint,
       greatest(sum(parked), 0)::bigint, greatest(sum(dropped), 0)::bigint
FROM relay_counts GROUP BY tenant_id ORDER BY tenant_id
"""

_OLDEST = f"""
{selection.HEADS}
SELECT head.tenant, greatest(0, -{seconds_until("min(oldest.queued_at)")})
FROM head CROSS JOIN LATERAL (
    (SELECT queued_at FROM relay_outbox
     WHERE {selection.IN_COMMON_LANE} AND (not_before IS NULL OR not_before <= clock_timestamp())
     ORDER BY ordering_key, id LIMIT $3)
    UNION ALL
    (SELECT queued_at FROM relay_outbox
     WHERE {_KEYED} AND (not_before IS NULL OR not_before <= clock_timestamp())
     ORDER BY document_name, id LIMIT $3)
) oldest GROUP BY head.tenant
"""  # noqa: S608

_SIZE = """
SELECT pg_total_relation_size(oid) FROM pg_class WHERE relname = 'relay_outbox' AND relnamespace = (
    SELECT relnamespace FROM relay_schema JOIN pg_class ON pg_class.oid = relay_schema.tableoid LIMIT 1)
"""

_RECORDS = f"""
SELECT id, upper(tenant_id), document_name, message_id, to_logical_id, ordering_key,
       left(parameters::text, {READ_PARAMETERS}), coalesce(payload_size, octet_length(payload)), state,
       left(reason, {MAX_TEXT}), attempts, not_before, created_at, queued_at, settled_at
FROM relay_outbox WHERE id = ANY($1::bigint[]) ORDER BY id
"""  # noqa: S608  # constants

_HISTORY = f"""
SELECT message_row, at, replace(what, 'blamed', 'counted'), left(detail, {MAX_TEXT}) FROM relay_history
WHERE message_row = ANY($1::bigint[]) ORDER BY message_row, id
"""  # noqa: S608  # constants

_GROUPS = """
SELECT upper(tenant_id), document_name, state, count(*) FROM relay_outbox
WHERE id = ANY($1::bigint[]) GROUP BY 1, 2, 3
"""

_PAYLOAD = "SELECT substring(payload FROM 1 FOR $2) FROM relay_outbox WHERE id = $1 AND payload_size IS NULL"

# One row more than the limit: whether there are more.
_AGES = f"""
{selection.HEADS}
SELECT head.tenant, head.document,
       width_bucket(-{seconds_until("aged.queued_at")}, $4::float8[]),
       aged.place > $3, count(*)
FROM head CROSS JOIN LATERAL (
    SELECT id, queued_at, row_number() OVER (ORDER BY id) AS place FROM (
        (SELECT id, queued_at FROM relay_outbox
         WHERE {selection.IN_COMMON_LANE} ORDER BY ordering_key, id LIMIT $3 + 1)
        UNION ALL
        (SELECT id, queued_at FROM relay_outbox
         WHERE {_KEYED} ORDER BY document_name, id LIMIT $3 + 1)
    ) either
) aged WHERE aged.place <= $3 + 1 GROUP BY 1, 2, 3, 4
"""  # noqa: S608

_STATES: tuple[MessageState, ...] = get_args(MessageState)


async def size(session: StoreConnection) -> int:
    """Of the table of messages, with its indexes and its payloads."""
    return int(await session.fetchval(_SIZE))


async def counts(session: StoreConnection) -> Mapping[TenantId, Count]:
    """From the sums that triggers keep; the oldest from the heads of the pending rows."""
    rows = [tuple(row) for row in await session.fetch(_COUNTS)]
    oldest: dict[str, float] = {}
    if any(row[1] for row in rows):
        oldest = dict(
            tuple(row) for row in await session.fetch(_OLDEST, *selection.EVERY_TENANT, _OLDEST_EXAMINED)
        )
    return {
        TenantId(tenant): Count(pending, delivered, parked, dropped, oldest.get(tenant))
        for tenant, pending, delivered, parked, dropped in rows
        if pending or delivered or parked or dropped
    }


async def find(
    session: StoreConnection, wanted: Filter, limit: int, after: RowId = FIRST
) -> Sequence[Record]:
    """In the order of their rows."""
    states = _STATES if wanted.state is None else (wanted.state,)
    return await _records(session, await selection.first(session, wanted, states, limit, after))


async def show(session: StoreConnection, message_id: MessageId, tenant: TenantId | None) -> Sequence[Record]:
    """With history."""
    wanted = Filter(tenant=tenant, ids=(message_id,))
    ids = await selection.first(session, wanted, _STATES, limit=None)
    histories: dict[int, History] = {}
    for row, at, what, detail in await session.fetch(_HISTORY, ids):
        histories[row] = (*histories.get(row, ()), (utc(at), what, detail))
    return await _records(session, ids, histories)


async def before(
    session: StoreConnection,
    record: Record,
    ordering: Ordering,
    skipped: Collection[DocumentName],
    limit: int,
) -> Sequence[Record]:
    """The pending messages before it in its lane."""
    match ordering:
        case "none":
            return []
        case "tenant":
            wanted = (await due.documents(session, record.tenant_id)).difference(skipped)
            everything = PendingFilter(frozenset(), frozenset(), limit)
            first = await due.pending_ids(session, record.tenant_id, wanted, everything)
            ids = [row for row in first if row < record.row]
        case "key":
            ids = await selection.lane_before(session, record, skipped, limit)
        case _:
            assert_never(ordering)
    return await _records(session, ids)


async def payload(session: StoreConnection, row: RowId, limit: int) -> bytes | None:
    """The beginning of it."""
    found: bytes | None = await session.fetchval(_PAYLOAD, row, limit)
    return found


async def queue_ages(session: StoreConnection, tenant: TenantId | None, limit: int) -> Sequence[QueueAges]:
    """By tenant and document, each along the indexes of pending rows."""
    of = selection.EVERY_TENANT if tenant is None else (tenant.upper(),) * 2
    buckets: dict[tuple[str, str], list[int]] = {}
    beyond = set[tuple[str, str]]()
    for name, document, bucket, is_beyond, number in await session.fetch(_AGES, *of, limit, list(AGES)):
        counts = buckets.setdefault((name, document), [0] * (len(AGES) + 1))
        if is_beyond:
            beyond.add((name, document))
        else:
            counts[bucket] += number
    return [
        QueueAges(TenantId(name), DocumentName(document), tuple(counts), (name, document) in beyond)
        for (name, document), counts in sorted(buckets.items())
    ]


async def preview(session: StoreConnection, what: Action, wanted: Filter, sample: int = 5) -> Preview:
    """What a bulk action would change."""
    frozen = replace(wanted, moment=await selection.moment(session))
    states = states_of(what, wanted)
    groups: Counter[tuple[TenantId, DocumentName, MessageState]] = Counter()
    last: RowId | None = FIRST
    while last is not None:
        page = await selection.page(session, frozen, states, EXAMINED, last)
        for tenant, document, state, number in await session.fetch(_GROUPS, page.ids):
            groups[TenantId(tenant), DocumentName(document), state] += number
        last = page.last
    first = await _records(session, await selection.first(session, frozen, states, sample))
    counted = tuple((*group, number) for group, number in groups.most_common())
    return Preview(what, frozen, groups.total(), counted, first)


async def _records(
    session: StoreConnection, ids: Sequence[RowId], histories: Mapping[int, History] | None = None
) -> Sequence[Record]:
    rows = await session.fetch(_RECORDS, list(ids))
    return [message_record(tuple(row), utc, (histories or {}).get(row[0], ())) for row in rows]
