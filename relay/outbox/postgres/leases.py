"""Leases on PostgreSQL: which tenants this relay owns, where several share the outbox."""

from collections.abc import Callable, Iterable, Mapping, Sequence, Set

from typing_extensions import override

from relay.core.model import RowId, TenantId
from relay.core.ports import Leases, LeaseStatus
from relay.observability.clocks import uptime
from relay.outbox.postgres.connection import StoreConnection
from relay.outbox.postgres.database import Database
from relay.outbox.postgres.identity import StoreIdentity
from relay.outbox.postgres.late_holders import AheadHolder, LateHolders
from relay.outbox.postgres.tenants import notify

LONGEST_SECONDS = 3600.0
"""The longest that a lease may last: the limit of `RELAY_LEASE_SECONDS`."""

_KEPT_SECONDS = 24 * 3600.0  # a process that did not renew for so long is deleted

_BEAT = """
INSERT INTO relay_holders (token, relay, until, seconds)
VALUES ($1, $2, clock_timestamp() + make_interval(secs => $3), $3)
ON CONFLICT (token) DO UPDATE SET
    relay = excluded.relay, until = excluded.until, seconds = excluded.seconds
"""

# A relay before version 4 does not write how long its heartbeat lasts: as long as any may.
_ALIVE = f"""
SELECT token, relay, until, coalesce(seconds, {LONGEST_SECONDS}) AS seconds,
       token <> $1 AND until > now + make_interval(secs => coalesce(seconds, {LONGEST_SECONDS})) AS is_ahead
FROM relay_holders CROSS JOIN clock_timestamp() AS now WHERE until > now
"""  # noqa: S608

_HELD = "SELECT tenant_id, fence FROM relay_leases WHERE token = $1"

# What a lagging copy says of leases is out of date. Whoever held one in the store before has stopped by then.
_IS_UNSETTLED = """
SELECT EXISTS (
    SELECT FROM relay_identity
    WHERE changed_at BETWEEN clock_timestamp() - make_interval(secs => $1) AND clock_timestamp())
"""

# `dead` is locked against its renewal: either the holder renews first, and keeps its leases, or it finds them
# taken when it renews. A token in a lease always has its holder's row.
_TAKE = """
WITH dead AS MATERIALIZED (
    SELECT token FROM relay_holders
    WHERE token <> $1 AND (until <= clock_timestamp()
          OR (token, until) IN (SELECT * FROM unnest($3::text[], $4::timestamptz[])))
      AND token IN (SELECT token FROM relay_leases WHERE tenant_id = ANY ($2::text[]))
    ORDER BY token FOR NO KEY UPDATE)
INSERT INTO relay_leases (tenant_id, token)
SELECT tenant_id, $1 FROM unnest($2::text[]) AS wanted (tenant_id)
WHERE EXISTS (SELECT FROM relay_holders WHERE token = $1 AND until > clock_timestamp())
ORDER BY tenant_id
ON CONFLICT (tenant_id) DO UPDATE SET token = excluded.token, fence = relay_leases.fence + 1
WHERE relay_leases.token IS NULL OR relay_leases.token IN (SELECT token FROM dead)
"""

_RELEASE = "UPDATE relay_leases SET token = NULL WHERE token = $1 AND tenant_id = ANY ($2::text[])"

_LEAVE = "DELETE FROM relay_holders WHERE token = $1"  # its leases become free with it

_SWEEP = "DELETE FROM relay_holders WHERE until < clock_timestamp() - make_interval(secs => $1)"


