"""The heartbeat of a relay process, retention, and warnings of messages that wait too long."""

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

import relay
from relay.core.model import TenantId
from relay.core.ports import Mode, Store, StoreError
from relay.daemon.supervisor import STALLED_CALL_SECONDS
from relay.delivery.waiting import nap
from relay.observability.incidents import Incidents
from relay.observability.liveness import Liveness
from relay.observability.logs import Log

HEARTBEAT = "heartbeat"
"""The name of the component that beats."""

BEAT_SECONDS = 5.0

_ROUND_SECONDS = 60.0
_WARN_AGAIN_SECONDS = 3600.0
_BATCH = 500
_BATCH_PAUSE_SECONDS = 0.05
"""Between two batches the workers' commits come first."""

_PURGE_AFTER_SECONDS = 60.0
"""Payloads are purged in the order of settling; later than this no settlement commits behind the last."""


class Heartbeat:
    """The one row that shows other processes that this one is alive."""

    def __init__(self, name: str, store: Store, log: Log, incidents: Incidents, liveness: Liveness) -> None:
        self.name = name
        self._store, self._log, self._incidents = store, log, incidents
        self._liveness = liveness.component(HEARTBEAT, BEAT_SECONDS + STALLED_CALL_SECONDS)
        self._mode: Mode = store.mode
        self._details: Mapping[str, str] = {
            "host": socket.gethostname(),
            "pid": str(os.getpid()),
            "version": relay.__version__,
        }

    async def beat(self) -> bool:
        """Write the row; False: it was not there."""
        mode = self._store.mode
        if mode != self._mode:
            self._mode = mode
            self._log.info("outbox.watched", mode=mode)
        return await self._store.beat(self.name, {**self._details, "mode": mode})

    async def run(self, lost: Callable[[], None]) -> None:
        """Beat for ever. `lost()` is called when the row, and the live states with it, was not there."""
        while True:
            self._liveness.begin()
            if not await self.beat():
                lost()
            self._incidents.resolved()  # the outbox takes writes
            await asyncio.sleep(BEAT_SECONDS)

    async def deregister(self, within: float) -> None:
        """Delete the row. It matters to `relay status` alone: no stop waits long for it."""
        with suppress(StoreError, TimeoutError):
            async with asyncio.timeout(within):
                await self._store.leave(self.name)


@dataclass(frozen=True, slots=True)
class MaintenanceRules:
    """Durations in seconds. `payload_kept` None: as long as the row."""

    delivered_kept: float
    payload_kept: float | None
    audit_kept: float
    warn_after: float


class Maintenance:
    """Retention and age warnings, once a minute. `rules` may be replaced at any time.

    `may_delete()`: whether the store's clock can be trusted just now.
    """

    def __init__(
        self, store: Store, log: Log, rules: MaintenanceRules, may_delete: Callable[[], Awaitable[bool]]
    ) -> None:
        self._store, self._log, self.rules, self._may_delete = store, log, rules, may_delete
        self._warned: dict[TenantId, float] = {}
        self._warned_of_refused_rows = -_WARN_AGAIN_SECONDS

    async def run(self, stopping: asyncio.Event) -> None:
        """Delete what was settled long ago, in small batches; warn of what waits too long."""
        while not await nap(stopping, _ROUND_SECONDS):
            await self._prune(stopping)
            self._warn_of_refused_rows()
            await self._warn()

    async def _prune(self, stopping: asyncio.Event) -> None:
        rules, store = self.rules, self._store
        jobs = [
            partial(store.prune, rules.delivered_kept, _BATCH),
            partial(store.prune_audit, rules.audit_kept, _BATCH),
            partial(store.prune_activity, _BATCH),
        ]
        if rules.payload_kept is not None:
            jobs.append(partial(store.purge_payloads, max(rules.payload_kept, _PURGE_AFTER_SECONDS), _BATCH))
        for job in jobs:
            while await self._may_delete() and await job() == _BATCH:
                if await nap(stopping, _BATCH_PAUSE_SECONDS):
                    return

    def _warn_of_refused_rows(self) -> None:
        """Once an hour."""
        found, now = self._store.refused_rows, asyncio.get_running_loop().time()
        if not found or now - self._warned_of_refused_rows < _WARN_AGAIN_SECONDS:
            return
        self._warned_of_refused_rows = now
        for one in found:
            self._log.warning(
                "retention.hindered",
                count=one.count,
                row=one.row,
                reason=one.reason,
                hint="correct the trigger, constraint or foreign key; the other rows are deleted as usual",
            )

    async def _warn(self) -> None:
        now = asyncio.get_running_loop().time()
        for tenant, count in (await self._store.counts()).items():
            age = count.oldest_due_seconds
            if age is None or age < self.rules.warn_after:
                self._warned.pop(tenant, None)
            elif now - self._warned.get(tenant, -_WARN_AGAIN_SECONDS) >= _WARN_AGAIN_SECONDS:
                self._warned[tenant] = now
                hint = f"relay status; relay messages list --tenant {tenant} --state pending"
                self._log.warning(
                    "tenant.delayed",
                    tenant=tenant,
                    oldest_due_seconds=round(age),
                    pending=count.pending,
                    hint=hint,
                )
