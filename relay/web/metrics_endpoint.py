"""`/metrics`: gauges from a query of the outbox every few seconds, and the page that Prometheus scrapes.

A scrape reads memory only. The outbox is queried between scrapes, from the counts that the store maintains,
and never more often than is cheap.
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

_QUERY_SECONDS = 5.0
"""The interval at which the gauges are updated; where a query takes long, from the last overview."""

_KEPT_SECONDS = 1.0
"""A page is served again for this time: however many scrape, it is rendered once."""


@dataclass(frozen=True, slots=True)
class OwnedTenants:
    """The tenants that this process owns, whether it may send for one now, and how it learns of new messages.

    Thread-safe. The web thread's own store is never notified, so the mode is that of the relay's store.
    """

    tenants: Callable[[], Iterable[TenantId]]
    holds: Callable[[TenantId], bool]
    mode: Callable[[], Mode]


class OutboxGauges:
    """Updates the gauges of the outbox. Belongs to one loop.

    `read` gives the overview that the operator's page shares; `store` the opened outbox.
    """

    def __init__(
        self,
        read: Callable[[], Awaitable[Overview]],
        store: Callable[[], Awaitable[Store]],
        meters: Meters,
        owned: OwnedTenants,
    ) -> None:
        self._read, self._store, self._meters, self._owned = read, store, meters, owned
        self._totals: dict[TenantId, int] | None = None
        meters.info.replace({(__version__,): 1})

    async def run(self) -> None:
        """Update at intervals, for ever. An outbox that does not answer leaves the gauges unchanged."""
        while True:
            with suppress(StoreError):
                await self.update()
            await asyncio.sleep(_QUERY_SECONDS)

    async def update(self) -> None:
        """Update all gauges of the outbox."""
        store, seen = await self._store(), await self._read()
        owned = frozenset(self._owned.tenants())
        self._count(seen.counts)
        self._update_states(seen.counts, seen.states, owned)
        held: dict[Labels, float] = {}
        for tenant in owned:
            if self._owned.holds(tenant):
                held[self._meters.label(tenant),] = 1
        self._meters.lease.replace(held)
        self._meters.mode.replace({(self._owned.mode(),): 1})
        self._meters.relays.replace({(): sum(relay.alive for relay in seen.relays)})
        self._meters.bytes.replace({(): await store.size()})
        log = await store.log_bytes()
        self._meters.log_bytes.replace({} if log is None else {(): log})
        queue = await store.notification_queue()
        self._meters.notification_queue.replace({} if queue is None else {(): queue})
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
        self._count_enqueued(counts)

    def _count_enqueued(self, counts: Mapping[TenantId, Count]) -> None:
        """Messages enqueued since the last update; at the first update none are known."""
        totals = {
            tenant: one.pending + one.delivered + one.parked + one.dropped for tenant, one in counts.items()
        }
        before, self._totals = self._totals, totals
        for tenant, total in totals.items():
            added = 0 if before is None else max(0, total - before.get(tenant, 0))
            if added or before is None:  # unchanged ones need no update
                self._meters.enqueued.add((self._meters.label(tenant),), added)

    def _update_states(
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
                why = _wait_reason(states.get(tenant), configured=tenant in owned)
                waiting[self._meters.label(tenant), why] += count.pending
        self._meters.state.replace(shown)
        self._meters.waiting.replace(waiting)


def _wait_reason(state: TenantState | None, *, configured: bool) -> str:
    """The wait reason of a tenant's pending messages, as one of a few label values."""
    if state is None:
        return "its-turn" if configured else "no-relay"
    if state.state in ("sending", "idle"):
        return "not-accepted" if state.documents else "its-turn"
    return state.state


class MetricsEndpoint:
    """The page, cached for a second."""

    def __init__(self, meters: Meters) -> None:
        self._meters = meters
        self._process = CollectorRegistry()
        ProcessCollector(registry=self._process)
        PlatformCollector(registry=self._process)
        GCCollector(registry=self._process)
        self._cached: dict[bool, tuple[float, bytes]] = {}

    async def get(self, request: web.Request) -> web.Response:
        """GET /metrics, in the requested format."""
        is_open = "application/openmetrics-text" in request.headers.get("Accept", "")
        kind = openmetrics.CONTENT_TYPE_LATEST if is_open else text.CONTENT_TYPE_PLAIN_0_0_4
        return web.Response(body=self.body(is_open=is_open), headers={"Content-Type": kind})

    def body(self, *, is_open: bool) -> bytes:
        """All meters, and those of the process. `is_open`: as OpenMetrics."""
        now = time.monotonic()
        rendered_at, body = self._cached.get(is_open, (0.0, b""))
        if not body or now - rendered_at > _KEPT_SECONDS:
            process = openmetrics.generate_latest if is_open else text.generate_latest
            body = self._meters.text(openmetrics=is_open).encode() + process(self._process)
            self._cached[is_open] = (now, body)
        return body


def routes(app: web.Application, gauges: OutboxGauges, page: MetricsEndpoint, access: Access) -> None:
    """Serve `/metrics` to readers, and update the gauges while the application runs."""

    async def metrics(request: web.Request) -> web.Response:
        if access.bearer(request) is None:
            return access.refusal(request)
        return await page.get(request)

    async def updating(_: web.Application) -> AsyncIterator[None]:
        task = asyncio.create_task(gauges.run())
        yield
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    app.cleanup_ctx.append(updating)
    app.router.add_get("/metrics", metrics)
