"""From an operator's filter to row ids on PostgreSQL, each way along an index.

PostgreSQL takes no index hints, but an order of rows that only one index gives leaves it no choice.
A column that is made constant by `=` drops out of the order, and what is left may be had along another index,
perhaps through the whole table: hence `a <= x AND (a, id) > (x, after)`, which also begins right behind
`after`; and `id + 0` where few rows are picked and then sorted. `(SELECT $1)` keeps the plan from resting on
old statistics of just this value; a condition that a null makes true is not planned at all.
"""

from collections.abc import Collection, Sequence
from datetime import datetime

from relay.core.admin import FIRST, Filter, MessageState, Moment, Record
from relay.core.model import DocumentName, RowId
from relay.outbox.postgres.connection import StoreConnection, utc
from relay.outbox.values import EXAMINED, RowPage, page_of, storable

EVERY_TENANT = ("", "~")
"""What all tenant ids lie between."""

HEADS = """
WITH RECURSIVE head(tenant, document) AS (
    (SELECT upper(tenant_id), document_name FROM relay_outbox
     WHERE state = 'pending'
       AND upper(tenant_id) >= (SELECT $1::text) AND upper(tenant_id) <= (SELECT $2::text)
     ORDER BY upper(tenant_id), document_name LIMIT 1)
    UNION ALL
    SELECT later.tenant, later.document FROM head CROSS JOIN LATERAL (
        SELECT upper(tenant_id) AS tenant, document_name AS document FROM relay_outbox
        WHERE state = 'pending' AND (upper(tenant_id), document_name) > (head.tenant, head.document)
          AND upper(tenant_id) <= (SELECT $2::text)
        ORDER BY upper(tenant_id), document_name LIMIT 1) later
)
"""
"""`head`: the documents of the pending rows of tenants $1 to $2; one step along the index for each."""

IN_COMMON_LANE = """
state = 'pending' AND upper(tenant_id) = head.tenant AND document_name = head.document
AND ordering_key IS NULL
"""
"""A head's rows without a key; in the order of their ids by `ORDER BY ordering_key, id`."""

FROM_FIRST = f"'{FIRST}'::bigint"
"""FIRST as `after`; without the quotes it would be a numeric."""

KEYED = """
state = 'pending' AND upper(tenant_id) = head.tenant AND ordering_key IS NOT NULL
AND document_name <= head.document AND (document_name, id) > (head.document, {after})
"""
"""A head's rows with a key behind `after`; in the order of their ids by `ORDER BY document_name, id`."""

_SINCE = "CASE state WHEN 'pending' THEN queued_at ELSE coalesce(settled_at, queued_at) END"

MATCHES = f"""
($3::bigint IS NULL OR id <= $3 AND ({_SINCE} <= $4::timestamptz OR {_SINCE} > clock_timestamp()))
AND ($5::text IS NULL OR strpos(reason, $5) > 0)
"""
"""Whether a row was there at the moment ($3 the last row, $4 the instant), and its reason contains $5.

An instant that lies ahead was not written by a relay since then: an application gave it.
"""

_MATCHING = f"""
SELECT id FROM relay_outbox WHERE id = ANY($1::bigint[]) AND state = ANY($2::text[]) AND {MATCHES} ORDER BY id
"""  # noqa: S608

# The instant is that of the statement's arrival, before it reads any row.
_MOMENT = "SELECT coalesce(max(id), 0), statement_timestamp() FROM relay_outbox"

# In all that follow: $1 and $2 first and last tenant, $3 document or null, $4 after, $5 limit, $6 state(s).

_PENDING = f"""
{HEADS}
SELECT found.id FROM head CROSS JOIN LATERAL (
    (SELECT id FROM relay_outbox WHERE {IN_COMMON_LANE} AND id > $4 ORDER BY ordering_key, id LIMIT $5)
    UNION ALL
    (SELECT id FROM relay_outbox WHERE {KEYED.format(after="$4")} ORDER BY document_name, id LIMIT $5)
) found WHERE $3::text IS NULL OR head.document = $3 ORDER BY found.id LIMIT $5
"""  # noqa: S608

# `state = $6` would open another way to it: along the index of all settled rows.
_ASIDE = """
WITH RECURSIVE head(tenant) AS (
    (SELECT upper(tenant_id) FROM relay_outbox
     WHERE state IN ('parked', 'dropped')
       AND (state, upper(tenant_id)) >= ($6, $1) AND (state, upper(tenant_id)) <= ($6, $2)
     ORDER BY state, upper(tenant_id) LIMIT 1)
    UNION ALL
    SELECT later.tenant FROM head CROSS JOIN LATERAL (
        SELECT upper(tenant_id) AS tenant FROM relay_outbox
        WHERE state IN ('parked', 'dropped')
          AND (state, upper(tenant_id)) > ($6, head.tenant) AND (state, upper(tenant_id)) <= ($6, $2)
        ORDER BY state, upper(tenant_id) LIMIT 1) later
)
SELECT found.id FROM head CROSS JOIN LATERAL (
    SELECT id FROM relay_outbox
    WHERE state IN ('parked', 'dropped') AND ($3::text IS NULL OR document_name = $3)
      AND (state, upper(tenant_id), id) > ($6, head.tenant, $4)
      AND (state, upper(tenant_id)) <= ($6, head.tenant)
    ORDER BY state, upper(tenant_id), id LIMIT $5
) found ORDER BY found.id LIMIT $5
"""

