"""The end of `relay run --until-empty`: nothing is due, and nothing can become due without an operator."""

import asyncio
from collections.abc import Callable

from relay.core.model import TenantId
from relay.core.ports import Outbox
from relay.daemon.workers import Workers
from relay.delivery.settler import Settler
from relay.delivery.waiting import nap
from relay.observability.logs import Log

_POLL_SECONDS = 0.1


class UntilEmpty:
    """Waits for an empty outbox. `owns(tenant)`: whether this relay is to own such a tenant."""

    def __init__(
        self, outbox: Outbox, settler: Settler, workers: Workers, owns: Callable[[str], bool], log: Log
    ) -> None:
        self._outbox, self._settler, self._workers = outbox, settler, workers
        self._owns, self._log = owns, log

    async def wait(self, stop: asyncio.Event, end: float | None) -> int:
        """The exit code. `end`: in the loop's time, when to give up."""
        clock = asyncio.get_running_loop().time
        while not stop.is_set():
            left = await self._left()
            if left is not None:
                return self._report(left)
            if end is not None and clock() >= end:
                self._log.error("relay.gave_up", reason="not everything was delivered in the given time")
                return 1
            await nap(stop, _POLL_SECONDS)
        return 0

    async def _left(self) -> dict[TenantId, str] | None:
        """Why the messages that are left need an operator, by tenant; None while some can still go."""
        left: dict[TenantId, str] = {}
        for tenant in (await self._outbox.notification()).pending:
            if self._owns(tenant):
                reason = await self._stuck(tenant)
                if reason is None:
                    return None
                left[tenant] = reason
        return None if any(map(self._settler.is_settling, self._workers.tenants)) else left

    async def _stuck(self, tenant: TenantId) -> str | None:
        if tenant not in self._workers.tenants:
            return "no tenant of this name is configured"
        worker = self._workers.worker(tenant)
        if worker is None:
            return None
        if worker.stuck is not None:
            return worker.stuck
        refused = self._settler.refused(tenant)
        if worker.empty and refused:
            return f"the outbox refuses to store what became of {refused} messages"
        documents = await self._outbox.documents(tenant)
        if worker.empty and documents and documents <= worker.withheld:
            return f"not accepted by ION: {', '.join(sorted(documents))}"
        if worker.empty:
            worker.arrived()
        return None

    def _report(self, left: dict[TenantId, str]) -> int:
        for tenant, reason in sorted(left.items()):
            self._log.error("tenant.stuck", tenant=tenant, reason=reason, hint="relay status")
        for tenant, count in sorted(self._settler.parked.items()):
            hint = f"relay messages list --tenant {tenant} --state parked"
            self._log.error("messages.parked", tenant=tenant, count=count, hint=hint)
        return 1 if left or self._settler.parked else 0
