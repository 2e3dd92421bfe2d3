"""This file is what keeps every tenant's worker running: start, restart, wake, hand over, stop all together.

One tenant's crash never touches another: each has a task of its own under its own supervision. The only
catch-all of the relay stands here. A tenant without messages has no worker and costs nothing.
"""

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, field

from relay.core.model import DocumentName, TenantId
from relay.core.ports import Control, Notification, Outbox, StoreError
from relay.core.retry import Schedule
from relay.daemon.leases import LeaseHolder
from relay.delivery.outbox_retry import report_outbox_incident
from relay.delivery.settler import Settler
from relay.delivery.waiting import nap
from relay.delivery.worker import Worker
from relay.observability.incidents import Incidents
from relay.observability.liveness import Liveness
from relay.observability.logs import Log

_LONGEST_SILENCE = 15.0
"""Seconds after which the outbox is asked who has work even without a hint."""

_ANSWER_SECONDS = 35.0
"""Every store ends a call within 30 s; who waits longer stands still."""

_RUNS_WELL = 60.0
"""Seconds after which a crash counts as the first again."""

_CLAIM_SECONDS = 0.05
"""Claims gather so long: a burst of arrivals is one question to the store."""


_STOOD_STILL = 1.0
"""A time-out that comes so much too late was slept through: the process was frozen, or got no processor."""

_WATCH_SECONDS = 1.0
"""How soon a relay that came or went is noticed, while tenants that it concerns have work."""


_MEND_SECONDS = 2.0
_SPARE_SECONDS = 10.0
"""A part that is late is given so much longer before it is ended: a call ends by its own limit first."""

ARRIVALS, LEASES = "arrivals", "leases"
"""Parts, as they are called where they stand still."""


class StalledError(Exception):
    """A part was ended because it stood still."""


@dataclass(frozen=True, slots=True)
class Post:
    """A tenant to be carried: how to build its worker. Equal `profile`: nothing changed, it goes on."""

    profile: Hashable
    build: Callable[[Control], Worker]


@dataclass(slots=True)
class _Ward:
    post: Post
    leaving: asyncio.Event = field(default_factory=asyncio.Event)
    worker: Worker | None = None
    task: asyncio.Task[None] | None = None


