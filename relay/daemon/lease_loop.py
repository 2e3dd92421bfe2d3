"""The tenants that replicas share: leases are renewed, acquired as tenants fall to this one, and released."""

import asyncio
from collections.abc import Callable, Iterable

from relay.core.model import TenantId
from relay.core.ports import StoreError
from relay.daemon.leases import LeaseHolder
from relay.daemon.supervisor import STALLED_CALL_SECONDS, Supervisor
from relay.daemon.workers import Workers
from relay.delivery.outbox_retry import report_outbox_incident
from relay.delivery.waiting import nap
from relay.observability.incidents import Incidents
from relay.observability.liveness import Liveness
from relay.observability.logs import Log

LEASES = "leases"
"""The name of this component."""

_GATHER_SECONDS = 0.05
"""Claims gather for this time: a burst of arrivals is one query."""

_FROZEN_SECONDS = 1.0
"""A time-out that fires this much too late was slept through: the process was frozen, or got no processor."""

_LOOK_SECONDS = 1.0
"""The end of the leases is looked for so often: a timer does not run while the machine is suspended."""

_POLL_SECONDS = 1.0
"""How soon a replica that joined or left is noticed while tenants that it concerns have messages."""


class LeaseLoop:
    """One replica's share of the tenants. `chance`: in [0, 1)."""

    def __init__(
        self,
        lease_holder: LeaseHolder,
        workers: Workers,
        supervisor: Supervisor,
        log: Log,
        incidents: Incidents,
        chance: Callable[[], float],
        liveness: Liveness,
    ) -> None:
        self._lease_holder, self._workers, self._supervisor = lease_holder, workers, supervisor
        self._log, self._incidents, self._chance, self._liveness = log, incidents, chance, liveness

    async def run(self) -> None:
        """Keep the leases alive and the tenants shared, for ever."""
        expiry = asyncio.create_task(self._cut_when_over())
        third = self._lease_holder.seconds / 3
        clock = asyncio.get_running_loop().time
        try:
            while True:
                began = clock()
                try:
                    self._liveness.begin(LEASES, third + STALLED_CALL_SECONDS)
                    async with asyncio.timeout(third):
                        await self._share()
                except (StoreError, TimeoutError) as error:
                    if clock() - began < third + _FROZEN_SECONDS:  # else the outbox is not at fault
                        detail = str(error) or f"no answer to a heartbeat within {third:g} s"
                        report_outbox_incident(self._incidents, detail)
                    await asyncio.sleep(min(third, 1.0))
                else:
                    await nap(self._workers.claimable, self._interval(third))
                    await asyncio.sleep(_GATHER_SECONDS)
        finally:
            expiry.cancel()

    def _interval(self, third: float) -> float:
        """Until the next heartbeat; short while other replicas' tenants have messages: theirs may be gone."""
        longest = min(third, _POLL_SECONDS) if self._workers.unowned() else third
        return longest * (0.5 + 0.5 * self._chance())

    async def _share(self) -> None:
        self._workers.claimable.clear()
        self._cut(await self._lease_holder.renew(), "another relay took it over, or the outbox was replaced")
        self._incidents.resolved()
        for tenant in self._workers.running:
            if not self._lease_holder.may_keep(tenant):
                self._release(tenant)
        wanted = self._lease_holder.wanted(self._workers.unowned())
        if wanted:
            for tenant in await self._lease_holder.acquire(wanted):
                self._log.info("tenant.taken", tenant=tenant)
                self._workers.start(tenant)

    def _release(self, tenant: TenantId) -> None:
        releasing = self._workers.releasing
        if tenant in releasing:
            return
        self._log.info("tenant.released", tenant=tenant)
        releasing.add(tenant)
        task = self._supervisor.start(f"release {tenant}", self._release_settled(tenant))
        task.add_done_callback(lambda _: releasing.discard(tenant))

    async def _release_settled(self, tenant: TenantId) -> None:
        await self._workers.release(tenant, self._lease_holder.seconds)
        await self._lease_holder.release([tenant])

    async def _cut_when_over(self) -> None:
        """At the end of the leases by this process' own clock, nothing may be in flight any more."""
        while True:
            await asyncio.sleep(min(max(self._lease_holder.remaining, 0.05), _LOOK_SECONDS))
            if self._lease_holder.is_over:
                self._cut(self._workers.running, "no heartbeat reached the outbox in time")
                self._lease_holder.drop_all()

    def _cut(self, tenants: Iterable[TenantId], reason: str) -> None:
        for tenant in self._workers.cut(tenants):
            self._log.warning("tenant.lost", tenant=tenant, reason=reason)
