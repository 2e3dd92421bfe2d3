"""What was delivered, refused and waiting by time, on SQLite: written by relays, read for the page."""

import json
import sqlite3
from collections.abc import Mapping, Sequence

from relay.core.activity import EVERYONE, FUTURE_SECONDS, SPANS, Activity, ActivityKey, Span, TenantActivity
from relay.core.model import TenantId
from relay.outbox.sqlite.json_rows import in_one_step, rows
from relay.outbox.values import deliveries_by_tenant, tenant_activities

_RECORD = """
INSERT INTO relay_activity (source, span, start, tenant_id, delivered, failed, parked, queued, answered)
SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]'),
       json_extract(value, '$[3]'), json_extract(value, '$[4]'), json_extract(value, '$[5]'),
       json_extract(value, '$[6]'), json_extract(value, '$[7]'), json_extract(value, '$[8]')
FROM json_each(?) WHERE true
ON CONFLICT (span, start, tenant_id, source) DO UPDATE SET
    delivered = excluded.delivered, failed = excluded.failed, parked = excluded.parked,
    queued = excluded.queued, answered = excluded.answered
"""

_RECORD_WAITING = """
INSERT INTO relay_activity (span, start, tenant_id, source, waiting)
SELECT ?1, ?2, upper(tenant_id), '', pending FROM relay_counts WHERE pending > 0
UNION ALL SELECT ?1, ?2, ?3, '', coalesce(sum(pending), 0) FROM relay_counts WHERE true
ON CONFLICT (span, start, tenant_id, source) DO UPDATE SET waiting = excluded.waiting
    WHERE excluded.waiting > waiting
"""

_ACTIVITY = in_one_step(
    8,
    """
SELECT start, tenant_id, delivered, failed, parked, waiting, queued, answered
FROM relay_activity
WHERE span = ?1 AND start IN (SELECT value FROM json_each(?2))
  AND tenant_id IN (SELECT value FROM json_each(?3))
ORDER BY start, tenant_id
""",
)

_DELIVERIES = in_one_step(
    3,
    """
SELECT tenant_id, start, sum(delivered) FROM relay_activity
WHERE span = ?1 AND start IN (SELECT value FROM json_each(?2))
  AND tenant_id IN (SELECT value FROM json_each(?3)) AND delivered > 0
GROUP BY tenant_id, start
""",
)

_NOW = "SELECT CAST(strftime('%s', 'now') AS INTEGER)"

# Two statements, not one with OR or UNION: these walk through the whole table.
_PRUNE = """
DELETE FROM relay_activity WHERE (span, start, tenant_id, source) IN (
    SELECT span, start, tenant_id, source FROM relay_activity
    WHERE span = ? AND start {beyond} ? LIMIT ?)
"""


def record(connection: sqlite3.Connection, counts: Mapping[ActivityKey, Activity]) -> None:
    """Replace these counts."""
    values = [
        [
            *(key.source, key.span.seconds, key.start, key.tenant),
            *(one.delivered, one.failed, one.parked, json.dumps(one.queued), json.dumps(one.answered)),
        ]
        for key, one in counts.items()
    ]
    connection.execute(_RECORD, (json.dumps(values),))


def record_waiting(connection: sqlite3.Connection, at: float) -> None:
    """Note how many messages wait, at this moment."""
    for span in SPANS:
        connection.execute(_RECORD_WAITING, (span.seconds, span.start(at), EVERYONE))


def activity(
    connection: sqlite3.Connection, span: Span, starts: Sequence[int], tenants: Sequence[TenantId]
) -> Sequence[TenantActivity]:
    """What is recorded about the tenants in the stretches that began then."""
    values = (span.seconds, json.dumps(list(starts)), json.dumps(list(tenants)))
    return tenant_activities(map(tuple, rows(connection, _ACTIVITY, values)))


def deliveries(
    connection: sqlite3.Connection, span: Span, starts: Sequence[int], tenants: Sequence[TenantId]
) -> Mapping[TenantId, Mapping[int, int]]:
    """How many messages of the tenants were delivered, by start."""
    values = (span.seconds, json.dumps(list(starts)), json.dumps(list(tenants)))
    return deliveries_by_tenant(map(tuple, rows(connection, _DELIVERIES, values)))


def prune(connection: sqlite3.Connection, limit: int) -> int:
    """Delete what is kept no longer, by the store's clock; how many rows."""
    deleted = 0
    (now,) = connection.execute(_NOW).fetchone()
    for span in SPANS:
        for beyond, start in (("<", now - span.kept), (">", now + FUTURE_SECONDS)):
            values = (span.seconds, start, limit - deleted)
            deleted += connection.execute(_PRUNE.format(beyond=beyond), values).rowcount
    return deleted
