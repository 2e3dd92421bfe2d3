"""This file is which tenants this relay holds, and how long that is sure by its own clock.

Validity counts from before a heartbeat was sent: whatever the network and the store did to it since, no
other relay can hold the tenant before this one has stopped by itself.
"""

from collections.abc import Callable, Iterable

from relay.core.model import TenantId
from relay.core.ports import Leases
from relay.core.rendezvous import owner_of


class LeaseHolder:
    """The leases of this process.

    `clock`: monotonic seconds, read anew at each call: a loop's own time stands still within an iteration,
    and a process that was frozen there would believe it.
    """

    def __init__(self, leases: Leases, relay: str, clock: Callable[[], float]) -> None:
        self._leases, self._relay, self._clock = leases, relay, clock
        self._relays = frozenset({relay})
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
    def left(self) -> float:
        """Seconds until the leases end without a renewal; 0 or less: they have."""
        return self.until - self._clock()

    @property
    def is_over(self) -> bool:
        """The leases ended without a renewal."""
        return self.left <= 0

    def is_mine(self, tenant: TenantId) -> bool:
        """Whether this relay, of all that live, should carry the tenant."""
        return owner_of(tenant, self._relays) == self._relay

    def is_right(self, tenant: TenantId) -> bool:
        """Whether what is held should be kept: it is this relay's, or was adopted since nobody took it."""
        return self.is_mine(tenant) or tenant in self._adopted

    def wanted(self, tenants: Iterable[TenantId]) -> list[TenantId]:
        """Of the tenants that have work and no worker here, those to try and take.

        This relay's own; and any that has waited as long as a lease lasts: the relay it falls to may not
        carry it (its settings leave it out). What a living relay holds is not taken all the same.
        """
        now = self._clock()
        self._waiting = {tenant: self._waiting.get(tenant, now) for tenant in tenants}
        return [
            tenant
            for tenant, since in self._waiting.items()
            if self.is_mine(tenant) or now - since >= self._leases.seconds
        ]

    async def renew(self) -> frozenset[TenantId]:
        """A heartbeat; the tenants that were lost since the last one."""
        before = self._clock()
        standing = await self._leases.renew()
        lost = self.held - standing.held
        relays = standing.relays | {self._relay}
        if relays != self._relays:
            self._relays, self._adopted = relays, frozenset()
        self.held -= lost
        self.until = before + self._leases.seconds
        return lost

    async def take(self, tenants: Iterable[TenantId]) -> frozenset[TenantId]:
        """Those of these that are held now."""
        taken = await self._leases.acquire(sorted(tenants))
        self.held |= taken
        self._adopted |= {tenant for tenant in taken if not self.is_mine(tenant)}
        return taken

    async def give(self, tenants: Iterable[TenantId]) -> None:
        """Let another relay have them at once."""
        given = frozenset(tenants)
        self.held -= given
        await self._leases.release(sorted(given))

    def lose(self) -> None:
        """Nothing is held any more, as far as this process may act on it."""
        self.held = frozenset()
