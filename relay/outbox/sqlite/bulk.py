"""Bulk actions of operators on SQLite: retry, park, drop, a chunk of rows at a time.

Each chunk is a short transaction of its own, so that the relay's settlements and the applications' inserts
get in between however many rows are selected.
"""

import json
from collections.abc import Sequence
from sqlite3 import Connection

from relay.core.admin import FIRST, ActionCount, AuditEntry, BulkAction
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
from relay.outbox.sqlite import audit, selection, tenants
from relay.outbox.sqlite.json_rows import in_one_step, rows, text

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

_ADD_HISTORY = """
INSERT INTO relay_history (row, what, detail, settlement)
SELECT value, :done, :reason, :action FROM json_each(:rows)
"""

_OUTCOME = in_one_step(
    3,
    f"""
SELECT state, CASE WHEN state = 'parked' THEN {text("reason")} END AS why, count(*)
FROM (SELECT row FROM relay_history INDEXED BY relay_history_retried
      WHERE what = 'retried' AND settlement = ? LIMIT ?) AS found
CROSS JOIN relay_outbox ON id = found.row
GROUP BY 1, 2
""",  # noqa: S608  # constants
)

_TENANTS = """
SELECT DISTINCT upper(tenant_id) FROM relay_outbox WHERE id IN (SELECT value FROM json_each(?))
"""

_BEGIN = """
INSERT INTO relay_audit (who, what, tenant_id, selection, reason, outcome, wanted, reached)
VALUES (?, ?, upper(?), ?, ?, 'running', ?, ?)
"""

_RUNNING = """
SELECT what, CAST(wanted AS TEXT), CAST(who AS TEXT), CAST(reason AS TEXT), CAST(reached AS INTEGER), outcome
FROM relay_audit WHERE id = ?
"""

_ADVANCE = """
UPDATE relay_audit
SET messages = messages + :rows, reached = coalesce(:last, reached),
    moved_at = strftime('%Y-%m-%dT%H:%M:%fZ', 'now'),
    outcome = CASE WHEN :last IS NULL THEN 'done' ELSE 'running' END,
    ended_at = CASE WHEN :last IS NULL THEN strftime('%Y-%m-%dT%H:%M:%fZ', 'now') END
WHERE id = :audit
"""

_CANCEL = """
UPDATE relay_audit SET outcome = 'cancelled', ended_at = strftime('%Y-%m-%dT%H:%M:%fZ', 'now')
WHERE id = ? AND outcome = 'running'
RETURNING what, tenant_id
"""


def begin(connection: Connection, order: BulkAction) -> AuditId:
    """Record it as running; its filter has a moment."""
    wanted = order.wanted
    values = (order.who, order.what, wanted.tenant, summary(wanted), order.reason, filter_json(wanted), FIRST)
    return AuditId(connection.execute(_BEGIN, values).lastrowid or 0)


def advance(connection: Connection, audit_id: AuditId) -> AuditEntry:
    """Apply it to the next chunk, unless it is over."""
    row = connection.execute(_RUNNING, (audit_id,)).fetchone()
    if row is None:
        raise no_such_action(audit_id)
    what, wanted, who, reason, reached, outcome = row
    if outcome == "running":
        order = stored_order(audit_id, what, wanted, who, reason)
        done = apply_chunk(connection, order, RowId(reached), audit_id)
        connection.execute(_ADVANCE, {"audit": audit_id, "rows": done.rows, "last": done.last})
    entry = audit.entry(connection, audit_id)
    assert entry is not None
    return entry


def cancel(connection: Connection, audit_id: AuditId, who: str) -> bool:
    """Whether it was still running. Who cancelled it is an entry of its own."""
    cancelled = connection.execute(_CANCEL, (audit_id,)).fetchone()
    if cancelled is None:
        return False
    what, tenant = cancelled
    audit.note(connection, who, "cancel", tenant, f"{what} {audit_id}")
    return True


def outcome(connection: Connection, audit_id: AuditId, limit: int) -> Sequence[ActionCount]:
    """What became of the messages of a retry."""
    found = rows(connection, _OUTCOME, (action_mark(audit_id), limit))
    return [ActionCount(state, reason or "", count) for state, reason, count in found]


def apply_chunk(connection: Connection, order: BulkAction, after: RowId, audit_id: AuditId) -> ChunkResult:
    """Change the next rows behind `after`, and make their tenants' workers discard what they prefetched."""
    page = selection.page(connection, order.wanted, states_of(order.what, order.wanted), CHUNK, after)
    if page.ids:
        _apply(connection, order, page.ids, audit_id)
    return ChunkResult(len(page.ids), page.last)


def _apply(connection: Connection, order: BulkAction, ids: Sequence[RowId], audit_id: AuditId) -> None:
    values = {"rows": json.dumps(ids), "done": ACTIONS[order.what].done, "reason": order.reason}
    values["action"] = action_mark(audit_id)
    connection.execute(_RETRY if order.what == "retry" else _SET_ASIDE, values)
    connection.execute(_ADD_HISTORY, values)
    for (tenant,) in connection.execute(_TENANTS, (values["rows"],)).fetchall():
        tenants.bump(connection, tenant)
