"""Tenants and relays on PostgreSQL: who has work, pauses, live states, heartbeats."""

import json
from collections.abc import Mapping, Sequence

from relay.core.admin import RelayBeat
from relay.core.model import TenantId, TenantState
from relay.core.ports import RELAY, Control, Notification
from relay.outbox.postgres import audit
from relay.outbox.postgres.connection import StoreConnection, utc
from relay.outbox.postgres.incidents import NOTIFY_BELOW
from relay.outbox.values import ALIVE_SECONDS, HeartbeatRow, relay_beats, tenant_states

_PENDING = """
WITH RECURSIVE found(tenant) AS (
    SELECT (SELECT upper(tenant_id) FROM relay_outbox
            WHERE state = 'pending' ORDER BY upper(tenant_id) LIMIT 1)
    UNION ALL
    SELECT (SELECT upper(tenant_id) FROM relay_outbox
            WHERE state = 'pending' AND upper(tenant_id) > found.tenant ORDER BY upper(tenant_id) LIMIT 1)
    FROM found WHERE tenant IS NOT NULL
) SELECT tenant, NULL::bigint AS revision, NULL::text AS paused FROM found WHERE tenant IS NOT NULL
"""

# $1 is 0: what has a value is planned anew each time, and kept (`connection.py`).
_NOTIFICATION = f"""
{_PENDING} UNION ALL SELECT tenant_id, revision, paused FROM relay_tenants WHERE revision > $1
"""  # noqa: S608

_BUMP = """
INSERT INTO relay_tenants (tenant_id, revision)
SELECT tenant, 1 FROM unnest($1::text[]) AS wanted (tenant) ORDER BY tenant
ON CONFLICT (tenant_id) DO UPDATE SET revision = relay_tenants.revision + 1
"""

# Like the one that an INSERT sends: none where the queue is so full that it might fail the transaction.
_NOTIFY = f"""
SELECT pg_notify('relay_outbox', $1)
WHERE coalesce(current_setting('relay.notify', true), 'on') <> 'off'
  AND pg_notification_queue_usage() < {NOTIFY_BELOW}
"""

_PAUSED = "UPDATE relay_tenants SET paused = $1 WHERE tenant_id = $2"

# The state of a tenant that was released meanwhile is for the next holder to report.
_REPORT = """
INSERT INTO relay_tenants (
    tenant_id, relay, state, reason, since, next_try, kind, documents, kind_since)
SELECT tenant_id, $1, state, reason, since, next_try, kind, documents::json, since
FROM unnest($2::text[], $3::text[], $4::text[], $5::timestamptz[], $6::timestamptz[], $7::text[], $8::text[])
    AS reported (tenant_id, state, reason, since, next_try, kind, documents)
WHERE NOT EXISTS (SELECT FROM relay_leases WHERE relay_leases.tenant_id = reported.tenant_id AND token <> $9)
ORDER BY tenant_id
ON CONFLICT (tenant_id) DO UPDATE SET
    relay = excluded.relay, state = excluded.state, reason = excluded.reason,
    since = excluded.since, next_try = excluded.next_try, kind = excluded.kind,
    documents = excluded.documents, kind_since = excluded.kind_since
"""

# A beat that lies in the future is as old as one that lies as far back: the database's clock went back since.
# Where leases are in use, the holder's state counts: not that of a relay which released the tenant.
_STATES = """
SELECT known.tenant_id, known.state, known.reason, known.since, known.next_try, known.relay,
       CASE WHEN kind_since = since THEN kind END, CASE WHEN kind_since = since THEN documents END
FROM relay_tenants known JOIN relay_relays ON relay_relays.relay = known.relay
    LEFT JOIN relay_leases lease ON lease.tenant_id = known.tenant_id
    LEFT JOIN relay_holders holder ON holder.token = lease.token
WHERE known.state IS NOT NULL
  AND beat_at BETWEEN clock_timestamp() - make_interval(secs => $1)
      AND clock_timestamp() + make_interval(secs => $1)
  AND (lease.tenant_id IS NULL OR holder.relay = known.relay)
ORDER BY known.tenant_id
"""

_CLEAR_STATES = """
UPDATE relay_tenants SET relay = NULL, state = NULL, reason = NULL, since = NULL, next_try = NULL,
    kind = NULL, documents = NULL, kind_since = NULL
WHERE relay = ANY ($1::text[])
"""

_BEAT_AGAIN = """
UPDATE relay_relays SET beat_at = clock_timestamp(), details = $3::text::json WHERE relay = $1 AND token = $2
"""

_REMOVE = "DELETE FROM relay_relays WHERE relay = $1"

_FIRST_BEAT = "INSERT INTO relay_relays (relay, token, details) VALUES ($1, $2, $3::text::json)"

_RENAME = "UPDATE relay_tenants SET relay = $1 WHERE relay = $2"

_LEAVE = "DELETE FROM relay_relays WHERE relay = $1 AND token = $2"

