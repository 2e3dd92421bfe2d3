"""This file is what operators decide about messages: retry, park, drop, a chunk of rows at a time.

Each chunk is a short transaction of its own, so that settlements get in between however many rows are meant.
"""

from collections.abc import Sequence

from relay.core.admin import BulkAction, MessageState
from relay.core.model import RowId
from relay.outbox.bulk import DECISIONS, Done, states_of
from relay.outbox.postgres import selection, settle, tenants
from relay.outbox.postgres.connection import StoreConnection

CHUNK = 500
"""Rows in one transaction: some 20 ms, so that settlements get in between."""

# Locked in the order of the ids, as settlements are, so that neither waits for the other for ever; and looked
# at again once they are locked: a settlement may have been quicker.
_LOCKED = f"""
WITH locked AS MATERIALIZED (
    SELECT id FROM relay_outbox WHERE id = ANY($1::bigint[]) AND state = ANY($2::text[]) AND {selection.STILL}
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

_TELL = """
INSERT INTO relay_history (message_row, what, detail) SELECT unnest($1::bigint[]), $2, $3
"""


async def chunk(session: StoreConnection, order: BulkAction, after: RowId) -> Done:
    """Decide about the next rows behind `after`, and make their tenants' workers look again."""
    states = states_of(order.what, order.wanted)
    page = await selection.next_page(session, order.wanted, states, CHUNK, after)
    return Done(await _apply(session, order, states, page.ids) if page.ids else 0, page.last)


async def _apply(
    session: StoreConnection, order: BulkAction, states: tuple[MessageState, ...], rows: Sequence[RowId]
) -> int:
    values = (rows, states, *selection.still(order.wanted))
    what = DECISIONS[order.what].done
    if order.what == "retry":
        changed = await session.fetch(_RETRY, *values)
    else:
        changed = await session.fetch(_SET_ASIDE, *values, what, order.reason)
    done = sorted(row for row, _ in changed)
    if done:
        await session.execute(_TELL, done, what, order.reason)
        await settle.forget(session, done)
        await tenants.bump(session, sorted({tenant for _, tenant in changed}))
    return len(done)
