"""The audit on PostgreSQL: what operators did."""

from collections.abc import Sequence

from relay.core.admin import AuditAction, AuditEntry
from relay.core.model import AuditId, TenantId
from relay.outbox.bulk import ABANDONED_SECONDS
from relay.outbox.postgres.connection import StoreConnection, utc
from relay.outbox.values import MAX_TEXT, audit_entry

_COLUMNS = f"""
    id, at, left(who, {MAX_TEXT}), left(what, {MAX_TEXT}), tenant_id, left(selection, {MAX_TEXT}),
    left(reason, {MAX_TEXT}), messages, outcome, ended_at
"""

_ENTRY = f"SELECT {_COLUMNS} FROM relay_audit WHERE id = $1"  # noqa: S608  # constants

_NEWEST = f"SELECT {_COLUMNS} FROM relay_audit ORDER BY id DESC LIMIT $1"  # noqa: S608  # constants

# Ordered by what is constant too: no other index gives that order.
_OF_TENANT = f"""
SELECT {_COLUMNS} FROM (
    (SELECT * FROM relay_audit WHERE tenant_id BETWEEN $1 AND $1 ORDER BY tenant_id DESC, id DESC LIMIT $2)
    UNION ALL
    (SELECT * FROM relay_audit WHERE tenant_id IS NULL ORDER BY tenant_id DESC, id DESC LIMIT $2)
) found ORDER BY id DESC LIMIT $2
"""  # noqa: S608  # constants

_NOTE = """
INSERT INTO relay_audit (who, what, tenant_id, selection, reason, outcome, ended_at)
VALUES ($1, $2, upper($3), $4, $5, 'done', clock_timestamp())
"""

_ABANDON = """
UPDATE relay_audit SET outcome = 'failed', ended_at = moved_at
WHERE outcome = 'running' AND moved_at < clock_timestamp() - make_interval(secs => $1)
"""

_PRUNE = """
DELETE FROM relay_audit WHERE id IN (
    SELECT id FROM (SELECT id, at FROM relay_audit ORDER BY id LIMIT $1) oldest
    WHERE at < clock_timestamp() - make_interval(secs => $2))
"""


async def newest(
    session: StoreConnection, limit: int, tenant: TenantId | None = None
) -> Sequence[AuditEntry]:
    """The newest first."""
    if tenant is None:
        rows = await session.fetch(_NEWEST, limit)
    else:
        rows = await session.fetch(_OF_TENANT, tenant.upper(), limit)
    return [audit_entry(tuple(row), utc) for row in rows]


async def entry(session: StoreConnection, audit_id: AuditId) -> AuditEntry | None:
    """One of them."""
    row = await session.fetchrow(_ENTRY, audit_id)
    return None if row is None else audit_entry(tuple(row), utc)


async def note(
    session: StoreConnection,
    who: str,
    what: AuditAction,
    tenant: TenantId | None,
    selection: str = "",
    reason: str = "",
) -> None:
    """Record something that was done at once."""
    await session.execute(_NOTE, who, what, tenant, selection, reason)


async def prune(session: StoreConnection, older_than: float, limit: int) -> int:
    """Delete the oldest; actions without progress are marked as failed."""
    await session.execute(_ABANDON, ABANDONED_SECONDS)
    return await session.execute(_PRUNE, limit, older_than)