class Supervisor:
    """All tenants of one relay process. `tenure`: where several processes share the outbox."""

    def __init__(
        self,
        outbox: Outbox,
        settler: Settler,
        log: Log,
        incidents: Incidents,
        schedule: Schedule,
        chance: Callable[[], float],
        lease_holder: LeaseHolder | None = None,
        liveness: Liveness | None = None,
    ) -> None:
        self._outbox, self._settler, self._log, self._incidents = outbox, settler, log, incidents
        self._schedule, self._chance, self._lease_holder = schedule, chance, lease_holder
        self._posts: dict[TenantId, Post] = {}
        self._is_anothers: Callable[[TenantId], bool] = lambda _: False
        self._wards: dict[TenantId, _Ward] = {}
        self._handing: dict[TenantId, asyncio.Task[None]] = {}
        self._claiming = asyncio.Event()
        self._signals = Notification(frozenset(), {})
        self._unknown: frozenset[TenantId] = frozenset()
        self._context: list[asyncio.Task[None]] = []
        self._liveness = liveness or Liveness()
        self._running: dict[str, asyncio.Task[None]] = {}
        self.stopping = asyncio.Event()

    # --- parts and tenants ----------------------------------------------------------------------------

    def keep(self, name: str, start: Callable[[], Awaitable[None]]) -> None:
        """Run a part of the process until the end; restart it whenever it fails."""
        self._context.append(asyncio.create_task(self._keep(name, start, asyncio.Event()), name=name))

    async def listen(self) -> None:
        """Wake the workers that have work, for ever."""
        self._liveness.begin(ARRIVALS, _ANSWER_SECONDS)
        self._heard(await self._outbox.notification())
        while True:
            self._liveness.begin(ARRIVALS, _LONGEST_SILENCE + _ANSWER_SECONDS)
            self._heard(await self._outbox.arrivals(_LONGEST_SILENCE))

    async def assign(
        self, posts: Mapping[TenantId, Post], is_anothers: Callable[[TenantId], bool] = lambda _: False
    ) -> tuple[list[TenantId], list[TenantId]]:
        """These tenants and no others from now on: (added or changed, removed).

        `is_anothers`: whether the settings leave such a tenant to another relay: then it is not missed here.
        """
        before, self._is_anothers = self._posts, is_anothers
        removed = [tenant for tenant in before if tenant not in posts]
        changed = [t for t, post in posts.items() if t in before and before[t].profile != post.profile]
        added = [tenant for tenant in posts if tenant not in before]
        self._posts = dict(posts)
        await self._dismiss([tenant for tenant in (*removed, *changed) if tenant in self._wards])
        self._heard(self._signals)
        return [*added, *changed], removed

    def worker(self, tenant: TenantId) -> Worker | None:
        """The tenant's worker, while it runs."""
        ward = self._wards.get(tenant)
        return ward.worker if ward else None

    def accepted(self, tenant: TenantId) -> frozenset[DocumentName] | None:
        """The documents that ION accepts from it now; None where that is not known here."""
        worker = self.worker(tenant)
        return None if worker is None else worker.accepted

    @property
    def tenants(self) -> list[TenantId]:
        """The tenants that this process may carry."""
        return list(self._posts)

    def holds(self, tenant: TenantId) -> bool:
        """Whether a post of this tenant may begin now, by this process' own clock."""
        return self._lease_holder is None or self._lease_holder.holds(tenant)

    # --- waking -----------------------------------------------------------------------------------------

    def _heard(self, notification: Notification) -> None:
        self._signals = notification
        for tenant, control in notification.controls.items():
            worker = self.worker(tenant)
            if worker is not None:
                worker.controlled(control)
        for tenant in notification.pending:
            worker = self.worker(tenant)
            if worker is not None:
                worker.arrived()
        if self._lease_holder is None:
            for tenant in self._unowned():
                self._start(tenant)
        elif any(self._lease_holder.is_mine(tenant) for tenant in self._unowned()):
            self._claiming.set()
        missed = notification.pending - self._posts.keys()
        self._say_unknown(frozenset(tenant for tenant in missed if not self._is_anothers(tenant)))

    def _unowned(self) -> list[TenantId]:
        """Tenants that have work and no worker here."""
        if self.stopping.is_set():
            return []
        here = self._wards.keys() | self._handing.keys()
        return [tenant for tenant in self._signals.pending if tenant in self._posts and tenant not in here]

    def _say_unknown(self, unknown: frozenset[TenantId]) -> None:
        for tenant in sorted(unknown - self._unknown):
            drop = f"relay messages drop --tenant {tenant} --state pending"
            hint = f"configure RELAY_TENANTS__{tenant}__…, or drop them: {drop}"
            self._log.warning(
                "tenant.missed", tenant=tenant, reason="messages wait, no tenant is configured", hint=hint
            )
        self._unknown = unknown

    # --- sharing tenants with other relays ----------------------------------------------------------------

    async def share(self) -> None:
        """Keep the leases alive, take over what falls to this relay, hand over what falls to another."""
        lease_holder = self._lease_holder
        if lease_holder is None:
            return
        alarm = asyncio.create_task(self._cut_when_over(lease_holder))
        third = lease_holder.seconds / 3
        clock = asyncio.get_running_loop().time
        try:
            while True:
                began = clock()
                try:
                    self._liveness.begin(LEASES, third + _ANSWER_SECONDS)
                    async with asyncio.timeout(third):
                        await self._take_part(lease_holder)
                except (StoreError, TimeoutError) as error:
                    if (
                        clock() - began < third + _STOOD_STILL
                    ):  # else this process did: no fault of the outbox
                        detail = str(error) or f"no answer to a heartbeat within {third:g} s"
                        report_outbox_incident(self._incidents, detail)
                    await asyncio.sleep(min(third, 1.0))
                else:
                    await nap(self._claiming, self._rest(third))
                    await asyncio.sleep(_CLAIM_SECONDS)
        finally:
            alarm.cancel()

    def _rest(self, third: float) -> float:
        """Until the next heartbeat; short while others' tenants have work: their relay may be gone."""
        longest = min(third, _WATCH_SECONDS) if self._unowned() else third
        return longest * (0.5 + 0.5 * self._chance())

    async def _take_part(self, lease_holder: LeaseHolder) -> None:
        self._claiming.clear()
        self._cut(await lease_holder.renew(), "another relay took it over")
        self._incidents.resolved()
        for tenant in [tenant for tenant in self._wards if not lease_holder.is_right(tenant)]:
            self._hand_over(tenant, lease_holder)
        wanted = lease_holder.wanted(self._unowned())
        if wanted:
            for tenant in await lease_holder.take(wanted):
                self._log.info("tenant.taken", tenant=tenant)
                self._start(tenant)

    def _hand_over(self, tenant: TenantId, lease_holder: LeaseHolder) -> None:
        """Land and settle what is under way, then let the other relay have it: no post is cut."""
        if tenant in self._handing:
            return
        self._log.info("tenant.handed_over", tenant=tenant)
        task = self._handing[tenant] = asyncio.create_task(self._leave(tenant, lease_holder))
        task.add_done_callback(lambda _: self._handing.pop(tenant, None))

    async def _leave(self, tenant: TenantId, lease_holder: LeaseHolder) -> None:
        await self._dismiss([tenant])
        await self._settler.settled(tenant, lease_holder.seconds)
        await lease_holder.give([tenant])

    async def _cut_when_over(self, lease_holder: LeaseHolder) -> None:
        """At the leases' end by this process' own clock nothing may be under way any more."""
        while True:
            await asyncio.sleep(max(lease_holder.left, 0.05))
            if lease_holder.is_over:
                self._cut(list(self._wards), "no heartbeat reached the outbox in time")
                lease_holder.lose()

    def _cut(self, tenants: Iterable[TenantId], reason: str) -> None:
        """Stop at once, posts in flight included: the tenant is another relay's now, or soon."""
        for tenant in tenants:
            ward = self._wards.pop(tenant, None)
            if ward is not None and ward.task is not None:
                self._log.warning("tenant.lost", tenant=tenant, reason=reason)
                ward.leaving.set()
                ward.task.cancel()

    # --- supervision --------------------------------------------------------------------------------------

    def _start(self, tenant: TenantId) -> None:
        ward = self._wards[tenant] = _Ward(self._posts[tenant])

        async def work() -> None:
            ward.worker = ward.post.build(self._signals.controls.get(tenant, Control()))
            ward.worker.arrived()
            try:
                await ward.worker.run()
            finally:
                ward.worker = None

        ward.task = asyncio.create_task(self._keep(f"tenant {tenant}", work, ward.leaving), name=tenant)

    async def _keep(self, name: str, start: Callable[[], Awaitable[None]], leaving: asyncio.Event) -> None:
        failures = 0
        clock = asyncio.get_running_loop().time
        while not leaving.is_set():
            began = clock()
            try:
                await self._run(name, start)
            except StoreError as error:
                failures += 1
                report_outbox_incident(self._incidents, str(error))
            except StalledError:  # said when it was ended
                failures += 1
            except Exception:  # noqa: BLE001 — the one catch-all: a bug in one part must not end the others
                failures = 1 if clock() - began > _RUNS_WELL else failures + 1
                self._log.exception("component.crashed", component=name, failures=failures)
            else:
                return
            await nap(leaving, self._schedule.delay(failures, self._chance()))

    async def _run(self, name: str, start: Callable[[], Awaitable[None]]) -> None:
        """In a task of its own, so that it can be ended where it stands still. Raises what it raises."""
        task = self._running[name] = asyncio.create_task(_awaited(start), name=name)
        try:
            await asyncio.wait({task})
        finally:
            self._running.pop(name, None)
            self._liveness.idle(name)
            if not task.done():
                task.cancel()
                await asyncio.wait({task})
        if task.cancelled():
            raise StalledError(name)
        task.result()

    async def restart_ended(self) -> None:
        """End what stands still, so that it is started again; for ever."""
        while True:
            await asyncio.sleep(_MEND_SECONDS)
            for late in self._liveness.overdue(_SPARE_SECONDS):
                task = self._running.get(late.component)
                if task is not None:
                    seconds = round(late.seconds, 1)
                    hint = "it is started again by itself; report it"
                    self._log.error("component.stuck", component=late.component, seconds=seconds, hint=hint)
                    task.cancel()

    # --- stopping -------------------------------------------------------------------------------------------

    async def _dismiss(self, tenants: list[TenantId]) -> None:
        wards = [self._wards[tenant] for tenant in tenants]
        for ward in wards:
            ward.leaving.set()
            if ward.worker is not None:
                ward.worker.stop()
        tasks = [ward.task for ward in wards if ward.task is not None]
        if tasks:
            await asyncio.wait(tasks)
        for tenant in tenants:
            self._wards.pop(tenant, None)

    async def stop(self, grace: float) -> int:
        """Land all posts, settle them, end all parts, within the grace; settlements left unwritten."""
        self.stopping.set()
        deadline = asyncio.get_running_loop().time() + grace
        try:
            async with asyncio.timeout_at(deadline):
                await self._dismiss(list(self._wards))
        except TimeoutError:
            self._log.warning("relay.cut", reason="the grace ran out with posts in flight")
        left = await self._settler.drained(max(deadline - asyncio.get_running_loop().time(), 1.0))
        await self.cut()
        return left

    async def cut(self) -> None:
        """End everything at once."""
        wards = [ward.task for ward in self._wards.values() if ward.task is not None]
        tasks = [*self._context, *self._handing.values(), *wards]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _awaited(start: Callable[[], Awaitable[None]]) -> None:
    await start()
