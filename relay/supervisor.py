"""This file is what keeps every tenant's worker running: start, restart, wake, stop all together.

One tenant's crash never touches another: each has a task of its own under its own supervision. The only
catch-all of the relay stands here.
"""

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Mapping
from dataclasses import dataclass, field

from relay.ledger import OUTBOX_MEND, Ledger
from relay.logs import Log, Troubles
from relay.model import TenantId
from relay.nap import nap
from relay.ports import Control, Outbox, Signals, StoreError
from relay.retry import Schedule
from relay.worker import Worker

_LONGEST_SILENCE = 30.0
"""Seconds after which the outbox is asked who has work even without a hint."""

_RUNS_WELL = 60.0
"""Seconds after which a crash counts as the first again."""


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
    """All tenants of one relay process."""

    def __init__(
        self,
        outbox: Outbox,
        ledger: Ledger,
        log: Log,
        troubles: Troubles,
        schedule: Schedule,
        chance: Callable[[], float],
    ) -> None:
        self._outbox, self._ledger, self._log, self._troubles = outbox, ledger, log, troubles
        self._schedule, self._chance = schedule, chance
        self._wards: dict[TenantId, _Ward] = {}
        self._signals = Signals(frozenset(), {})
        self._unknown: frozenset[TenantId] = frozenset()
        self._parts: list[asyncio.Task[None]] = []
        self.stopping = asyncio.Event()

    # --- parts and tenants ----------------------------------------------------------------------------

    def keep(self, name: str, start: Callable[[], Awaitable[None]]) -> None:
        """Run a part of the process until the end; restart it whenever it fails."""
        self._parts.append(asyncio.create_task(self._keep(name, start, asyncio.Event()), name=name))

    async def listen(self) -> None:
        """Wake the workers that have work, for ever."""
        self._heard(await self._outbox.signals())
        while True:
            self._heard(await self._outbox.arrivals(_LONGEST_SILENCE))

    async def assign(self, posts: Mapping[TenantId, Post]) -> tuple[list[TenantId], list[TenantId]]:
        """These tenants and no others from now on: (added or changed, removed)."""
        removed = [tenant for tenant in self._wards if tenant not in posts]
        changed = [
            t for t, post in posts.items() if t in self._wards and self._wards[t].post.profile != post.profile
        ]
        added = [tenant for tenant in posts if tenant not in self._wards]
        await self._dismiss([*removed, *changed])
        for tenant in [*added, *changed]:
            self._start(tenant, posts[tenant])
        self._heard(self._signals)
        return [*added, *changed], removed

    def worker(self, tenant: TenantId) -> Worker | None:
        """The tenant's worker, while it runs."""
        ward = self._wards.get(tenant)
        return ward.worker if ward else None

    @property
    def tenants(self) -> list[TenantId]:
        """The tenants that are carried."""
        return list(self._wards)

    # --- waking -----------------------------------------------------------------------------------------

    def _heard(self, signals: Signals) -> None:
        self._signals = signals
        for tenant, control in signals.controls.items():
            worker = self.worker(tenant)
            if worker is not None:
                worker.controlled(control)
        for tenant in signals.pending:
            worker = self.worker(tenant)
            if worker is not None:
                worker.arrived()
        self._say_unknown(signals.pending - self._wards.keys())

    def _say_unknown(self, unknown: frozenset[TenantId]) -> None:
        for tenant in sorted(unknown - self._unknown):
            drop = f"relay messages drop --tenant {tenant} --state pending"
            mend = f"configure RELAY_TENANTS__{tenant}__…, or drop them: {drop}"
            self._log.warning(
                "tenant.missed", tenant=tenant, reason="messages wait, no tenant is configured", mend=mend
            )
        self._unknown = unknown

    # --- supervision --------------------------------------------------------------------------------------

    def _start(self, tenant: TenantId, post: Post) -> None:
        ward = self._wards[tenant] = _Ward(post)

        async def work() -> None:
            ward.worker = post.build(self._signals.controls.get(tenant, Control()))
            if tenant in self._signals.pending:
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
                await start()
            except StoreError as error:
                failures += 1
                self._troubles.met("outbox", detail=str(error), fault="the outbox's", mend=OUTBOX_MEND)
            except Exception:  # noqa: BLE001 — the one catch-all: a bug in one part must not end the others
                failures = 1 if clock() - began > _RUNS_WELL else failures + 1
                self._log.exception("part.crashed", part=name, failures=failures)
            else:
                return
            await nap(leaving, self._schedule.delay(failures, self._chance()))

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
            del self._wards[tenant]

    async def stop(self, grace: float) -> int:
        """Land all posts, settle them, end all parts, within the grace; settlements left unwritten."""
        self.stopping.set()
        deadline = asyncio.get_running_loop().time() + grace
        try:
            async with asyncio.timeout_at(deadline):
                await self._dismiss(list(self._wards))
        except TimeoutError:
            self._log.warning("relay.cut", reason="the grace ran out with posts in flight")
        left = await self._ledger.drained(max(deadline - asyncio.get_running_loop().time(), 1.0))
        await self.cut()
        return left

    async def cut(self) -> None:
        """End everything at once."""
        tasks = [*self._parts, *(ward.task for ward in self._wards.values() if ward.task is not None)]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
