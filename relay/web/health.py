"""This file is health that tells the truth: by progress, not by the mere fact that somebody answers.

`/livez`: the process gets on, or names what stands still. `/readyz`: it would carry a message that is handed
over now. `/healthz`: all of it as JSON. A tenant whose ION is down makes the relay neither dead nor unready.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from aiohttp import web

from relay.core.model import DocumentName, TenantId, TenantState
from relay.core.ports import StoreError
from relay.observability.liveness import Liveness, worker_name
from relay.reports.overview import Configured
from relay.reports.times import instant
from relay.web.access_control import Access
from relay.web.relay_bridge import LoopStalledError
from relay.web.store_access import StoreAccess

WRITE_SECONDS = 2.0
"""So soon a write to the outbox must be able to begin."""

_FRESH_SECONDS = 1.0
"""The outbox is asked once in so long, however often health is."""


@dataclass(frozen=True, slots=True)
class HealthSources:
    """What the relay says of itself; each is called in the web thread unless it is said otherwise.

    `hindrance()`: why it would carry nothing now (it starts, it stops, its leases are over), or None.
    `states()`: of the tenants that it carries, and `accepted(tenant)`: the documents that ION accepts, None
    where that is not known now; both on the relay's own loop. `configured()`: the settings' tenants.
    """

    liveness: Liveness
    hindrance: Callable[[], str | None]
    states: Callable[[], Mapping[TenantId, TenantState]]
    accepted: Callable[[TenantId], frozenset[DocumentName] | None]
    configured: Callable[[], Configured]


class Health:
    """Whether this relay lives and would carry a message."""

    def __init__(self, hall: StoreAccess, vitals: HealthSources) -> None:
        self._hall, self._vitals = hall, vitals
        self._asking: asyncio.Task[str | None] | None = None
        self._asked_at = float("-inf")

    def standstill(self) -> str | None:
        """What stands still, by name; None: nothing does."""
        return "; ".join(map(str, self._vitals.liveness.overdue())) or None

    async def hindrance(self) -> str | None:
        """Why a message that is handed over now would not be carried by this relay; None: it would."""
        return self.standstill() or self._vitals.hindrance() or await self._unwritable()

    async def _unwritable(self) -> str | None:
        """Shared by all who ask within a second."""
        now = asyncio.get_running_loop().time()
        if self._asking is None or (self._asking.done() and now - self._asked_at >= _FRESH_SECONDS):
            self._asking, self._asked_at = asyncio.create_task(self._try_to_write()), now
        return await asyncio.shield(self._asking)

    async def _try_to_write(self) -> str | None:
        try:
            async with asyncio.timeout(WRITE_SECONDS):
                await (await self._hall.store()).may_write()
        except TimeoutError:
            return f"no write to the outbox could begin within {WRITE_SECONDS:g} s"
        except StoreError as error:
            return str(error)
        return None

    # --- over HTTP ------------------------------------------------------------------------------------

    async def livez(self, _: web.Request) -> web.Response:
        """For the platform: restart what answers 503."""
        return _said(self.standstill())

    async def readyz(self, _: web.Request) -> web.Response:
        """For the platform: what answers 503 carries nothing just now."""
        return _said(await self.hindrance())

    async def healthz(self, _: web.Request) -> web.Response:
        """Everything that is known, for people and programs."""
        hindrance = await self.hindrance()
        body: dict[str, Any] = {
            "alive": self.standstill() is None,
            "ready": hindrance is None,
            "reason": hindrance,
            "loop_silent_seconds": round(self._vitals.liveness.seconds_since_tick, 3),
            "tenants": await self._tenants(),
        }
        return web.json_response(body, status=200 if hindrance is None else 503)

    async def _tenants(self) -> dict[str, dict[str, Any]] | None:
        """As far as the relay's loop and the outbox answer."""
        try:
            states = await self._hall.inside.ask(self._vitals.states)
            async with asyncio.timeout(WRITE_SECONDS):
                counts = await (await self._hall.store()).counts()
        except (LoopStalledError, StoreError, TimeoutError):
            return None
        return {
            name: {
                "state": state.state,
                "reason": state.reason or None,
                "since": instant(state.since),
                "next_try": instant(state.next_try),
                "last_progress": instant(self._moved(name)),
                "oldest_due_seconds": counts[name].oldest_due_seconds if name in counts else None,
            }
            for name, state in sorted(states.items())
        }

    def _moved(self, tenant: TenantId) -> datetime | None:
        still = self._vitals.liveness.seconds_since_progress(worker_name(tenant))
        return None if still is None else datetime.now(UTC) - timedelta(seconds=still)


def routes(app: web.Application, health: Health, access: Access) -> None:
    """Add them; what platforms probe needs no token."""

    async def healthz(request: web.Request) -> web.Response:
        if access.bearer(request) is None:
            return access.refusal(request)
        return await health.healthz(request)

    app.router.add_get("/livez", health.livez)
    app.router.add_get("/readyz", health.readyz)
    app.router.add_get("/healthz", healthz)


def _said(trouble: str | None) -> web.Response:
    return web.Response(status=200 if trouble is None else 503, text=f"{trouble or 'ok'}\n")
