"""One worker for each tenant that this process owns and that has messages: started, woken, stopped.

A tenant without messages has no worker and costs nothing.
"""

import asyncio
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, field

from relay.core.model import DocumentName, TenantId
from relay.core.ports import CALL_SECONDS, Control, Notification, Outbox
from relay.daemon.leases import LeaseHolder
from relay.daemon.supervisor import STALLED_CALL_SECONDS, Supervisor
from relay.delivery.settler import Settler
from relay.delivery.worker import Worker
from relay.observability.liveness import Liveness, worker_name
from relay.observability.logs import Log

ARRIVALS = "arrivals"
"""The name of the component that waits for notifications."""

_LONGEST_SILENCE = 15.0
"""Seconds after which the outbox is asked which tenants have messages even without a notification."""


@dataclass(frozen=True, slots=True)
class Assignment:
    """A tenant of this process, and how to build its worker. Equal `profile`: the worker need not restart."""

    profile: Hashable
    build: Callable[[Control], Worker]


@dataclass(slots=True)
class _RunningTenant:
    """A tenant's task. `worker`: None while it waits to be restarted."""

    leaving: asyncio.Event = field(default_factory=asyncio.Event)
    worker: Worker | None = None
    task: asyncio.Task[None] | None = None


class Workers:
    """The tenants of one relay process. `lease_holder`: where several replicas share the outbox."""

    def __init__(
        self,
        outbox: Outbox,
        settler: Settler,
        supervisor: Supervisor,
        log: Log,
        liveness: Liveness,
        lease_holder: LeaseHolder | None = None,
    ) -> None:
        self._outbox, self._settler, self._supervisor = outbox, settler, supervisor
        self._log, self._liveness, self._lease_holder = log, liveness, lease_holder
        self._assignments: dict[TenantId, Assignment] = {}
        self._running: dict[TenantId, _RunningTenant] = {}
        self._notification = Notification(frozenset(), {})
        self._unconfigured = _UnconfiguredTenants(log)
        self.releasing: set[TenantId] = set()
        """Tenants whose worker ends, to start elsewhere or anew: none starts here meanwhile."""
        self.claimable = asyncio.Event()
        """Set when a tenant has messages and no worker here, and should be owned by this replica."""
        self.stopping = asyncio.Event()

    # --- which tenants ----------------------------------------------------------------------------------

    async def assign(
        self,
        assignments: Mapping[TenantId, Assignment],
        is_left_to_others: Callable[[TenantId], bool] = lambda _: False,
    ) -> tuple[list[TenantId], list[TenantId]]:
        """These tenants and no others from now on: (added or changed, removed).

        `is_left_to_others`: whether the settings leave such a tenant to another relay.
        """
        before, self._assignments = self._assignments, dict(assignments)
        self._unconfigured.is_left_to_others = is_left_to_others
        removed = [tenant for tenant in before if tenant not in assignments]
        changed = [t for t, new in assignments.items() if t in before and before[t].profile != new.profile]
        added = [tenant for tenant in assignments if tenant not in before]
        await self._dismiss([tenant for tenant in (*removed, *changed) if tenant in self._running])
        self._notify(self._notification)
        return [*added, *changed], removed

    @property
    def tenants(self) -> list[TenantId]:
        """The tenants that this process may own."""
        return list(self._assignments)

    @property
    def running(self) -> list[TenantId]:
        """The tenants that have a worker here."""
        return list(self._running)

    def unowned(self) -> list[TenantId]:
        """The tenants that have messages and no worker here."""
        if self.stopping.is_set():
            return []
        here = self._running.keys() | self.releasing
        pending = self._notification.pending
        return [tenant for tenant in pending if tenant in self._assignments and tenant not in here]

    def worker(self, tenant: TenantId) -> Worker | None:
        """The tenant's worker, while it runs."""
        running = self._running.get(tenant)
        return running.worker if running else None

    def accepted(self, tenant: TenantId) -> frozenset[DocumentName] | None:
        """The documents that ION accepts from the tenant; None where that is not known here."""
        worker = self.worker(tenant)
        return None if worker is None else worker.accepted

    def holds(self, tenant: TenantId) -> bool:
        """Whether a post of this tenant may begin now, by this process' own clock."""
        return self._lease_holder is None or self._lease_holder.holds(tenant)

    # --- waking -----------------------------------------------------------------------------------------

    async def listen(self) -> None:
        """Wake the workers that have messages, for ever."""
        self._liveness.begin(ARRIVALS, STALLED_CALL_SECONDS)
        self._notify(await self._outbox.notification())
        while True:
            self._liveness.begin(ARRIVALS, _LONGEST_SILENCE + STALLED_CALL_SECONDS)
            self._notify(await self._outbox.arrivals(_LONGEST_SILENCE))

    def _notify(self, notification: Notification) -> None:
        self._notification = notification
        for tenant, control in notification.controls.items():
            worker = self.worker(tenant)
            if worker is not None:
                worker.controlled(control)
        for tenant in notification.pending:
            worker = self.worker(tenant)
            if worker is not None:
                worker.arrived()
        for tenant in self.unowned():
            if self.holds(tenant):
                self.start(tenant)
            elif self._lease_holder is not None and self._lease_holder.is_mine(tenant):
                self.claimable.set()
        self._unconfigured.report(notification.pending - self._assignments.keys())

    def reread(self) -> None:
        """What was read ahead is out of date: what was not due may be due now."""
        for running in self._running.values():
            if running.worker is not None:
                running.worker.reread()

    # --- starting and stopping --------------------------------------------------------------------------

    def start(self, tenant: TenantId) -> None:
        """Start the tenant's worker; it is restarted whenever it fails."""
        running = self._running[tenant] = _RunningTenant()
        build = self._assignments[tenant].build

        async def work() -> None:
            running.worker = build(self._notification.controls.get(tenant, Control()))
            running.worker.arrived()
            try:
                await running.worker.run()
            finally:
                running.worker = None

        running.task = self._supervisor.supervise(worker_name(tenant), work, running.leaving)

    async def release(self, tenant: TenantId, within: float) -> None:
        """Complete and settle what is in flight, so that another replica can own the tenant."""
        await self._dismiss([tenant])
        await self._settler.settled(tenant, within)

    def begin_anew(self) -> None:
        """The outbox is another one: no worker posts what it has read, and each is replaced by a new one.

        Posts in flight complete, and their settlements are written: they name the message, so that no other
        one can be settled by them.
        """
        self._notification = Notification(frozenset(), {})  # who has work is to be asked again
        tenants = [tenant for tenant in self._running if tenant not in self.releasing]
        self._leave(tenants)
        for tenant in tenants:
            self.releasing.add(tenant)
            self._supervisor.start(f"replace {tenant}", self._replace(tenant))

    async def _replace(self, tenant: TenantId) -> None:
        try:
            await self.release(tenant, CALL_SECONDS)
        finally:
            self.releasing.discard(tenant)
        self._notify(self._notification)

    def cut(self, tenants: Iterable[TenantId]) -> list[TenantId]:
        """Stop at once, posts in flight included; those of the tenants that had a worker."""
        cut = []
        for tenant in tenants:
            running = self._running.pop(tenant, None)
            if running is not None and running.task is not None:
                running.leaving.set()
                running.task.cancel()
                cut.append(tenant)
        return cut

    async def stop(self, grace: float) -> int:
        """Complete and settle all posts within the grace, then end every task; settlements left unwritten."""
        self.stopping.set()
        clock = asyncio.get_running_loop().time
        deadline = clock() + grace
        try:
            async with asyncio.timeout_at(deadline):
                await self._dismiss(list(self._running))
        except TimeoutError:
            self._log.warning("relay.cut", reason="the grace ran out with posts in flight")
        left = await self._settler.drained(max(deadline - clock(), 1.0))
        await self._supervisor.cancel()
        return left

    def _leave(self, tenants: Iterable[TenantId]) -> list[_RunningTenant]:
        """No post begins any more."""
        running = [self._running[tenant] for tenant in tenants if tenant in self._running]
        for one in running:
            one.leaving.set()
            if one.worker is not None:
                one.worker.stop()
        return running

    async def _dismiss(self, tenants: list[TenantId]) -> None:
        running = self._leave(tenants)
        tasks = [one.task for one in running if one.task is not None]
        if tasks:
            await asyncio.wait(tasks)
        for tenant in tenants:
            self._running.pop(tenant, None)


class _UnconfiguredTenants:
    """Tenants that have messages and no settings: each is reported once."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._reported: frozenset[TenantId] = frozenset()
        self.is_left_to_others: Callable[[TenantId], bool] = lambda _: False

    def report(self, tenants: Iterable[TenantId]) -> None:
        missing = frozenset(tenant for tenant in tenants if not self.is_left_to_others(tenant))
        for tenant in sorted(missing - self._reported):
            self._log.warning(
                "tenant.missed",
                tenant=tenant,
                reason="messages wait, no tenant is configured",
                hint=unconfigured_hint(tenant),
            )
        self._reported = missing


def unconfigured_hint(tenant: TenantId) -> str:
    """What to do about messages of a tenant that is not configured."""
    drop = f"relay messages drop --tenant {tenant} --state pending"
    return f"configure RELAY_TENANTS__{tenant}__…, or drop them: {drop}"
