"""What is deleted and purged on PostgreSQL once it was settled long ago, and counters merged."""

from collections.abc import Sequence

from relay.core.model import RowId
from relay.outbox.postgres.connection import StoreConnection
from relay.outbox.postgres.settle import PURGING
from relay.outbox.retention import Place
from relay.outbox.values import EARLIEST

_SETTLED = """
SELECT settled_at, id FROM relay_outbox
WHERE state IN ('delivered', 'dropped') AND settled_at >= $1 AND (settled_at, id) > ($1, $2)
  AND settled_at < now() - make_interval(secs => $3)
ORDER BY settled_at, id LIMIT $4
"""

# By their ids: with `state IN ('delivered', 'dropped')`, and statistics a moment old, the planner may walk
# through the index of all settled rows instead.
_DELETE = """
DELETE FROM relay_outbox WHERE id IN (
    SELECT id FROM relay_outbox WHERE id = ANY ($1::bigint[]) AND state NOT IN ('pending', 'parked')
    ORDER BY id FOR UPDATE SKIP LOCKED)
"""

_PURGE = f"""
UPDATE relay_outbox SET {PURGING}
WHERE id IN (SELECT id FROM relay_outbox
             WHERE id = ANY($1::bigint[]) AND payload_size IS NULL
               AND state NOT IN ('pending', 'parked', 'dropped')
             ORDER BY id FOR UPDATE SKIP LOCKED)
"""  # noqa: S608

# Deltas become one row a tenant; two relays that merge at once take different ones.
_MERGE_COUNTS = """
WITH gone AS (
    DELETE FROM relay_counts WHERE ctid IN (
        SELECT ctid FROM relay_counts
        WHERE tenant_id IN (SELECT tenant_id FROM relay_counts GROUP BY tenant_id HAVING count(*) > 1)
        LIMIT $1 FOR UPDATE SKIP LOCKED)
    RETURNING *)
INSERT INTO relay_counts (tenant_id, pending, delivered, parked, dropped)
SELECT tenant_id, sum(pending), sum(delivered), sum(parked), sum(dropped) FROM gone GROUP BY tenant_id
"""

_MERGED_AT_ONCE = 100_000


async def settled_long_ago(
    session: StoreConnection, after: Place | None, older_than: float, limit: int
) -> list[Place]:
    """The next rows that were settled so long ago, in the order of settling."""
    settled_at, row = (EARLIEST, 0) if after is None else after
    return [
        (at, RowId(found)) for at, found in await session.fetch(_SETTLED, settled_at, row, older_than, limit)
    ]


async def delete(session: StoreConnection, ids: Sequence[RowId]) -> int:
    """Delete those that are settled still, with their histories; how many."""
    return await session.execute(_DELETE, ids)


async def purge(session: StoreConnection, ids: Sequence[RowId]) -> int:
    """Purge the payloads of those that are delivered still; how many."""
    return await session.execute(_PURGE, ids)


async def merge_counts(session: StoreConnection) -> None:
    """Make the counters few again."""
    await session.execute(_MERGE_COUNTS, _MERGED_AT_ONCE)
