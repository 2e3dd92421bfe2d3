"""This file is `/metrics`: a look at the outbox every few seconds, and the page that Prometheus scrapes.

A scrape reads memory alone. What the outbox holds is asked for in between, from the counts that the store
keeps by itself; never more often than is cheap.
"""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from aiohttp import web
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client import exposition as text
from prometheus_client.openmetrics import exposition as openmetrics

from relay import __version__
from relay.core.admin import Count
from relay.core.model import TenantId, TenantState
from relay.core.ports import Mode, Store, StoreError
from relay.observability.metrics import Meters
from relay.observability.prometheus_text import Labels
from relay.reports.overview import Overview
from relay.web.access_control import Access

_LOOK_SECONDS = 5.0
"""So often the gauges are brought up to date; where a look takes long, from one that was kept."""

_KEPT_SECONDS = 1.0
"""A page is given again for so long: however many scrape, it is written once."""


@dataclass(frozen=True, slots=True)
class OwnedTenants:
    """The tenants that this process is to carry, whether it may send for one now, and how it finds news.

    Any thread may call. The web thread's own store is never notified, so the mode is the relay's own.
    """

    tenants: Callable[[], Iterable[TenantId]]
    holds: Callable[[TenantId], bool]
    mode: Callable[[], Mode]


class Look:
    """Keeps the gauges of the outbox up to date. Belongs to one loop.

    `see` gives what the operator's page sees, so that one look serves both; `reach` the opened outbox.
    """

    def __init__(
        self,
        see: Callable[[], Awaitable[Overview]],
        reach: Callable[[], Awaitable[Store]],
        meters: Meters,
        owned: OwnedTenants,
    ) -> None:
        self._see, self._reach, self._meters, self._owned = see, reach, meters, owned
        self._totals: dict[TenantId, int] | None = None
        meters.info.replace({(__version__,): 1})

    async def run(self) -> None:
        """Look, rest, look again, for ever. An outbox that does not answer leaves the gauges as they were."""
        while True:
            with suppress(StoreError):
                await self.once()
            await asyncio.sleep(_LOOK_SECONDS)

    async def once(self) -> None:
        """One look."""
        store, seen = await self._reach(), await self._see()
        owned = frozenset(self._owned.tenants())
        self._count(seen.counts)
        self._tell(seen.counts, seen.states, owned)
        held: dict[Labels, float] = {}
        for tenant in owned:
            if self._owned.holds(tenant):
                held[self._meters.label(tenant),] = 1
        self._meters.lease.replace(held)
        self._meters.mode.replace({(self._owned.mode(),): 1})
        self._meters.relays.replace({(): sum(relay.alive for relay in seen.relays)})
        self._meters.bytes.replace({(): await store.size()})
        self._meters.seen.replace({(): round(seen.at.timestamp(), 3)})

    def _count(self, counts: Mapping[TenantId, Count]) -> None:
        messages: Counter[Labels] = Counter()
        oldest: dict[Labels, float] = {}
        for tenant, count in counts.items():
            label = self._meters.label(tenant)
            for state in ("pending", "delivered", "parked", "dropped"):
                messages[label, state] += getattr(count, state)
            age = round(count.oldest_due_seconds or 0.0, 3)
            oldest[label,] = max(age, oldest.get((label,), 0.0))
        self._meters.messages.replace(messages)
        self._meters.oldest_due.replace(oldest)
        self._add_up(counts)

    def _add_up(self, counts: Mapping[TenantId, Count]) -> None:
        """What came since the look before; at the first look nothing is known to have come."""
        totals = {
            tenant: one.pending + one.delivered + one.parked + one.dropped for tenant, one in counts.items()
        }
        before, self._totals = self._totals, totals
        for tenant, total in totals.items():
            come = 0 if before is None else max(0, total - before.get(tenant, 0))
            if come or before is None:  # what nothing was added to need not be written anew
                self._meters.enqueued.add((self._meters.label(tenant),), come)

    def _tell(
        self,
        counts: Mapping[TenantId, Count],
        states: Mapping[TenantId, TenantState],
        owned: frozenset[TenantId],
    ) -> None:
        shown: Counter[Labels] = Counter()
        waiting: Counter[Labels] = Counter()
        for tenant, state in states.items():
            shown[self._meters.label(tenant), state.state] = 1
        for tenant, count in counts.items():
            if count.pending:
                why = _why(states.get(tenant), configured=tenant in owned)
                waiting[self._meters.label(tenant), why] += count.pending
        self._meters.state.replace(shown)
        self._meters.waiting.replace(waiting)


def _why(state: TenantState | None, *, configured: bool) -> str:
    """What all of a tenant's pending messages wait for, in one of a few words."""
    if state is None:
        return "its-turn" if configured else "no-relay"
    if state.state in ("sending", "idle"):
        return "not-accepted" if state.documents else "its-turn"
    return state.state


class MetricsEndpoint:
    """The page, kept for a second."""

    def __init__(self, meters: Meters) -> None:
        self._meters = meters
        self._process = CollectorRegistry()
        ProcessCollector(registry=self._process)
        PlatformCollector(registry=self._process)
        GCCollector(registry=self._process)
        self._kept: dict[bool, tuple[float, bytes]] = {}

    async def get(self, request: web.Request) -> web.Response:
        """GET /metrics, in the format that is asked for."""
        is_open = "application/openmetrics-text" in request.headers.get("Accept", "")
        kind = openmetrics.CONTENT_TYPE_LATEST if is_open else text.CONTENT_TYPE_PLAIN_0_0_4
        return web.Response(body=self.body(is_open=is_open), headers={"Content-Type": kind})

    def body(self, *, is_open: bool) -> bytes:
        """All meters, and what is known of the process. `is_open`: as OpenMetrics."""
        now = time.monotonic()
        written_at, body = self._kept.get(is_open, (0.0, b""))
        if not body or now - written_at > _KEPT_SECONDS:
            process = openmetrics.generate_latest if is_open else text.generate_latest
            body = self._meters.text(openmetrics=is_open).encode() + process(self._process)
            self._kept[is_open] = (now, body)
        return body


def routes(app: web.Application, look: Look, page: MetricsEndpoint, access: Access) -> None:
    """Serve `/metrics` to readers, and look at the outbox as long as the application runs."""

    async def metrics(request: web.Request) -> web.Response:
        if access.bearer(request) is None:
            return access.refusal(request)
        return await page.get(request)

    async def looking(_: web.Application) -> AsyncIterator[None]:
        task = asyncio.create_task(look.run())
        yield
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    app.cleanup_ctx.append(looking)
    app.router.add_get("/metrics", metrics)
