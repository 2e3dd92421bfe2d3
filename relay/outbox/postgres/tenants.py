"""This file is what is kept for tenants and relays: who has work, pauses, live states, heartbeats."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

from relay.core.admin import RelayBeat
from relay.core.model import DocumentName, StateName, TenantId, TenantState
from relay.core.ports import Control, Notification
from relay.outbox.postgres.connection import StoreConnection

ALIVE_SECONDS = 15.0
"""A relay whose heartbeat is older than this counts as gone; it beats at least three times in that time."""

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

# $1 is 0: what has a value is planned anew each time, and kept (`session.py`).
_SIGNALS = f"""
{_PENDING} UNION ALL SELECT tenant_id, revision, paused FROM relay_tenants WHERE revision > $1
"""  # noqa: S608

_BUMP = """
INSERT INTO relay_tenants (tenant_id, revision)
SELECT tenant, 1 FROM unnest($1::text[]) AS asked (tenant) ORDER BY tenant
ON CONFLICT (tenant_id) DO UPDATE SET revision = relay_tenants.revision + 1
"""

_HINT = """
SELECT pg_notify('relay_outbox', $1) WHERE coalesce(current_setting('relay.notify', true), 'on') <> 'off'
"""

_PAUSED = "UPDATE relay_tenants SET paused = $1 WHERE tenant_id = $2"

# What was given over meanwhile is the next holder's to tell.
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

# Where leases are in use, the holder's word counts: not that of a relay which gave the tenant back.
_STATES = """
SELECT known.tenant_id, known.state, known.reason, known.since, known.next_try, known.relay,
       CASE WHEN kind_since = since THEN kind END, CASE WHEN kind_since = since THEN documents END
FROM relay_tenants known JOIN relay_relays ON relay_relays.relay = known.relay
    LEFT JOIN relay_leases lease ON lease.tenant_id = known.tenant_id
    LEFT JOIN relay_holders holder ON holder.token = lease.token
WHERE known.state IS NOT NULL AND beat_at >= clock_timestamp() - make_interval(secs => $1)
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

_MET = "DELETE FROM relay_relays WHERE relay = $1"

_FIRST_BEAT = "INSERT INTO relay_relays (relay, token, details) VALUES ($1, $2, $3::text::json)"

_RENAME = "UPDATE relay_tenants SET relay = $1 WHERE relay = $2"

_LEAVE = "DELETE FROM relay_relays WHERE relay = $1 AND token = $2"

_SWEEP = """
DELETE FROM relay_relays WHERE token <> $1 AND beat_at < clock_timestamp() - make_interval(secs => $2)
RETURNING relay
"""

_RELAYS = """
SELECT relay, details, started_at, beat_at, beat_at >= clock_timestamp() - make_interval(secs => $1) AS alive
FROM relay_relays ORDER BY started_at, relay
"""


async def notification(session: StoreConnection) -> Notification:
    """Who has work, one step along the index for each, however many rows it has; and the controls."""
    rows = await session.fetch(_SIGNALS, 0)
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


# --- what persons decide --------------------------------------------------------------------------


async def bump(session: StoreConnection, tenants: Sequence[TenantId]) -> None:
    """Make the tenants' workers look again at everything they have read ahead."""
    await session.execute(_BUMP, sorted({tenant.upper() for tenant in tenants}))
    await hint(session)


async def hint(session: StoreConnection, mark: str = "") -> None:
    """Wake the relays at the commit."""
    await session.execute(_HINT, mark)


async def pause(session: StoreConnection, tenant: TenantId, reason: str | None) -> None:
    """Until resumed; None resumes, also a tenant that is not paused: its worker, perhaps halted, sees it."""
    await bump(session, [tenant])
    await session.execute(_PAUSED, reason, tenant.upper())


async def write_nothing(session: StoreConnection) -> None:
    """Begin a write: a standby, for one, refuses it."""
    await session.execute("UPDATE relay_relays SET beat_at = beat_at WHERE false")


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
    names: dict[str, StateName] = {name: name for name in get_args(StateName)}
    return {
        TenantId(tenant): TenantState(
            TenantId(tenant),
            names[state],
            reason,
            since,
            next_try,
            relay,
            kind or "",
            tuple(map(DocumentName, json.loads(documents or "[]"))),
        )
        for tenant, state, reason, since, next_try, relay, kind, documents in await session.fetch(
            _STATES, ALIVE_SECONDS
        )
        if state in names
    }


# --- heartbeats -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Beat:
    """`again`: not this process' first. `met_another`: an earlier process of the same name did not leave."""

    again: bool
    met_another: bool = False


async def beat(
    session: StoreConnection, relay: str, token: str, details: Mapping[str, str], before: str
) -> Beat:
    """Write the heartbeat. States that were reported `before` it had a name get the name."""
    text = json.dumps(dict(details))
    if await session.execute(_BEAT_AGAIN, relay, token, text):
        return Beat(again=True)
    met_another = await session.execute(_MET, relay) > 0
    await session.execute(_FIRST_BEAT, relay, token, text)
    if before != relay:
        await session.execute(_RENAME, relay, before)
    return Beat(again=False, met_another=met_another)


async def leave(session: StoreConnection, relay: str, token: str) -> None:
    """Take back the heartbeat and the live states, unless another process has taken over the name."""
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
    return [
        RelayBeat(relay, json.loads(details), started, beaten, alive)
        for relay, details, started, beaten, alive in await session.fetch(_RELAYS, ALIVE_SECONDS)
    ]
