"""This file is which tenants this relay may carry, where several share the outbox (`ports.Leases`)."""

from collections.abc import Callable, Iterable, Mapping, Sequence, Set

from relay.core.model import RowId, TenantId
from relay.core.ports import LeaseStatus
from relay.outbox.postgres.connection import StoreConnection
from relay.outbox.postgres.database import Database
from relay.outbox.postgres.tenants import hint

_FORGET_SECONDS = 24 * 3600.0  # a process that did not renew for so long is forgotten

_BEAT = """
INSERT INTO relay_holders (token, relay, until) VALUES ($1, $2, clock_timestamp() + make_interval(secs => $3))
ON CONFLICT (token) DO UPDATE SET relay = excluded.relay, until = excluded.until
"""

_ALIVE = "SELECT DISTINCT relay FROM relay_holders WHERE until > clock_timestamp()"

_HELD = "SELECT tenant_id, fence FROM relay_leases WHERE token = $1"

# `dead` is locked against its renewal: either the holder renews first, and keeps its leases, or it finds them
# taken when it renews. A token in a lease always has its holder's row.
_TAKE = """
WITH dead AS MATERIALIZED (
    SELECT token FROM relay_holders
    WHERE token <> $1 AND until <= clock_timestamp()
      AND token IN (SELECT token FROM relay_leases WHERE tenant_id = ANY ($2::text[]))
    ORDER BY token FOR NO KEY UPDATE)
INSERT INTO relay_leases (tenant_id, token)
SELECT tenant_id, $1 FROM unnest($2::text[]) AS asked (tenant_id)
WHERE EXISTS (SELECT FROM relay_holders WHERE token = $1 AND until > clock_timestamp())
ORDER BY tenant_id
ON CONFLICT (tenant_id) DO UPDATE SET token = excluded.token, fence = relay_leases.fence + 1
WHERE relay_leases.token IS NULL OR relay_leases.token IN (SELECT token FROM dead)
"""

_GIVE_BACK = "UPDATE relay_leases SET token = NULL WHERE token = $1 AND tenant_id = ANY ($2::text[])"

_LEAVE = "DELETE FROM relay_holders WHERE token = $1"  # its leases become free with it

_SWEEP = "DELETE FROM relay_holders WHERE until < clock_timestamp() - make_interval(secs => $1)"


class PostgresLeases:
    """`ports.Leases` on the outbox's tables. `relay`: this process' name, as its heartbeat has it by now."""

    def __init__(self, database: Database, token: str, seconds: float, relay: Callable[[], str]) -> None:
        self._database, self._token, self._seconds, self._relay = database, token, seconds, relay
        self.fences: dict[TenantId, int] = {}
        """Of the leases that this process holds, as it last knew."""
        self.in_use = False
        """Whether settlements are fenced."""

    @property
    def seconds(self) -> float:
        """See ports.Leases."""
        return self._seconds

    async def renew(self) -> LeaseStatus:
        """See ports.Leases."""
        self.in_use = True
        name = self._relay()

        async def beat(session: StoreConnection) -> LeaseStatus:
            await session.execute(_BEAT, self._token, name, self._seconds)
            alive = frozenset(row["relay"] for row in await session.fetch(_ALIVE))
            self.fences = await self._held(session)
            return LeaseStatus(alive, frozenset(self.fences))

        return await self._database.read(beat)  # the second statement sees what was taken before the first

    async def acquire(self, tenants: Sequence[TenantId]) -> frozenset[TenantId]:
        """See ports.Leases."""
        self.in_use = True
        asked = sorted({TenantId(tenant.upper()) for tenant in tenants})

        async def take(session: StoreConnection) -> frozenset[TenantId]:
            await session.execute(_TAKE, self._token, asked)
            self.fences = await self._held(session)
            return frozenset(asked) & self.fences.keys()

        return await self._database.write(take)

    async def release(self, tenants: Sequence[TenantId]) -> None:
        """See ports.Leases."""
        asked = [tenant.upper() for tenant in tenants]

        async def give_back(session: StoreConnection) -> None:
            if await session.execute(_GIVE_BACK, self._token, asked):
                await hint(session)  # others may take them at once

        for tenant in tenants:
            self.fences.pop(tenant, None)
        await self._database.write(give_back)

    async def leave(self) -> None:
        """Give all of them back, and the heartbeat."""

        async def go(session: StoreConnection) -> None:
            if await session.execute(_LEAVE, self._token):
                await hint(session)  # others may take them at once

        if self.in_use:
            self.fences.clear()
            await self._database.write(go)

    async def sweep(self) -> None:
        """Forget processes that ended long ago."""

        async def forget(session: StoreConnection) -> None:
            await session.execute(_SWEEP, _FORGET_SECONDS)

        await self._database.write(forget)

    async def _held(self, session: StoreConnection) -> dict[TenantId, int]:
        return {TenantId(row["tenant_id"]): row["fence"] for row in await session.fetch(_HELD, self._token)}


class Readings:
    """Under which lease each row was read that may still be settled: its fence then."""

    def __init__(self) -> None:
        self._fences: dict[RowId, int] = {}
        self._rows: dict[TenantId, Set[RowId]] = {}

    def note(self, tenant: TenantId, known: Set[RowId], found: Iterable[RowId], fence: int) -> None:
        """`found` was read now; of what was read before, only the `known` matter still."""
        before, new = self._rows.get(tenant, frozenset()), frozenset(found)
        for row in before - known - new:
            self._fences.pop(row, None)
        self._rows[tenant] = (before & known) | new
        self._fences.update(dict.fromkeys(new, fence))

    def fences(self, rows: Iterable[RowId]) -> Mapping[RowId, int]:
        """Of those of the rows that were read under a lease."""
        return {row: self._fences[row] for row in rows if row in self._fences}
