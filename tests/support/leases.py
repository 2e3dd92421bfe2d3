"""Leases in memory (`ports.Leases`): several processes on one shelf share its tenants."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from relay.core.model import TenantId
from relay.core.ports import LeaseStatus, StoreError


@dataclass(slots=True)
class Holder:
    """A process, and until when its heartbeat lasts by the handed-in clock."""

    relay: str
    until: float


@dataclass(slots=True)
class Lease:
    """`fence` grows whenever the holder changes; the row stays, so that it never goes back."""

    token: object | None = None
    fence: int = 0


@dataclass(slots=True)
class Register:
    """What all processes share."""

    holders: dict[object, Holder] = field(default_factory=dict)
    leases: dict[TenantId, Lease] = field(default_factory=dict)

    def holder(self, tenant: TenantId) -> str | None:
        """The relay that was last given the lease, "" if it gave it back; None: nobody ever took one."""
        lease = self.leases.get(tenant)
        if lease is None:
            return None
        holder = self.holders.get(lease.token)
        return "" if holder is None else holder.relay


class MemoryLeases:
    """One process' view. `relay`: its name, as its heartbeat has it."""

    def __init__(
        self, register: Register, clock: Callable[[], float], seconds: float, relay: Callable[[], str]
    ) -> None:
        self.broken: StoreError | None = None
        """While set, every call raises it and changes nothing."""
        self._register, self._clock, self._seconds, self._relay = register, clock, seconds, relay
        self._token = object()
        self._fences: dict[TenantId, int] = {}

    @property
    def seconds(self) -> float:
        return self._seconds

    def another_holds(self, tenant: TenantId) -> bool:
        """Whether the lease is given to another process."""
        lease = self._register.leases.get(tenant)
        return lease is not None and lease.token not in (None, self._token)

    async def renew(self) -> LeaseStatus:
        await self._turn()
        now = self._clock()
        self._register.holders[self._token] = Holder(self._relay(), now + self._seconds)
        self._fences = {tenant: fence for tenant, fence in self._fences.items() if self._holds(tenant, fence)}
        alive = frozenset(holder.relay for holder in self._register.holders.values() if holder.until > now)
        return LeaseStatus(alive, frozenset(self._fences))

    async def acquire(self, tenants: Sequence[TenantId]) -> frozenset[TenantId]:
        await self._turn()
        if not self._alive(self._token):
            return frozenset()
        for tenant in tenants:
            lease = self._register.leases.setdefault(tenant, Lease())
            if lease.token is self._token:
                self._fences.setdefault(tenant, lease.fence)
            elif not self._alive(lease.token):
                lease.token, lease.fence = self._token, lease.fence + 1
                self._fences[tenant] = lease.fence
        return frozenset(tenant for tenant in tenants if self._holds(tenant, self._fences.get(tenant)))

    async def release(self, tenants: Sequence[TenantId]) -> None:
        await self._turn()
        for tenant in tenants:
            fence = self._fences.pop(tenant, None)
            if fence is not None and self._holds(tenant, fence):
                self._register.leases[tenant].token = None

    def leave(self) -> None:
        """At a clean stop: the heartbeat goes, and all leases with it."""
        self._register.holders.pop(self._token, None)
        for lease in self._register.leases.values():
            if lease.token is self._token:
                lease.token = None
        self._fences.clear()

    def fence(self, tenant: TenantId) -> int | None:
        """Of the tenant's lease, as far as this process knows; for what it reads now."""
        return self._fences.get(tenant)

    def may_settle(self, tenant: TenantId, fence: int | None) -> bool:
        """Whether no other process held it since. `fence`: when the message was read; None: it was not."""
        return self._holds(tenant, self._fences.get(tenant) if fence is None else fence)

    def _holds(self, tenant: TenantId, fence: int | None) -> bool:
        lease = self._register.leases.get(tenant)
        return lease is not None and lease.token is self._token and lease.fence == fence

    def _alive(self, token: object | None) -> bool:
        holder = self._register.holders.get(token)
        return holder is not None and holder.until > self._clock()

    async def _turn(self) -> None:
        await asyncio.sleep(0)
        if self.broken is not None:
            raise self.broken
