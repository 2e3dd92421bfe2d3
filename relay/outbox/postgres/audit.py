"""This file is the audit: what persons did, and how far their decisions about many messages have come."""

from collections.abc import Sequence
from datetime import UTC
from typing import get_args

from relay.core.admin import AuditEntry, BulkAction, Outcome
from relay.core.model import AuditId, RowId, TenantId
from relay.core.ports import StoreError
from relay.outbox import bulk as bulk_rules
from relay.outbox.postgres import bulk
from relay.outbox.postgres.connection import Row, StoreConnection

_COLUMNS = "id, at, who, what, tenant_id, selection, reason, messages, outcome, ended_at"

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

_BEGIN = """
INSERT INTO relay_audit (who, what, tenant_id, selection, reason, outcome, wanted)
VALUES ($1, $2, upper($3), $4, $5, 'running', $6::text::json) RETURNING id
"""

_RUNNING = """
SELECT what, wanted::text, who, reason, reached, outcome FROM relay_audit WHERE id = $1 FOR UPDATE
"""

_MOVE = f"""
UPDATE relay_audit
SET messages = messages + $2, reached = coalesce($3::bigint, reached), moved_at = clock_timestamp(),
    outcome = CASE WHEN $3::bigint IS NULL THEN 'done' ELSE 'running' END,
    ended_at = CASE WHEN $3::bigint IS NULL THEN clock_timestamp() END
WHERE id = $1 RETURNING {_COLUMNS}
"""  # noqa: S608  # constants

_CANCEL = """
UPDATE relay_audit SET outcome = 'cancelled', ended_at = clock_timestamp()
WHERE id = $1 AND outcome = 'running' RETURNING what, tenant_id
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


async def newest(session: StoreConnection, limit: int, tenant: TenantId | None) -> Sequence[AuditEntry]:
    """The newest first."""
    if tenant is None:
        rows = await session.fetch(_NEWEST, limit)
    else:
        rows = await session.fetch(_OF_TENANT, tenant.upper(), limit)
    return [_entry(row) for row in rows]


async def entry(session: StoreConnection, audit: AuditId) -> AuditEntry | None:
    """One of them."""
    row = await session.fetchrow(_ENTRY, audit)
    return None if row is None else _entry(row)


async def note(
    session: StoreConnection,
    who: str,
    what: str,
    tenant: TenantId | None,
    selection: str = "",
    reason: str = "",
) -> None:
    """Something was done, at one go."""
    await session.execute(_NOTE, who, what, tenant, selection, reason)


async def begin(session: StoreConnection, order: BulkAction) -> AuditId:
    """A decision that is gone on with."""
    wanted = order.wanted
    values = (order.who, order.what, wanted.tenant, bulk_rules.described(wanted), order.reason)
    return AuditId(await session.fetchval(_BEGIN, *values, bulk_rules.packed(wanted)))


async def go_on(session: StoreConnection, audit: AuditId) -> AuditEntry:
    """The next chunk, unless it is over."""
    row = await session.fetchrow(_RUNNING, audit)
    if row is None:
        raise StoreError(f"there is no decision {audit} in the audit; it may have been kept long enough")
    what, wanted, who, reason, reached, outcome = row
    if outcome == "running":
        order = BulkAction(what, bulk_rules.unpacked(wanted), who, reason)
        done = await bulk.chunk(session, order, RowId(reached))
        moved = await session.fetchrow(_MOVE, audit, done.rows, done.last)
    else:
        moved = await session.fetchrow(_ENTRY, audit)
    assert moved is not None, "it is locked"
    return _entry(moved)


async def cancel(session: StoreConnection, audit: AuditId, who: str) -> bool:
    """Whether it was running still. Who cancelled it is an entry of its own."""
    cancelled = await session.fetchrow(_CANCEL, audit)
    if cancelled is None:
        return False
    what, tenant = cancelled
    await note(session, who, "cancel", tenant, f"{what} {audit}")
    return True


async def prune(session: StoreConnection, older_than: float, limit: int) -> int:
    """Delete the oldest; those that nobody went on with are told to have failed."""
    await session.execute(_ABANDON, bulk_rules.ABANDONED_SECONDS)
    return await session.execute(_PRUNE, limit, older_than)


_OUTCOMES: dict[str, Outcome] = {name: name for name in get_args(Outcome)}


def _entry(row: Row) -> AuditEntry:
    number, at, who, what, tenant, selection, reason, messages, outcome, ended_at = row
    return AuditEntry(
        AuditId(number),
        at.astimezone(UTC),
        who,
        what,
        None if tenant is None else TenantId(tenant),
        selection,
        reason,
        messages,
        _OUTCOMES[outcome],
        None if ended_at is None else ended_at.astimezone(UTC),
    )