_BY_IDS = """
SELECT id FROM relay_outbox
WHERE message_id = ANY($7::text[]) AND upper(tenant_id) BETWEEN $1 AND $2
  AND ($3::text IS NULL OR document_name = $3) AND state = ANY ((SELECT $6::text[])::text[]) AND id > $4
ORDER BY id + 0 LIMIT $5
"""

_OF_TENANT = """
SELECT id FROM relay_outbox
WHERE (upper(tenant_id), id) > ($1, $4) AND upper(tenant_id) <= $2
  AND ($3::text IS NULL OR document_name = $3) AND state = ANY ((SELECT $6::text[])::text[])
ORDER BY upper(tenant_id), id LIMIT $5
"""

_OF_ALL = """
SELECT id FROM relay_outbox
WHERE $1::text < $2::text AND ($3::text IS NULL OR document_name = $3)
  AND state = ANY ((SELECT $6::text[])::text[]) AND id > $4
ORDER BY id LIMIT $5
"""

_LANE_BEFORE = f"""
{HEADS}
SELECT found.id FROM head CROSS JOIN LATERAL (
    SELECT id FROM relay_outbox
    WHERE state = 'pending' AND upper(tenant_id) = head.tenant AND document_name = head.document
      AND ordering_key {{lane}} AND id < $3
    ORDER BY ordering_key, id LIMIT $5
) found WHERE head.document <> ALL ($4::text[]) ORDER BY found.id LIMIT $5
"""  # noqa: S608

_COMMON_LANE_BEFORE = _LANE_BEFORE.format(lane="IS NULL")
_KEYED_LANE_BEFORE = _LANE_BEFORE.format(lane="BETWEEN $6 AND $6")


async def clock(session: StoreConnection) -> datetime:
    """The server's time of day."""
    return utc(await session.fetchval("SELECT clock_timestamp()"))


async def moment(session: StoreConnection) -> Moment:
    """Now."""
    row = await session.fetchrow(_MOMENT)
    assert row is not None
    return Moment(RowId(row[0]), utc(row[1]))


async def first(
    session: StoreConnection,
    wanted: Filter,
    states: Sequence[MessageState],
    limit: int | None,
    after: RowId = FIRST,
) -> list[RowId]:
    """The lowest ids behind `after` that are selected and in one of the states. `limit` None: all of them."""
    found: list[RowId] = []
    last: RowId | None = after
    while last is not None and len(found) != limit:
        left = EXAMINED if limit is None else limit - len(found)
        each = await page(session, wanted, states, left if is_plain(wanted) else max(left, EXAMINED), last)
        found += each.ids[:left]
        last = each.last
    return found


def is_plain(wanted: Filter) -> bool:
    """Whether the indexes alone decide which rows are selected."""
    return wanted.moment is None and wanted.reason is None


async def page(
    session: StoreConnection, wanted: Filter, states: Sequence[MessageState], size: int, after: RowId
) -> RowPage:
    """Those of the next `size` rows behind `after` that are selected and in one of the states."""
    examined = await next_page(session, wanted, states, size, after)
    if is_plain(wanted):
        return examined
    values = (examined.ids, list(states), *match_values(wanted))
    return RowPage(await _ids(session, _MATCHING, *values), examined.last)


async def next_page(
    session: StoreConnection, wanted: Filter, states: Sequence[MessageState], size: int, after: RowId
) -> RowPage:
    """The next rows behind `after` along the indexes: MATCHES decides which of them are selected."""
    ids = await select(session, storable(wanted), states, size, after) if states else []
    return page_of(ids, size, wanted.moment)


def match_values(wanted: Filter) -> tuple[object, object, object]:
    """The values of MATCHES."""
    then, reason = wanted.moment, storable(wanted).reason
    return (None, None, reason) if then is None else (then.upto, then.at, reason)


async def select(
    session: StoreConnection,
    wanted: Filter,
    states: Sequence[MessageState],
    limit: int | None,
    after: int = FIRST,
) -> list[RowId]:
    """The lowest ids behind `after` that are selected and in one of the states. `limit` None: all of them."""
    tenants = EVERY_TENANT if wanted.tenant is None else (wanted.tenant.upper(),) * 2
    values = (*tenants, wanted.document, after, limit)
    if wanted.ids:
        return await _ids(session, _BY_IDS, *values, states, wanted.ids)
    if "delivered" in states:
        return await _ids(session, _OF_ALL if wanted.tenant is None else _OF_TENANT, *values, states)
    found = set[RowId]()
    for state in states:
        if state == "pending":
            found.update(await _ids(session, _PENDING, *values))
        else:
            found.update(await _ids(session, _ASIDE, *values, state))
    return sorted(found)[:limit]


async def lane_before(
    session: StoreConnection, record: Record, skipped: Collection[DocumentName], limit: int
) -> list[RowId]:
    """The lowest pending rows of the lane of its ordering key, over all documents but the skipped ones."""
    values = (record.tenant_id, record.tenant_id, record.row, list(skipped), limit)
    if record.ordering_key is None:
        return await _ids(session, _COMMON_LANE_BEFORE, *values)
    return await _ids(session, _KEYED_LANE_BEFORE, *values, record.ordering_key)


async def _ids(session: StoreConnection, statement: str, *values: object) -> list[RowId]:
    return [RowId(row) for (row,) in await session.fetch(statement, *values)]
