"""This file is what operators decide about messages: retry, park, drop, a chunk of rows at a time.

Each chunk is a short transaction of its own, so that the relay's settlements and the applications' inserts
get in between however many rows are meant.
"""

import json
import sqlite3
from collections.abc import Sequence

from relay.core.admin import BulkAction
from relay.core.model import RowId
from relay.outbox.bulk import DECISIONS, Done, states_of
from relay.outbox.sqlite import selection, tenants

CHUNK = 500
"""Rows in one transaction: some 20 ms, so that settlements and inserts get in between."""

_RETRY = """
UPDATE relay_outbox
SET state = 'pending', attempts = 0, not_before = NULL, reason = NULL, settled_at = NULL,
    queued_at = strftime('%Y-%m-%dT%H:%M:%fZ', 'now')
WHERE id IN (SELECT value FROM json_each(:rows))
"""

_SET_ASIDE = """
UPDATE relay_outbox
SET state = :done, reason = :reason, not_before = NULL, settled_at = strftime('%Y-%m-%dT%H:%M:%fZ', 'now')
WHERE id IN (SELECT value FROM json_each(:rows))
"""

_TELL = """
INSERT INTO relay_history (row, what, detail) SELECT value, :done, :reason FROM json_each(:rows)
"""

_TENANTS = """
SELECT DISTINCT upper(tenant_id) FROM relay_outbox WHERE id IN (SELECT value FROM json_each(?))
"""


def chunk(connection: sqlite3.Connection, order: BulkAction, after: RowId) -> Done:
    """Decide about the next rows behind `after`, and make their tenants' workers look again."""
    states = states_of(order.what, order.wanted)
    page = selection.page(connection, order.wanted, states, CHUNK, after)
    if page.ids:
        _apply(connection, order, page.ids)
    return Done(len(page.ids), page.last)


def _apply(connection: sqlite3.Connection, order: BulkAction, rows: Sequence[RowId]) -> None:
    values = {"rows": json.dumps(rows), "done": DECISIONS[order.what].done, "reason": order.reason}
    connection.execute(_RETRY if order.what == "retry" else _SET_ASIDE, values)
    connection.execute(_TELL, values)
    for (tenant,) in connection.execute(_TENANTS, (values["rows"],)).fetchall():
        tenants.bump(connection, tenant)
