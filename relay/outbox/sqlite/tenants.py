"""Tenants and relays on SQLite: who has work, pauses, live states, heartbeats."""

import json
from collections.abc import Mapping, Sequence
from sqlite3 import Connection

from relay.core.admin import RelayBeat
from relay.core.model import TenantId, TenantState
from relay.core.ports import RELAY, Control, Notification
from relay.outbox.sqlite import audit
from relay.outbox.sqlite.instants import format_instant, parse_instant
from relay.outbox.sqlite.json_rows import in_one_step, integer, rows, text
from relay.outbox.values import ALIVE_SECONDS, HeartbeatRow, relay_beats, tenant_states

_PENDING = in_one_step(
    1,
    """
WITH RECURSIVE found(tenant) AS (
    SELECT (SELECT tenant_id FROM relay_outbox INDEXED BY relay_outbox_lanes
            WHERE state = 'pending' ORDER BY tenant_id LIMIT 1)
    UNION ALL
    SELECT (SELECT tenant_id FROM relay_outbox INDEXED BY relay_outbox_lanes
            WHERE state = 'pending' AND tenant_id > found.tenant ORDER BY tenant_id LIMIT 1)
    FROM found WHERE tenant IS NOT NULL
) SELECT upper(tenant) FROM found WHERE tenant IS NOT NULL
""",
)

_CONTROLS = in_one_step(
    3,
    f"""
SELECT upper({text("tenant_id")}), {integer("revision")}, {text("paused")}
FROM relay_tenants WHERE revision > 0
""",  # noqa: S608  # constants
)

_BUMP = """
INSERT INTO relay_tenants (tenant_id, revision) VALUES (upper(?), 1)
ON CONFLICT (tenant_id) DO UPDATE SET revision = revision + 1
"""

_PAUSED = "UPDATE relay_tenants SET paused = ? WHERE tenant_id = ?"

_REPORT = """
INSERT INTO relay_tenants (tenant_id, relay, state, reason, since, next_try, kind, documents)
VALUES (upper(:tenant), :relay, :state, :reason, :since, :next_try, :kind, :documents)
ON CONFLICT (tenant_id) DO UPDATE SET
    relay = excluded.relay, state = excluded.state, reason = excluded.reason,
    since = excluded.since, next_try = excluded.next_try, kind = excluded.kind, documents = excluded.documents
"""

# A beat that lies in the future is as old as one that lies as far back: the host's clock went back since.
_STATES = in_one_step(
    8,
    f"""
SELECT upper({text("tenant_id")}), {text("state")}, {text("relay_tenants.reason")}, {text("since")},
       {text("next_try")}, {text("relay")}, {text("kind")}, CAST(documents AS TEXT)
FROM relay_tenants JOIN relay_relays USING (relay)
WHERE state IS NOT NULL AND abs(julianday('now') - julianday(beat_at)) * 86400 <= ?
ORDER BY tenant_id
""",  # noqa: S608  # constants
)

_CLEAR_STATES = """
UPDATE relay_tenants SET relay = NULL, state = NULL, reason = NULL, since = NULL, next_try = NULL,
    kind = NULL, documents = NULL
WHERE relay = ?
"""

_BEAT_AGAIN = """
UPDATE relay_relays SET beat_at = strftime('%Y-%m-%dT%H:%M:%fZ', 'now'), details = ?
WHERE relay = ? AND token = ?
"""

_FIRST_BEAT = "INSERT INTO relay_relays (relay, token, details) VALUES (?, ?, ?)"

_RELAYS = f"""
SELECT {text("relay")}, {text("details")}, {text("started_at")}, {text("beat_at")},
       abs(julianday('now') - julianday(beat_at)) * 86400 <= ?
FROM relay_relays ORDER BY started_at, relay
"""  # noqa: S608  # constants


def notification(connection: Connection) -> Notification:
    """Who has work, one step along the index for each, however many rows it has; and the controls."""
    controls = {
        TenantId(tenant): Control(revision, paused)
        for tenant, revision, paused in rows(connection, _CONTROLS)
    }
    return Notification(pending(connection), controls)


def pending(connection: Connection) -> frozenset[TenantId]:
    """The tenants with pending rows."""
    return frozenset(TenantId(tenant) for (tenant,) in rows(connection, _PENDING))


# --- pauses ---------------------------------------------------------------------------------------


def bump(connection: Connection, tenant: TenantId) -> None:
    """Make the tenant's worker discard everything that it has prefetched."""
    connection.execute(_BUMP, (tenant,))


def pause(connection: Connection, tenant: TenantId, reason: str, who: str = RELAY) -> None:
    """Until resumed."""
    bump(connection, tenant)
    connection.execute(_PAUSED, (reason, tenant))
    audit.note(connection, who, "pause", tenant, reason=reason)


def resume(connection: Connection, tenant: TenantId, who: str) -> None:
    """Also a tenant that is not paused: its worker, perhaps halted, sees the revision."""
    bump(connection, tenant)
    connection.execute(_PAUSED, (None, tenant))
    audit.note(connection, who, "resume", tenant)


def ask(connection: Connection, tenant: TenantId, who: str) -> None:
    """The worker, perhaps waiting, sees the revision."""
    bump(connection, tenant)
    audit.note(connection, who, "ask", tenant)


# --- live states ----------------------------------------------------------------------------------


def report(connection: Connection, relay: str, reported: Sequence[TenantState]) -> None:
    """The last one of a tenant counts."""
    connection.executemany(
        _REPORT,
        [
            {
                "tenant": state.tenant_id,
                "relay": relay,
                "state": state.state,
                "reason": state.reason,
                "since": format_instant(state.since),
                "next_try": None if state.next_try is None else format_instant(state.next_try),
                "kind": state.kind,
                "documents": json.dumps(state.documents),
            }
            for state in reported
        ],
    )


def states(connection: Connection) -> Mapping[TenantId, TenantState]:
    """Of relays that are alive; what a dead one wrote is no longer true."""
    return tenant_states(rows(connection, _STATES, (ALIVE_SECONDS,)), parse_instant)


# --- heartbeats -----------------------------------------------------------------------------------


def beat(
    connection: Connection, relay: str, token: str, details: Mapping[str, str], before: str
) -> HeartbeatRow:
    """Write the heartbeat. States that were reported `before` it had a name get the name."""
    text = json.dumps(dict(details))
    if connection.execute(_BEAT_AGAIN, (text, relay, token)).rowcount:
        return HeartbeatRow(again=True)
    found = connection.execute("DELETE FROM relay_relays WHERE relay = ?", (relay,)).rowcount > 0
    connection.execute(_FIRST_BEAT, (relay, token, text))
    connection.execute("UPDATE relay_tenants SET relay = ? WHERE relay = ?", (relay, before))
    return HeartbeatRow(again=False, found_unclean=found)


def leave(connection: Connection, relay: str) -> None:
    """Remove the heartbeat and the live states."""
    connection.execute("DELETE FROM relay_relays WHERE relay = ?", (relay,))
    connection.execute(_CLEAR_STATES, (relay,))


def sweep(connection: Connection, token: str) -> bool:
    """Remove what other processes left behind: one relay a file, so they have ended. Whether any did."""
    left = connection.execute("SELECT relay FROM relay_relays WHERE token <> ?", (token,)).fetchall()
    for (relay,) in left:
        leave(connection, relay)
    return bool(left)


def relays(connection: Connection) -> Sequence[RelayBeat]:
    """Those that did not leave, by start."""
    return relay_beats(connection.execute(_RELAYS, (ALIVE_SECONDS,)), parse_instant)
