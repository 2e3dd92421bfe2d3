"""Health by progress, not by the mere fact that something answers.

`/livez`: the process makes progress, or the components that have stalled. `/readyz`: a message enqueued now
would be delivered. `/healthz`: all of it as JSON. A tenant whose ION is down makes the relay neither dead nor
unready.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from aiohttp import web

from relay.core.model import DocumentName, TenantId, TenantState
from relay.core.ports import StoreError
from relay.observability import logs
from relay.observability.liveness import Liveness, worker_name
from relay.reports.overview import Configured
from relay.reports.times import instant
from relay.reports.wait_reasons import state_reason
from relay.web.access_control import Access
from relay.web.relay_bridge import LoopStalledError
from relay.web.store_access import StoreAccess

WRITE_SECONDS = 2.0
"""The time within which a write to the outbox must be able to begin."""

_NO_WRITE = f"no write to the outbox could begin within {WRITE_SECONDS:g} s"

_FRESH_SECONDS = 1.0
"""The outbox is probed at most once in this time, however often health is."""

_PROBE_SECONDS = 5.0
"""A probe that hangs goes on for so long: to end it may cost a connection."""


@dataclass(frozen=True, slots=True)
class HealthSources:
    """What the relay reports of itself; called in the web thread unless stated otherwise.

    `hindrance()`: why it would deliver nothing now (it starts, it stops, its leases are over), or None.
    `states()`: of the tenants that it owns, and `accepted(tenant)`: the documents that ION accepts, None
    where that is not known now; both on the relay's own loop. `configured()`: the settings' tenants.
    """

    liveness: Liveness
    hindrance: Callable[[], str | None]
    states: Callable[[], Mapping[TenantId, TenantState]]
    accepted: Callable[[TenantId], frozenset[DocumentName] | None]
    configured: Callable[[], Configured]


class Health:
    """Whether this relay is alive and would deliver a message."""

    def __init__(self, access: StoreAccess, sources: HealthSources) -> None:
        self._access, self._sources = access, sources
        self._probe: asyncio.Task[str | None] | None = None
        self._probed_at = float("-inf")

    def stalled(self) -> str | None:
        """The components that have stalled, by name; None: none has."""
        return "; ".join(map(str, self._sources.liveness.overdue())) or None

    async def hindrance(self) -> str | None:
        """Why this relay would not deliver a message enqueued now; None: it would."""
        return self.stalled() or self._sources.hindrance() or await self._unwritable()

    async def _unwritable(self) -> str | None:
        """One probe serves all requests within a second; while it hangs, they are answered at once."""
        now = asyncio.get_running_loop().time()
        if self._probe is None or (self._probe.done() and now - self._probed_at >= _FRESH_SECONDS):
            self._probe, self._probed_at = asyncio.create_task(self._try_to_write()), now
        done, _ = await asyncio.wait({self._probe}, timeout=max(self._probed_at + WRITE_SECONDS - now, 0.0))
        return self._probe.result() if done else _NO_WRITE

    async def _try_to_write(self) -> str | None:
        try:
            async with asyncio.timeout(_PROBE_SECONDS):
                await (await self._access.store()).may_write()
        except TimeoutError:
            return _NO_WRITE
        except StoreError as error:
            return str(error)
        return None

    # --- over HTTP ------------------------------------------------------------------------------------

    async def livez(self, _: web.Request) -> web.Response:
        """Liveness probe: 503 means restart."""
        return _probe_response(self.stalled())

    async def readyz(self, *, in_detail: bool) -> web.Response:
        """Readiness probe: 503 means that nothing is delivered at present. `in_detail`: says why."""
        hindrance = await self.hindrance()
        return _probe_response(hindrance if hindrance is None or in_detail else _NOT_READY)

    async def healthz(self, _: web.Request) -> web.Response:
        """All of it as JSON."""
        hindrance = await self.hindrance()
        body: dict[str, Any] = {
            "alive": self.stalled() is None,
            "ready": hindrance is None,
            "reason": hindrance,
            "log_lines_dropped": logs.dropped_lines(),
            "loop_silent_seconds": round(self._sources.liveness.seconds_since_tick, 3),
            "tenants": await self._tenants(),
        }
        return web.json_response(body, status=200 if hindrance is None else 503)

    async def _tenants(self) -> dict[str, dict[str, Any]] | None:
        """None if the relay's loop or the outbox does not answer."""
        try:
            states = await self._access.bridge.call(self._sources.states)
            async with asyncio.timeout(WRITE_SECONDS):
                counts = await (await self._access.store()).counts()
        except (LoopStalledError, StoreError, TimeoutError):
            return None
        return {
            name: {
                "state": state.state,
                "reason": state_reason(state.kind, state.reason, state.documents) or None,
                "since": instant(state.since),
                "next_try": instant(state.next_try),
                "last_progress": instant(self._last_progress(name)),
                "oldest_due_seconds": counts[name].oldest_due_seconds if name in counts else None,
            }
            for name, state in sorted(states.items())
        }

    def _last_progress(self, tenant: TenantId) -> datetime | None:
        idle = self._sources.liveness.seconds_since_progress(worker_name(tenant))
        return None if idle is None else datetime.now(UTC) - timedelta(seconds=idle)


def routes(app: web.Application, health: Health, access: Access) -> None:
    """Add the routes; the probes need no token."""

    async def healthz(request: web.Request) -> web.Response:
        if access.bearer(request) is None:
            return access.refusal(request)
        return await health.healthz(request)

    async def readyz(request: web.Request) -> web.Response:
        return await health.readyz(in_detail=access.is_known(request))

    app.router.add_get("/livez", health.livez)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/healthz", healthz)


_NOT_READY = "nothing is delivered at present; the log and /healthz say why"
"""For callers without a token: the reason may name hosts and paths."""


def _probe_response(problem: str | None) -> web.Response:
    return web.Response(status=200 if problem is None else 503, text=f"{problem or 'ok'}\n")
