"""The leases that this replica holds, and until when they are certain by its own clock.

Validity counts from before a heartbeat was sent: whatever the network and the store did to it since, no
other replica can hold the tenant before this one has stopped.
"""

from collections.abc import Callable, Iterable

from relay.core.model import TenantId
from relay.core.ports import Leases
from relay.core.rendezvous import owner_of


class LeaseHolder:
    """The leases of this process.

    `clock`: steady seconds that also run while the machine is suspended, read at each call: a loop's own time
    does not advance within an iteration, nor in a suspended machine, so that neither would be noticed.
    """

    def __init__(self, leases: Leases, replica: str, clock: Callable[[], float]) -> None:
        self._leases, self._replica, self._clock = leases, replica, clock
        self._replicas = frozenset({replica})
        self._waiting: dict[TenantId, float] = {}
        self._adopted: frozenset[TenantId] = frozenset()
        self.held: frozenset[TenantId] = frozenset()
        self.until = 0.0
        """When the leases end by this process' own clock, unless they are renewed."""

    @property
    def seconds(self) -> float:
        """How long a lease lasts."""
        return self._leases.seconds

    def holds(self, tenant: TenantId) -> bool:
        """Whether a post of this tenant may begin now."""
        return tenant in self.held and self._clock() < self.until

    @property
    def remaining(self) -> float:
        """Seconds until the leases end without a renewal; 0 or less: they have."""
        return self.until - self._clock()

    @property
    def is_over(self) -> bool:
        """The leases ended without a renewal."""
        return self.remaining <= 0

    def is_mine(self, tenant: TenantId) -> bool:
        """Whether this replica, of all that are alive, should own the tenant."""
        return owner_of(tenant, self._replicas) == self._replica

    def may_keep(self, tenant: TenantId) -> bool:
        """Whether to keep the tenant: it is this replica's, or was adopted because no other took it."""
        return self.is_mine(tenant) or tenant in self._adopted

    def wanted(self, tenants: Iterable[TenantId]) -> list[TenantId]:
        """Of the tenants that have messages and no worker here, those to try to acquire.

        This replica's own; and any that has waited as long as a lease lasts: the replica that it falls to may
        not be configured for it. The store still refuses what a replica that is alive holds.
        """
        now = self._clock()
        self._waiting = {tenant: self._waiting.get(tenant, now) for tenant in tenants}
        return [
            tenant
            for tenant, since in self._waiting.items()
            if self.is_mine(tenant) or now - since >= self._leases.seconds
        ]

    async def renew(self) -> frozenset[TenantId]:
        """Send a heartbeat; the tenants that were lost since the last one."""
        before = self._clock()
        status = await self._leases.renew()
        lost = self.held - status.held
        replicas = status.relays | {self._replica}
        if replicas != self._replicas:
            self._replicas, self._adopted = replicas, frozenset()
        self.held -= lost
        self.until = before + self._leases.seconds
        return lost

    async def acquire(self, tenants: Iterable[TenantId]) -> frozenset[TenantId]:
        """Acquire these; those of them that are held now."""
        acquired = await self._leases.acquire(sorted(tenants))
        self.held |= acquired
        self._adopted |= {tenant for tenant in acquired if not self.is_mine(tenant)}
        return acquired

    async def release(self, tenants: Iterable[TenantId]) -> None:
        """Release these, so that another replica can acquire them at once."""
        released = frozenset(tenants)
        self.held -= released
        await self._leases.release(sorted(released))

    def drop_all(self) -> None:
        """Hold nothing any more, as far as this process may act on it."""
        self.held = frozenset()
