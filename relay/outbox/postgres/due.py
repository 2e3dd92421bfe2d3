"""The pending messages that a tenant's worker reads next, on PostgreSQL.

One limited sub-query a document, each along an index of pending rows, so that neither a million rows of a
document that is not accepted nor a million in a lane that is held are scanned.

The orders and the `BETWEEN x AND x` are spelled so that only the intended index gives them: a column made
constant by `=` drops out of the order, and the planner, its statistics a moment old, may then scan the
primary key through a million delivered rows.
"""

from collections.abc import Iterable, Sequence, Set

from relay.core.model import DocumentName, LogicalId, Message, MessageId, OrderingKey, RowId, TenantId
from relay.core.ports import LARGE_PAYLOAD
from relay.outbox.postgres.connection import Row, StoreConnection
from relay.outbox.postgres.instants import seconds_until
from relay.outbox.values import LANES, READ_PARAMETERS, WINDOW, PendingFilter

_EVERYTHING = 2**31 - 1

_NAMES = """
WITH RECURSIVE found(name) AS (
    SELECT (SELECT document_name FROM relay_outbox WHERE state = 'pending' AND upper(tenant_id) = $1
            ORDER BY document_name LIMIT 1)
    UNION ALL
    SELECT (SELECT document_name FROM relay_outbox
            WHERE state = 'pending' AND upper(tenant_id) = $1 AND document_name > found.name
            ORDER BY document_name LIMIT 1)
    FROM found WHERE name IS NOT NULL
)"""

_DOCUMENTS = f"{_NAMES} SELECT name FROM found WHERE name IS NOT NULL"  # noqa: S608

# $1 tenant, $2 documents, $3 held keys, $4 whether the lane without a key is held, $5 known ids, $6 after,
# $7 limit, $8 window. `more`: documents of which too little was found within the window, with more behind it.
_IDS = f"""
{_NAMES}, wanted AS MATERIALIZED (SELECT name FROM found WHERE name = ANY ($2::text[])),
unkeyed AS (
    SELECT found.id FROM wanted CROSS JOIN LATERAL (
        SELECT id FROM relay_outbox
        WHERE state = 'pending' AND upper(tenant_id) = $1 AND document_name = wanted.name
          AND ordering_key IS NULL AND NOT $4::bool AND id > $6 AND id <> ALL ($5::bigint[])
        ORDER BY ordering_key, id LIMIT $7) found),
keyed AS MATERIALIZED (
    SELECT wanted.name, found.id FROM wanted CROSS JOIN LATERAL (
        SELECT id FROM (
            SELECT id, ordering_key FROM relay_outbox
            WHERE state = 'pending' AND ordering_key IS NOT NULL AND upper(tenant_id) = $1
              AND document_name BETWEEN wanted.name AND wanted.name AND id > $6
            ORDER BY document_name, id LIMIT $8) examined
        WHERE ordering_key <> ALL ($3::text[]) AND id <> ALL ($5::bigint[]) LIMIT $7) found)
SELECT ARRAY(SELECT id FROM (TABLE unkeyed UNION ALL SELECT id FROM keyed) ids ORDER BY id LIMIT $7) AS ids,
       ARRAY(SELECT name FROM wanted WHERE CASE
           WHEN (SELECT count(*) FROM keyed WHERE keyed.name = wanted.name) < $7 THEN EXISTS (
               SELECT FROM relay_outbox
               WHERE state = 'pending' AND ordering_key IS NOT NULL AND upper(tenant_id) = $1
                 AND document_name BETWEEN wanted.name AND wanted.name AND id > $6
               ORDER BY document_name, id OFFSET $8)
           ELSE false END) AS more
"""  # noqa: S608

# Lane by lane, of one document.
_LANES = """
WITH RECURSIVE lane(key) AS (
    SELECT (SELECT ordering_key FROM relay_outbox
            WHERE state = 'pending' AND upper(tenant_id) = $1 AND document_name = $2
              AND ordering_key IS NOT NULL
            ORDER BY ordering_key LIMIT 1)
    UNION ALL
    SELECT (SELECT ordering_key FROM relay_outbox
            WHERE state = 'pending' AND upper(tenant_id) = $1 AND document_name = $2
              AND ordering_key > lane.key
            ORDER BY ordering_key LIMIT 1)
    FROM lane WHERE key IS NOT NULL
), lanes AS (SELECT key FROM lane WHERE key IS NOT NULL LIMIT $3)
SELECT key FROM lanes
"""

