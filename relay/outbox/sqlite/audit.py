"""The audit on SQLite: what operators did."""

from collections.abc import Sequence
from sqlite3 import Connection

from relay.core.admin import AuditAction, AuditEntry
from relay.core.model import AuditId, TenantId
from relay.outbox.bulk import ABANDONED_SECONDS
from relay.outbox.sqlite.instants import parse_instant
from relay.outbox.sqlite.json_rows import in_one_step, integer, rows, text
from relay.outbox.values import audit_entry

_COLUMNS = f"""
    id, {text("at")}, {text("who")}, {text("what")}, upper({text("tenant_id")}), {text("selection")},
    {text("reason")}, {integer("messages")}, outcome, {text("ended_at")}
"""

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


def newest(connection: Connection, limit: int, tenant: TenantId | None = None) -> Sequence[AuditEntry]:
    """The newest first."""
    if tenant is None:
        found = rows(connection, _NEWEST, (limit,))
    else:
        found = rows(connection, _OF_TENANT, (tenant, limit))
    return [audit_entry(row, parse_instant) for row in found]


def entry(connection: Connection, audit_id: AuditId) -> AuditEntry | None:
    """One of them."""
    row = connection.execute(_ENTRY, (audit_id,)).fetchone()
    return None if row is None else audit_entry(row, parse_instant)


def note(
    connection: Connection,
    who: str,
    what: AuditAction,
    tenant: TenantId | None,
    selection: str = "",
    reason: str = "",
) -> None:
    """Record something that was done at once."""
    connection.execute(_NOTE, (who, what, tenant, selection, reason))


def prune(connection: Connection, older_than: float, limit: int) -> int:
    """Delete the oldest; actions without progress are marked as failed."""
    connection.execute(_ABANDON, (ABANDONED_SECONDS,))
    return connection.execute(_PRUNE, (limit, older_than)).rowcount
