"""Bulk actions of operators on PostgreSQL: retry, park, drop, a chunk of rows at a time.

Each chunk is a short transaction of its own, so that settlements get in between however many rows there are.
"""

from collections.abc import Sequence

from relay.core.admin import FIRST, ActionCount, AuditEntry, BulkAction, MessageState
from relay.core.model import AuditId, RowId
from relay.outbox.bulk import (
    ACTIONS,
    ChunkResult,
    action_mark,
    filter_json,
    no_such_action,
    states_of,
    stored_order,
    summary,
)
from relay.outbox.postgres import audit, selection, settle, tenants
from relay.outbox.postgres.connection import StoreConnection
from relay.outbox.values import MAX_TEXT

CHUNK = 500
"""Rows in one transaction: some 20 ms, so that settlements get in between."""

# Locked in the order of the ids, as settlements are, so that neither waits for the other for ever; and
# examined again once they are locked: a settlement may have been quicker.
_LOCKED = f"""
WITH locked AS MATERIALIZED (
    SELECT id FROM relay_outbox
    WHERE id = ANY($1::bigint[]) AND state = ANY($2::text[]) AND {selection.MATCHES}
    ORDER BY id FOR UPDATE
)
"""  # noqa: S608

_RETRY = f"""
{_LOCKED}
UPDATE relay_outbox
SET state = 'pending', attempts = 0, not_before = NULL, reason = NULL, settled_at = NULL,
    queued_at = clock_timestamp()
FROM locked WHERE relay_outbox.id = locked.id RETURNING relay_outbox.id, upper(tenant_id)
"""  # noqa: S608

_SET_ASIDE = f"""
{_LOCKED}
UPDATE relay_outbox
SET state = $6, reason = $7, not_before = NULL, settled_at = clock_timestamp()
FROM locked WHERE relay_outbox.id = locked.id RETURNING relay_outbox.id, upper(tenant_id)
"""  # noqa: S608

_ADD_HISTORY = """
INSERT INTO relay_history (message_row, what, detail, settlement) SELECT unnest($1::bigint[]), $2, $3, $4
"""

_OUTCOME = f"""
SELECT state, CASE WHEN state = 'parked' THEN left(reason, {MAX_TEXT}) END AS why, count(*)
FROM (SELECT message_row FROM relay_history WHERE what = 'retried' AND settlement = $1 LIMIT $2) AS retried
JOIN relay_outbox ON relay_outbox.id = retried.message_row
GROUP BY 1, 2
"""  # noqa: S608  # constants

_BEGIN = """
INSERT INTO relay_audit (who, what, tenant_id, selection, reason, outcome, wanted, reached)
VALUES ($1, $2, upper($3), $4, $5, 'running', $6::text::json, $7) RETURNING id
"""

_RUNNING = """
SELECT what, wanted::text, who, reason, reached, outcome FROM relay_audit WHERE id = $1 FOR UPDATE
"""

_ADVANCE = """
UPDATE relay_audit
SET messages = messages + $2, reached = coalesce($3::bigint, reached), moved_at = clock_timestamp(),
    outcome = CASE WHEN $3::bigint IS NULL THEN 'done' ELSE 'running' END,
    ended_at = CASE WHEN $3::bigint IS NULL THEN clock_timestamp() END
WHERE id = $1
"""

_CANCEL = """
UPDATE relay_audit SET outcome = 'cancelled', ended_at = clock_timestamp()
WHERE id = $1 AND outcome = 'running' RETURNING what, tenant_id
"""


async def begin(session: StoreConnection, order: BulkAction) -> AuditId:
    """Record it as running; its filter has a moment."""
    wanted = order.wanted
    values = (order.who, order.what, wanted.tenant, summary(wanted), order.reason, filter_json(wanted), FIRST)
    return AuditId(await session.fetchval(_BEGIN, *values))


async def advance(session: StoreConnection, audit_id: AuditId) -> AuditEntry:
    """Apply it to the next chunk, unless it is over."""
    row = await session.fetchrow(_RUNNING, audit_id)
    if row is None:
        raise no_such_action(audit_id)
    what, wanted, who, reason, reached, outcome = row
    if outcome == "running":
        order = stored_order(audit_id, what, wanted, who, reason)
        done = await apply_chunk(session, order, RowId(reached), audit_id)
        await session.execute(_ADVANCE, audit_id, done.rows, done.last)
    entry = await audit.entry(session, audit_id)
    assert entry is not None, "it is locked"
    return entry


async def cancel(session: StoreConnection, audit_id: AuditId, who: str) -> bool:
    """Whether it was still running. Who cancelled it is an entry of its own."""
    cancelled = await session.fetchrow(_CANCEL, audit_id)
    if cancelled is None:
        return False
    what, tenant = cancelled
    await audit.note(session, who, "cancel", tenant, f"{what} {audit_id}")
    return True


async def outcome(session: StoreConnection, audit_id: AuditId, limit: int) -> Sequence[ActionCount]:
    """What became of the messages of a retry."""
    found = await session.fetch(_OUTCOME, action_mark(audit_id), limit)
    return [ActionCount(state, reason or "", count) for state, reason, count in found]


async def apply_chunk(
    session: StoreConnection, order: BulkAction, after: RowId, audit_id: AuditId
) -> ChunkResult:
    """Change the next rows behind `after`, and make their tenants' workers discard what they prefetched."""
    states = states_of(order.what, order.wanted)
    page = await selection.next_page(session, order.wanted, states, CHUNK, after)
    changed = await _apply(session, order, states, page.ids, audit_id) if page.ids else 0
    return ChunkResult(changed, page.last)


async def _apply(
    session: StoreConnection,
    order: BulkAction,
    states: tuple[MessageState, ...],
    rows: Sequence[RowId],
    audit_id: AuditId,
) -> int:
    values = (rows, states, *selection.match_values(order.wanted))
    what = ACTIONS[order.what].done
    if order.what == "retry":
        changed = await session.fetch(_RETRY, *values)
    else:
        changed = await session.fetch(_SET_ASIDE, *values, what, order.reason)
    done = sorted(row for row, _ in changed)
    if done:
        await session.execute(_ADD_HISTORY, done, what, order.reason, action_mark(audit_id))
        await settle.trim_history(session, done)
        await tenants.bump(session, sorted({tenant for _, tenant in changed}))
    return len(done)
