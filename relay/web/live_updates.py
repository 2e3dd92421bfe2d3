"""This file is what keeps an open page up to date: server-sent events with what changed, text alone."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from relay.core.ports import StoreError
from relay.reports import times
from relay.reports.overview import Overview, TenantStatus
from relay.web.pages import Library

_SECONDS = 2.0
MOST = 50
"""Pages that are kept up to date at a time; further ones stay as they were loaded."""


class LiveUpdates:
    """One look at the outbox serves all who listen."""

    def __init__(self, library: Library) -> None:
        self._of = library
        self._listeners = 0
        self._cells: Mapping[str, str] = {}
        self._seen: Overview | None = None
        self._stopping = asyncio.Event()

    async def events(self, request: web.Request) -> web.StreamResponse:
        """Cells whose text changed, every few seconds, until the page is left."""
        if self._listeners >= MOST:
            return web.Response(status=204)  # tells the browser not to ask again
        answer = web.StreamResponse(headers={"Content-Type": "text/event-stream", "X-Accel-Buffering": "no"})
        await answer.prepare(request)
        self._listeners += 1
        sent: dict[str, str] = {}
        try:
            while not self._stopping.is_set():
                cells = await self._look()
                changed = {name: text for name, text in cells.items() if sent.get(name) != text}
                sent.update(changed)
                await answer.write(f"data: {json.dumps(changed)}\n\n".encode())
                await self._rest()
        except ConnectionError:
            pass
        finally:
            self._listeners -= 1
        return answer

    async def stop(self, _: web.Application) -> None:
        """Let all of them go."""
        self._stopping.set()

    async def _rest(self) -> None:
        try:
            async with asyncio.timeout(_SECONDS):
                await self._stopping.wait()
        except TimeoutError:
            return

    async def _look(self) -> Mapping[str, str]:
        try:
            seen = await self._of.glance.seen()
        except StoreError:
            return self._cells
        if seen is not self._seen:
            self._seen, self._cells = seen, _cells(seen)
        return self._cells


def _cells(seen: Overview) -> dict[str, str]:
    """By the name that the page gives a cell."""
    cells: dict[str, str] = {}
    for one in seen.tenants:
        for name, text in _of_tenant(one, seen).items():
            cells[f"{one.tenant_id}.{name}"] = text
    return cells


def _of_tenant(one: TenantStatus, seen: Overview) -> dict[str, Any]:
    oldest = one.count.oldest_due_seconds
    return {
        "state": one.state,
        "pending": f"{one.count.pending:,}",
        "delivered": f"{one.count.delivered:,}",
        "parked": f"{one.count.parked:,}",
        "oldest": "" if oldest is None else times.duration(oldest),
        "since": times.time_since(one.since, seen.at),
        "next": times.time_until(one.next_try, seen.at),
        "reason": one.reason,
    }