class PostgresLeases(Leases):
    """`ports.Leases` on the outbox's tables. `relay`: this process' name, as its heartbeat has it by now.

    After the store changed, nobody takes a lease for as long as one lasts: the new store may not know who
    holds it. A process keeps those that it held, if the new store knows them.
    """

    def __init__(
        self,
        database: Database,
        identity: StoreIdentity,
        token: str,
        seconds: float,
        relay: Callable[[], str],
        clock: Callable[[], float] = uptime,
    ) -> None:
        self._database, self._identity = database, identity
        self._token, self._seconds, self._relay = token, seconds, relay
        self.fences: dict[TenantId, int] = {}
        """Of the leases that this process holds, as it last knew."""
        self.in_use = False
        """Whether settlements are fenced."""
        self._late = LateHolders(clock)

    @property
    @override
    def seconds(self) -> float:
        return self._seconds

    @override
    async def renew(self) -> LeaseStatus:
        self.in_use = True
        name = self._relay()

        async def beat(session: StoreConnection) -> LeaseStatus:
            await self._identity.check(session)
            await session.execute(_BEAT, self._token, name, self._seconds)
            alive = await self._alive(session)
            self.fences = await self._held(session)
            return LeaseStatus(alive, frozenset(self.fences))

        return await self._database.read(beat)  # the second statement sees what was taken before the first

    @override
    async def acquire(self, tenants: Sequence[TenantId]) -> frozenset[TenantId]:
        self.in_use = True
        wanted = sorted({TenantId(tenant.upper()) for tenant in tenants})

        async def take(session: StoreConnection) -> frozenset[TenantId]:
            if await session.fetchval(_IS_UNSETTLED, self._seconds):
                return frozenset()
            ended = list(self._late.ended)
            tokens, untils = [one.token for one in ended], [one.until for one in ended]
            await session.execute(_TAKE, self._token, wanted, tokens, untils)
            self.fences = await self._held(session)
            return frozenset(wanted) & self.fences.keys()

        return await self._database.write(take)

    @override
    async def release(self, tenants: Sequence[TenantId]) -> None:
        wanted = [tenant.upper() for tenant in tenants]

        async def give_up(session: StoreConnection) -> None:
            if await session.execute(_RELEASE, self._token, wanted):
                await notify(session)  # others may take them at once

        for tenant in tenants:
            self.fences.pop(tenant, None)
        await self._database.write(give_up)

    async def leave(self) -> None:
        """Release all of them, and delete the heartbeat."""

        async def go(session: StoreConnection) -> None:
            if await session.execute(_LEAVE, self._token):
                await notify(session)  # others may take them at once

        if self.in_use:
            self.fences.clear()
            await self._database.write(go)

    async def sweep(self) -> None:
        """Delete processes that ended long ago."""

        async def delete(session: StoreConnection) -> None:
            await session.execute(_SWEEP, _KEPT_SECONDS)

        await self._database.write(delete)

    async def _alive(self, session: StoreConnection) -> frozenset[str]:
        """The relays that are alive, as far as is known: not those that have stopped renewing."""
        asked = self._late.asked()
        rows = await session.fetch(_ALIVE, self._token)
        ahead = [
            AheadHolder(row["token"], row["relay"], row["until"], row["seconds"])
            for row in rows
            if row["is_ahead"]
        ]
        self._late.seen(ahead, asked)
        ended = {one.token for one in self._late.ended}
        return frozenset(row["relay"] for row in rows if row["token"] not in ended)

    async def _held(self, session: StoreConnection) -> dict[TenantId, int]:
        return {TenantId(row["tenant_id"]): row["fence"] for row in await session.fetch(_HELD, self._token)}


class ReadFences:
    """Under which lease each row was read that may still be settled: its fence then."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """The fences of another store mean nothing: what was read is settled under the lease as it is now."""
        self._fences: dict[RowId, int] = {}
        self._rows: dict[TenantId, Set[RowId]] = {}

    def note(self, tenant: TenantId, known: Set[RowId], found: Iterable[RowId], fence: int) -> None:
        """`found` was read now; of what was read before, only the `known` still matter."""
        before, new = self._rows.get(tenant, frozenset()), frozenset(found)
        for row in before - known - new:
            self._fences.pop(row, None)
        self._rows[tenant] = (before & known) | new
        self._fences.update(dict.fromkeys(new, fence))

    def of(self, rows: Iterable[RowId]) -> Mapping[RowId, int]:
        """Of those of the rows that were read under a lease."""
        return {row: self._fences[row] for row in rows if row in self._fences}
