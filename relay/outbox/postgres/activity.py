"""What was delivered, refused and waiting by time, on PostgreSQL: written by relays, read for the page."""

import json
from collections.abc import Mapping, Sequence

from relay.core.activity import EVERYONE, FUTURE_SECONDS, SPANS, Activity, ActivityKey, Span, TenantActivity
from relay.core.model import TenantId
from relay.outbox.postgres.connection import StoreConnection
from relay.outbox.values import deliveries_by_tenant, tenant_activities

# In the order of the key: processes that write the same rows wait for each other, and never in a circle.
_RECORD = """
INSERT INTO relay_activity (source, span, start, tenant_id, delivered, failed, parked, queued, answered)
SELECT * FROM unnest(
    $1::text[], $2::int[], $3::bigint[], $4::text[], $5::bigint[], $6::bigint[], $7::bigint[],
    $8::text[], $9::text[])
    AS counted (source, span, start, tenant_id, delivered, failed, parked, queued, answered)
ORDER BY span, start, tenant_id, source
ON CONFLICT (span, start, tenant_id, source) DO UPDATE SET
    delivered = excluded.delivered, failed = excluded.failed, parked = excluded.parked,
    queued = excluded.queued, answered = excluded.answered
"""

_RECORD_WAITING = """
WITH counted AS (
    SELECT tenant_id, sum(pending)::bigint AS pending FROM relay_counts GROUP BY tenant_id)
INSERT INTO relay_activity (span, start, tenant_id, source, waiting)
SELECT $1::int, $2::bigint, tenant_id, '', pending FROM (
    SELECT tenant_id, pending FROM counted WHERE pending > 0
    UNION ALL SELECT $3::text, coalesce(sum(greatest(pending, 0)), 0)::bigint FROM counted) waiting
ORDER BY tenant_id COLLATE "C"
ON CONFLICT (span, start, tenant_id, source) DO UPDATE SET waiting = excluded.waiting
    WHERE excluded.waiting > relay_activity.waiting
"""

_ACTIVITY = """
SELECT start, tenant_id, delivered, failed, parked, waiting, queued, answered
FROM relay_activity
WHERE span = $1 AND start = ANY ($2::bigint[]) AND tenant_id = ANY ($3::text[])
ORDER BY start, tenant_id
"""

_DELIVERIES = """
SELECT tenant_id, start, sum(delivered)::bigint FROM relay_activity
WHERE span = $1 AND start = ANY ($2::bigint[]) AND tenant_id = ANY ($3::text[]) AND delivered > 0
GROUP BY tenant_id, start
"""

_NOW = "SELECT extract(epoch FROM clock_timestamp())::bigint"

PRUNE = """
DELETE FROM relay_activity WHERE ctid IN (
    SELECT ctid FROM relay_activity
    WHERE span = $1 AND start {beyond} $2 LIMIT $3 FOR UPDATE SKIP LOCKED)
"""


async def record(session: StoreConnection, counts: Mapping[ActivityKey, Activity]) -> None:
    """Replace these counts."""
    if counts:
        await session.execute(
            _RECORD,
            [key.source for key in counts],
            [key.span.seconds for key in counts],
            [key.start for key in counts],
            [key.tenant for key in counts],
            [one.delivered for one in counts.values()],
            [one.failed for one in counts.values()],
            [one.parked for one in counts.values()],
            [json.dumps(one.queued) for one in counts.values()],
            [json.dumps(one.answered) for one in counts.values()],
        )


async def record_waiting(session: StoreConnection, at: float) -> None:
    """Note how many messages wait, at this moment."""
    for span in SPANS:
        await session.execute(_RECORD_WAITING, span.seconds, span.start(at), EVERYONE)


async def activity(
    session: StoreConnection, span: Span, starts: Sequence[int], tenants: Sequence[TenantId]
) -> Sequence[TenantActivity]:
    """What is recorded about the tenants in the stretches that began then."""
    found = await session.fetch(_ACTIVITY, span.seconds, list(starts), list(tenants))
    return tenant_activities(map(tuple, found))


async def deliveries(
    session: StoreConnection, span: Span, starts: Sequence[int], tenants: Sequence[TenantId]
) -> Mapping[TenantId, Mapping[int, int]]:
    """How many messages of the tenants were delivered, by start."""
    found = await session.fetch(_DELIVERIES, span.seconds, list(starts), list(tenants))
    return deliveries_by_tenant(map(tuple, found))


async def prune(session: StoreConnection, limit: int) -> int:
    """Delete what is kept no longer, by the store's clock; how many rows."""
    now = await session.fetchval(_NOW)
    deleted = 0
    for span in SPANS:
        for beyond, start in (("<", now - span.kept), (">", now + FUTURE_SECONDS)):
            statement = PRUNE.format(beyond=beyond)
            deleted += await session.execute(statement, span.seconds, start, limit - deleted)
    return deleted
