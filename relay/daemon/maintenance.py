"""This file is what a relay does besides carrying: heartbeat, live states, retention, age warnings."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

from relay.core.model import DocumentName, StateName, TenantId, TenantState
from relay.core.ports import Housekeeping, Mode, Store
from relay.delivery.waiting import nap
from relay.observability.incidents import Incidents
from relay.observability.liveness import Liveness
from relay.observability.logs import Log

HEARTBEAT = "heartbeat"
BEAT_SECONDS = 5.0
_ANSWER_SECONDS = 35.0
"""Every store ends a call within 30 s."""

_STATES_SECONDS = 1.0
_ROUND_SECONDS = 60.0
_SAID_AGAIN_SECONDS = 3600.0
_BATCH = 500
_SETTLED_SECONDS = 60.0  # payloads go in the order of settling; later no settlement commits behind the last
_UNTIL_IT_SENDS = frozenset({"initialising", "pinging", "backing-off"})


class TenantStates:
    """The tenants' live states, written for `relay status` at most once a second, off the hot path."""

    def __init__(self, outbox: Housekeeping, wall: Callable[[], datetime]) -> None:
        self._outbox, self._wall = outbox, wall
        self._current: dict[TenantId, TenantState] = {}
        self._unwritten: set[TenantId] = set()
        self._changed = asyncio.Event()

    def report(
        self,
        tenant: TenantId,
        state: StateName,
        reason: str,
        next_try: float | None,
        *,
        kind: str = "",
        documents: tuple[DocumentName, ...] = (),
    ) -> None:
        """What the tenant does now. `next_try`: in the loop's time."""
        before = self._current.get(tenant)
        known = None if before is None else (before.state, before.reason, before.kind, before.documents)
        if known == (state, reason, kind, documents) and next_try is None:
            return
        wall = self._wall()
        since = before.since if before is not None and _is_one_spell(before.state, state) else wall
        due = None if next_try is None else wall + timedelta(seconds=next_try - _now())
        self._current[tenant] = TenantState(tenant, state, reason, since, due, kind=kind, documents=documents)
        self._unwritten.add(tenant)
        self._changed.set()

    def current(self) -> Mapping[TenantId, TenantState]:
        """What they are now."""
        return dict(self._current)

    def forget(self, tenant: TenantId) -> None:
        """The tenant is not configured any more."""
        self._current.pop(tenant, None)
        self._unwritten.discard(tenant)

    def again(self) -> None:
        """Write all of them anew."""
        self._unwritten.update(self._current)
        self._changed.set()

    async def run(self) -> None:
        """Write what changed, for ever. What could not be written stays to be written."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            tenants = list(self._unwritten)
            self._unwritten.clear()
            try:
                await self._outbox.report([self._current[tenant] for tenant in tenants])
            except BaseException:
                self._unwritten.update(tenant for tenant in tenants if tenant in self._current)
                self._changed.set()
                raise
            await asyncio.sleep(_STATES_SECONDS)


def _is_one_spell(before: StateName, now: StateName) -> bool:
    """Pings and pauses take turns while ION is away: an operator wants to know since when it is."""
    return before == now or (before in _UNTIL_IT_SENDS and now in _UNTIL_IT_SENDS)


@dataclass(frozen=True, slots=True)
class MaintenanceRules:
    """Durations in seconds. `payload_kept` None: as long as the row."""

    delivered_kept: float = 7 * 86400.0
    payload_kept: float | None = None
    audit_kept: float = 365 * 86400.0
    warn_after: float = 4 * 3600.0


class Maintenance:
    """Beats, prunes and warns. Its loops may be cancelled or started again at any time."""

    def __init__(
        self,
        relay: str,
        details: Mapping[str, str],
        store: Store,
        log: Log,
        incidents: Incidents,
        liveness: Liveness,
    ) -> None:
        self._relay, self._details = relay, details
        self._liveness = liveness.component(HEARTBEAT, BEAT_SECONDS + _ANSWER_SECONDS)
        self._store, self._log, self._incidents = store, log, incidents
        self._mode: Mode = store.mode
        self._warned: dict[TenantId, float] = {}
        self.care = MaintenanceRules()

    async def beat_once(self) -> bool:
        """Write the heartbeat row; False: it was not there."""
        mode = self._store.mode
        if mode != self._mode:
            self._mode = mode
            self._log.info("outbox.watched", mode=mode)
        return await self._store.beat(self._relay, {**self._details, "mode": mode})

    async def beat(self, states: TenantStates) -> None:
        """One heartbeat row for the whole process, so that others can tell that it lives."""
        while True:
            self._liveness.begin()
            if not await self.beat_once():
                states.again()
            self._incidents.resolved()  # the outbox takes writes
            await asyncio.sleep(BEAT_SECONDS)

    async def look_after(self, stopping: asyncio.Event) -> None:
        """Once a minute: delete what was settled long ago, in small batches; warn of what waits too long."""
        while not await nap(stopping, _ROUND_SECONDS):
            await self._prune(stopping)
            await self._warn()

    async def _prune(self, stopping: asyncio.Event) -> None:
        care, store = self.care, self._store
        works = [
            partial(store.prune, care.delivered_kept, _BATCH),
            partial(store.prune_audit, care.audit_kept, _BATCH),
        ]
        if care.payload_kept is not None:
            works.append(partial(store.purge_payloads, max(care.payload_kept, _SETTLED_SECONDS), _BATCH))
        for work in works:
            while await work() == _BATCH:
                if await nap(stopping, 0.05):  # between two batches the workers' commits come first
                    return

    async def _warn(self) -> None:
        now = _now()
        for tenant, count in (await self._store.counts()).items():
            age = count.oldest_due_seconds
            if age is None or age < self.care.warn_after:
                self._warned.pop(tenant, None)
            elif now - self._warned.get(tenant, -_SAID_AGAIN_SECONDS) >= _SAID_AGAIN_SECONDS:
                self._warned[tenant] = now
                hint = f"relay status; relay messages list --tenant {tenant} --state pending"
                self._log.warning(
                    "tenant.delayed",
                    tenant=tenant,
                    oldest_due_seconds=round(age),
                    pending=count.pending,
                    hint=hint,
                )


def _now() -> float:
    return asyncio.get_running_loop().time()