_SWEEP = """
DELETE FROM relay_relays
WHERE token <> $1 AND beat_at NOT BETWEEN
    clock_timestamp() - make_interval(secs => $2) AND clock_timestamp() + make_interval(secs => $2)
RETURNING relay
"""

_RELAYS = """
SELECT relay, details, started_at, beat_at,
       beat_at BETWEEN clock_timestamp() - make_interval(secs => $1)
           AND clock_timestamp() + make_interval(secs => $1) AS alive
FROM relay_relays ORDER BY started_at, relay
"""


async def notification(session: StoreConnection) -> Notification:
    """Who has work, one step along the index for each, however many rows it has; and the controls."""
    rows = await session.fetch(_NOTIFICATION, 0)
    return Notification(
        frozenset(TenantId(row["tenant"]) for row in rows if row["revision"] is None),
        {
            TenantId(row["tenant"]): Control(row["revision"], row["paused"])
            for row in rows
            if row["revision"] is not None
        },
    )


async def pending(session: StoreConnection) -> frozenset[TenantId]:
    """The tenants with pending rows."""
    return frozenset(TenantId(row["tenant"]) for row in await session.fetch(_PENDING))


# --- pauses ---------------------------------------------------------------------------------------


async def bump(session: StoreConnection, tenants: Sequence[TenantId]) -> None:
    """Make the tenants' workers discard everything that they have prefetched."""
    await session.execute(_BUMP, sorted({tenant.upper() for tenant in tenants}))
    await notify(session)


async def notify(session: StoreConnection, mark: str = "") -> None:
    """Wake the relays at the commit."""
    await session.execute(_NOTIFY, mark)


async def pause(session: StoreConnection, tenant: TenantId, reason: str, who: str = RELAY) -> None:
    """Until resumed."""
    await bump(session, [tenant])
    await session.execute(_PAUSED, reason, tenant.upper())
    await audit.note(session, who, "pause", tenant, reason=reason)


async def resume(session: StoreConnection, tenant: TenantId, who: str) -> None:
    """Also a tenant that is not paused: its worker, perhaps halted, sees the revision."""
    await bump(session, [tenant])
    await session.execute(_PAUSED, None, tenant.upper())
    await audit.note(session, who, "resume", tenant)


async def ask(session: StoreConnection, tenant: TenantId, who: str) -> None:
    """The worker, perhaps waiting, sees the revision."""
    await bump(session, [tenant])
    await audit.note(session, who, "ask", tenant)


async def write_nothing(session: StoreConnection) -> None:
    """Begin a write: a standby refuses it, and it waits for whoever keeps writers from the messages."""
    await session.execute("UPDATE relay_relays SET beat_at = beat_at WHERE false")
    await session.execute("LOCK TABLE relay_outbox IN ROW EXCLUSIVE MODE")


# --- live states ----------------------------------------------------------------------------------


async def report(session: StoreConnection, relay: str, token: str, reported: Sequence[TenantState]) -> None:
    """The last one of a tenant counts; none of a tenant that another relay holds by now."""
    last = list({state.tenant_id: state for state in reported}.values())
    await session.execute(
        _REPORT,
        relay,
        [state.tenant_id.upper() for state in last],
        [state.state for state in last],
        [state.reason for state in last],
        [state.since for state in last],
        [state.next_try for state in last],
        [state.kind for state in last],
        [json.dumps(state.documents) for state in last],
        token,
    )


async def states(session: StoreConnection) -> Mapping[TenantId, TenantState]:
    """Of relays that are alive; what a dead one wrote is no longer true."""
    return tenant_states(map(tuple, await session.fetch(_STATES, ALIVE_SECONDS)), utc)


# --- heartbeats -----------------------------------------------------------------------------------


async def beat(
    session: StoreConnection, relay: str, token: str, details: Mapping[str, str], before: str
) -> HeartbeatRow:
    """Write the heartbeat. States that were reported `before` it had a name get the name."""
    text = json.dumps(dict(details))
    if await session.execute(_BEAT_AGAIN, relay, token, text):
        return HeartbeatRow(again=True)
    found = await session.execute(_REMOVE, relay) > 0
    await session.execute(_FIRST_BEAT, relay, token, text)
    if before != relay:
        await session.execute(_RENAME, relay, before)
    return HeartbeatRow(again=False, found_unclean=found)


async def leave(session: StoreConnection, relay: str, token: str) -> None:
    """Remove the heartbeat and the live states, unless another process has taken over the name."""
    if await session.execute(_LEAVE, relay, token):
        await session.execute(_CLEAR_STATES, [relay])


async def sweep(session: StoreConnection, token: str) -> bool:
    """Remove what processes left behind that no longer beat. Whether any did."""
    left = [row["relay"] for row in await session.fetch(_SWEEP, token, ALIVE_SECONDS)]
    if left:
        await session.execute(_CLEAR_STATES, left)
    return bool(left)


async def relays(session: StoreConnection) -> Sequence[RelayBeat]:
    """Those that did not leave, by start."""
    return relay_beats(map(tuple, await session.fetch(_RELAYS, ALIVE_SECONDS)), utc)
