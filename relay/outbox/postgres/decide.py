"""This file is what operators decide about messages: retry, park, drop, a chunk of rows at a time.

Each chunk is a short transaction of its own, so that settlements get in between however many rows are meant.
"""

from relay.model import RowId
from relay.outbox.decisions import Decision, Done
from relay.outbox.postgres import meant, settle, tenants
from relay.outbox.postgres.database import Session
from relay.ports import Filter, MessageState

CHUNK = 500
"""Rows in one transaction: some 20 ms, so that settlements get in between."""

# Locked in the order of the ids, as settlements are, so that neither waits for the other for ever; and looked
# at again once they are locked: a settlement may have been quicker.
_LOCKED = """
WITH locked AS MATERIALIZED (
    SELECT id FROM relay_outbox WHERE id = ANY($1::bigint[]) AND state = ANY($2::text[])
    ORDER BY id FOR UPDATE
)
"""

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
SET state = $3, reason = $4, not_before = NULL, settled_at = clock_timestamp()
FROM locked WHERE relay_outbox.id = locked.id RETURNING relay_outbox.id, upper(tenant_id)
"""  # noqa: S608

_TELL = """
INSERT INTO relay_history (message_row, what, detail) SELECT unnest($1::bigint[]), $2, $3
"""


async def chunk(session: Session, wanted: Filter, decision: Decision, after: int, upto: RowId) -> Done:
    """Decide about the next rows behind `after`, and make their tenants' workers look again."""
    states = tuple(state for state in decision.states if wanted.state in (None, state))
    if not states:
        return Done(0, None)
    found = await meant.select(session, wanted, states, CHUNK, after)
    rows = [row for row in found if row <= upto]
    changed = await _apply(session, decision, states, rows) if rows else 0
    return Done(changed, rows[-1] if len(rows) == CHUNK else None)


async def _apply(
    session: Session, decision: Decision, states: tuple[MessageState, ...], rows: list[RowId]
) -> int:
    if decision.what == "retried":
        changed = await session.fetch(_RETRY, rows, list(states))
    else:
        changed = await session.fetch(_SET_ASIDE, rows, list(states), decision.what, decision.reason)
    done = sorted(row for row, _ in changed)
    await session.execute(_TELL, done, decision.what, decision.reason)
    await settle.forget(session, done)
    await tenants.bump(session, sorted({tenant for _, tenant in changed}))
    return len(changed)
