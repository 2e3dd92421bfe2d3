"""This file is what operators decide about messages: retry, park, drop, a chunk of rows at a time."""

import json
import sqlite3
from collections.abc import Sequence

from relay.model import RowId
from relay.outbox.decisions import Decision, Done
from relay.outbox.sqlite import desk, tenants
from relay.ports import Filter

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
SET state = :state, reason = :reason, not_before = NULL, settled_at = strftime('%Y-%m-%dT%H:%M:%fZ', 'now')
WHERE id IN (SELECT value FROM json_each(:rows))
"""

_TELL = """
INSERT INTO relay_history (row, what, detail) SELECT value, :what, :detail FROM json_each(:rows)
"""

_TENANTS = """
SELECT DISTINCT upper(tenant_id) FROM relay_outbox WHERE id IN (SELECT value FROM json_each(?))
"""


def chunk(
    connection: sqlite3.Connection, wanted: Filter, decision: Decision, after: int, upto: RowId
) -> Done:
    """Decide about the next rows behind `after`, and make their tenants' workers look again."""
    states = tuple(state for state in decision.states if wanted.state in (None, state))
    rows = (
        [row for row in desk.select(connection, wanted, states, CHUNK, after) if row <= upto]
        if states
        else []
    )
    if rows:
        _apply(connection, decision, rows)
    return Done(len(rows), rows[-1] if len(rows) == CHUNK else None)


def _apply(connection: sqlite3.Connection, decision: Decision, rows: Sequence[RowId]) -> None:
    values = {
        "rows": json.dumps(rows),
        "state": decision.what,
        "what": decision.what,
        "reason": decision.reason,
        "detail": decision.reason,
    }
    connection.execute(_RETRY if decision.what == "retried" else _SET_ASIDE, values)
    connection.execute(_TELL, values)
    for (tenant,) in connection.execute(_TENANTS, (values["rows"],)).fetchall():
        tenants.bump(connection, tenant)
