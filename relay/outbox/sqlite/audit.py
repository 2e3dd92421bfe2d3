"""This file is the audit: what persons did, and how far their decisions about many messages have come."""

from collections.abc import Sequence
from sqlite3 import Connection
from typing import Any, get_args

from relay.core.admin import AuditEntry, BulkAction, Outcome
from relay.core.model import AuditId, RowId, TenantId
from relay.core.ports import StoreError
from relay.outbox import bulk as bulk_rules
from relay.outbox.sqlite import bulk
from relay.outbox.sqlite.json_rows import in_one_step, rows
from relay.outbox.sqlite.tenants import instant

_COLUMNS = "id, at, who, what, upper(tenant_id), selection, reason, messages, outcome, ended_at"

_ENTRY = f"SELECT {_COLUMNS} FROM relay_audit WHERE id = ?"  # noqa: S608  # constants

_NEWEST = in_one_step(
    10,
    f"SELECT {_COLUMNS} FROM relay_audit ORDER BY id DESC LIMIT ?",  # noqa: S608  # constants
)

_OF_TENANT = in_one_step(
    10,
    f"""
SELECT {_COLUMNS} FROM relay_audit WHERE id IN (
    SELECT * FROM (SELECT id FROM relay_audit INDEXED BY relay_audit_tenant
                   WHERE tenant_id = ?1 ORDER BY id DESC LIMIT ?2)
    UNION ALL
    SELECT * FROM (SELECT id FROM relay_audit INDEXED BY relay_audit_tenant
                   WHERE tenant_id IS NULL ORDER BY id DESC LIMIT ?2))
ORDER BY id DESC LIMIT ?2
""",  # noqa: S608  # constants
)

_NOTE = """
INSERT INTO relay_audit (who, what, tenant_id, selection, reason, outcome, ended_at)
VALUES (?, ?, upper(?), ?, ?, 'done', strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
"""

_BEGIN = """
INSERT INTO relay_audit (who, what, tenant_id, selection, reason, outcome, wanted)
VALUES (?, ?, upper(?), ?, ?, 'running', ?)
"""

_RUNNING = "SELECT what, wanted, who, reason, reached, outcome FROM relay_audit WHERE id = ?"

_MOVE = """
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

_ABANDON = """
UPDATE relay_audit SET outcome = 'failed', ended_at = moved_at
WHERE id IN (SELECT id FROM relay_audit INDEXED BY relay_audit_running WHERE outcome = 'running')
  AND moved_at < strftime('%Y-%m-%dT%H:%M:%fZ', 'now', printf('-%.3f seconds', ?))
"""

_PRUNE = """
DELETE FROM relay_audit WHERE id IN (
    SELECT id FROM (SELECT id, at FROM relay_audit ORDER BY id LIMIT ?)
    WHERE at < strftime('%Y-%m-%dT%H:%M:%fZ', 'now', printf('-%.3f seconds', ?)))
"""


def newest(connection: Connection, limit: int, tenant: TenantId | None) -> Sequence[AuditEntry]:
    """The newest first."""
    if tenant is None:
        found = rows(connection, _NEWEST, (limit,))
    else:
        found = rows(connection, _OF_TENANT, (tenant, limit))
    return [_entry(row) for row in found]


def entry(connection: Connection, audit: AuditId) -> AuditEntry | None:
    """One of them."""
    row = connection.execute(_ENTRY, (audit,)).fetchone()
    return None if row is None else _entry(row)


def note(
    connection: Connection,
    who: str,
    what: str,
    tenant: TenantId | None,
    selection: str = "",
    reason: str = "",
) -> None:
    """Something was done, at one go."""
    connection.execute(_NOTE, (who, what, tenant, selection, reason))


def begin(connection: Connection, order: BulkAction) -> AuditId:
    """A decision that is gone on with."""
    wanted = order.wanted
    values = (order.who, order.what, wanted.tenant, bulk_rules.described(wanted), order.reason)
    return AuditId(connection.execute(_BEGIN, (*values, bulk_rules.packed(wanted))).lastrowid or 0)


def go_on(connection: Connection, audit: AuditId) -> AuditEntry:
    """The next chunk, unless it is over."""
    row = connection.execute(_RUNNING, (audit,)).fetchone()
    if row is None:
        raise StoreError(f"there is no decision {audit} in the audit; it may have been kept long enough")
    what, wanted, who, reason, reached, outcome = row
    if outcome == "running":
        order = BulkAction(what, bulk_rules.unpacked(wanted), who, reason)
        done = bulk.chunk(connection, order, RowId(reached))
        connection.execute(_MOVE, {"audit": audit, "rows": done.rows, "last": done.last})
    return _entry(connection.execute(_ENTRY, (audit,)).fetchone())


def cancel(connection: Connection, audit: AuditId, who: str) -> bool:
    """Whether it was running still. Who cancelled it is an entry of its own."""
    cancelled = connection.execute(_CANCEL, (audit,)).fetchone()
    if cancelled is None:
        return False
    what, tenant = cancelled
    note(connection, who, "cancel", tenant, f"{what} {audit}")
    return True


def prune(connection: Connection, older_than: float, limit: int) -> int:
    """Delete the oldest; those that nobody went on with are told to have failed."""
    connection.execute(_ABANDON, (bulk_rules.ABANDONED_SECONDS,))
    return connection.execute(_PRUNE, (limit, older_than)).rowcount


_OUTCOMES: dict[str, Outcome] = {name: name for name in get_args(Outcome)}


def _entry(row: Sequence[Any]) -> AuditEntry:
    number, at, who, what, tenant, selection, reason, messages, outcome, ended_at = row
    return AuditEntry(
        AuditId(number),
        instant(at),
        who,
        what,
        None if tenant is None else TenantId(tenant),
        selection,
        reason,
        messages,
        _OUTCOMES[outcome],
        None if ended_at is None else instant(ended_at),
    )