_IN_LANES = """
SELECT found.id FROM unnest($3::text[]) AS lane(key) CROSS JOIN LATERAL (
    SELECT id FROM relay_outbox
    WHERE state = 'pending' AND upper(tenant_id) = $1 AND document_name = $2
      AND ordering_key BETWEEN lane.key AND lane.key AND id > $5 AND id <> ALL ($4::bigint[])
    ORDER BY ordering_key, id LIMIT $6) found
ORDER BY found.id LIMIT $6
"""

# $1 ids, $2 bytes, $3 the largest payload. A larger one stays unread, and so do all rows behind those that
# fill the room; a smaller one behind them too, lest their order be lost.
_MESSAGES = f"""
SELECT id, upper(tenant_id) AS tenant_id, document_name, message_id, to_logical_id, ordering_key,
       left(parameters::text, {READ_PARAMETERS}) AS parameters, attempts,
       greatest(0, {seconds_until("not_before")}) AS holds_for,
       greatest(0, -{seconds_until("queued_at")}) AS age,
       size, CASE WHEN size > $3::bigint THEN ''::bytea ELSE payload END AS payload
FROM (SELECT *, sum(CASE WHEN size > $3 THEN 0 ELSE size END) OVER (ORDER BY id) AS filled
      FROM (SELECT *, octet_length(payload) AS size FROM relay_outbox
            WHERE id = ANY ($1::bigint[])) wanted) sized
WHERE filled <= $2::bigint AND state = 'pending' ORDER BY id
"""  # noqa: S608  # constants


async def documents(session: StoreConnection, tenant: TenantId) -> frozenset[DocumentName]:
    """The document names of the tenant's pending rows: one step along the index for each name."""
    return frozenset(DocumentName(row["name"]) for row in await session.fetch(_DOCUMENTS, tenant))


async def due(
    session: StoreConnection,
    tenant: TenantId,
    accepted: Set[DocumentName],
    pending: PendingFilter,
    max_bytes: int,
) -> Sequence[Message]:
    """The pending messages of accepted documents in the order of their rows."""
    ids = await pending_ids(session, tenant, accepted, pending)
    return await _read(session, ids, max_bytes, min(max_bytes, LARGE_PAYLOAD)) if ids else []


async def message(session: StoreConnection, row: RowId, max_bytes: int) -> Message | None:
    """The pending message in this row."""
    return next(iter(await _read(session, [row], max_bytes, max_bytes)), None)


async def _read(
    session: StoreConnection, ids: Sequence[RowId], max_bytes: int, large: int
) -> Sequence[Message]:
    return [_message(row) for row in await session.fetch(_MESSAGES, ids, max_bytes, large)]


async def pending_ids(
    session: StoreConnection, tenant: TenantId, wanted: Iterable[DocumentName], pending: PendingFilter
) -> list[RowId]:
    """The lowest ids over all wanted documents, ascending."""
    keys = [key for key in pending.held if key is not None]
    known, unkeyed_held = list(pending.known), None in pending.held
    values = (
        keys,
        unkeyed_held,
        known,
        pending.after,
        pending.limit,
        min(WINDOW + pending.limit, _EVERYTHING),
    )
    found = await session.fetchrow(_IDS, tenant, list(wanted), *values)
    assert found is not None
    ids = set(found["ids"])
    for document in found["more"]:
        ids.update(await _behind_the_window(session, tenant, document, pending))
    return [RowId(row) for row in sorted(ids)[: pending.limit]]


async def _behind_the_window(
    session: StoreConnection, tenant: TenantId, document: str, pending: PendingFilter
) -> list[int]:
    """Lane by lane, where a held lane has piled up; by id again, where there are too many lanes."""
    lanes = [row["key"] for row in await session.fetch(_LANES, tenant, document, LANES + 1)]
    known = list(pending.known)
    if len(lanes) > LANES:
        keys = [key for key in pending.held if key is not None]
        values = (keys, True, known, pending.after, pending.limit, _EVERYTHING)
        found = await session.fetchrow(_IDS, tenant, [document], *values)
        assert found is not None
        return list(found["ids"])
    free = [key for key in lanes if key not in pending.held]
    rows = await session.fetch(_IN_LANES, tenant, document, free, known, pending.after, pending.limit)
    return [row["id"] for row in rows]


def _message(row: Row) -> Message:
    return Message(
        row=RowId(row["id"]),
        tenant_id=TenantId(row["tenant_id"]),
        document_name=DocumentName(row["document_name"]),
        message_id=MessageId(row["message_id"]),
        payload=row["payload"],
        size=row["size"],
        to_logical_id=LogicalId(row["to_logical_id"]),
        ordering_key=None if row["ordering_key"] is None else OrderingKey(row["ordering_key"]),
        parameters=row["parameters"],
        attempts=row["attempts"],
        holds_for=row["holds_for"],
        age=row["age"],
    )
