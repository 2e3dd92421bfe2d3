"""Live updates of an open page: server-sent events with the text of the cells that changed."""

import asyncio
import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from relay.core.ports import StoreError
from relay.reports import times
from relay.reports.overview import Overview, TenantStatus
from relay.web.access_control import SESSION, Access
from relay.web.pages import Library
from relay.web.shown_text import visible_text

_SECONDS = 2.0
MOST = 50
"""Maximum number of pages that are updated at a time; further ones stay as they were loaded."""
MOST_OF_READERS = 40
"""While so many are open, readers get no further one: some are left for operators."""
MOST_OF_ONE = 10
"""Maximum number of one session."""


class LiveUpdates:
    """One query of the outbox serves all open pages."""

    def __init__(self, library: Library, access: Access) -> None:
        self._library, self._access = library, access
        self._open: Counter[str] = Counter()
        """By session."""
        self._cells: Mapping[str, str] = {}
        self._overview: Overview | None = None
        self._stopping = asyncio.Event()

    async def events(self, request: web.Request) -> web.StreamResponse:
        """The cells whose text changed, every few seconds, until the page is closed."""
        session = request[SESSION]
        most = MOST if session.role == "operator" else MOST_OF_READERS
        if self._open.total() >= most or self._open[session.key] >= MOST_OF_ONE:
            return web.Response(status=204)  # tells the browser not to ask again
        answer = web.StreamResponse(headers={"Content-Type": "text/event-stream", "X-Accel-Buffering": "no"})
        await answer.prepare(request)
        self._open[session.key] += 1
        sent: dict[str, str] = {}
        try:
            while not self._stopping.is_set() and self._access.is_valid(session):
                cells = await self._current_cells()
                changed = {name: text for name, text in cells.items() if sent.get(name) != text}
                sent.update(changed)
                await answer.write(f"data: {json.dumps(changed)}\n\n".encode())
                await self._pause()
        except ConnectionError:
            pass
        finally:
            self._open[session.key] -= 1
            self._open += Counter()  # without those of which none is open
        return answer

    async def stop(self, _: web.Application) -> None:
        """End all streams."""
        self._stopping.set()

    async def _pause(self) -> None:
        try:
            async with asyncio.timeout(_SECONDS):
                await self._stopping.wait()
        except TimeoutError:
            return

    async def _current_cells(self) -> Mapping[str, str]:
        try:
            overview = await self._library.overviews.overview()
        except StoreError:
            return self._cells
        if overview is not self._overview:
            self._overview, self._cells = overview, _cells(overview)
        return self._cells


def _cells(overview: Overview) -> dict[str, str]:
    """The text of each cell by its name on the page."""
    cells: dict[str, str] = {}
    for one in overview.tenants:
        for name, text in _of_tenant(one, overview).items():
            cells[f"{one.tenant_id}.{name}"] = text
    return cells


def _of_tenant(one: TenantStatus, overview: Overview) -> dict[str, Any]:
    oldest = one.count.oldest_due_seconds
    return {
        "state": one.state,
        "pending": f"{one.count.pending:,}",
        "delivered": f"{one.count.delivered:,}",
        "parked": f"{one.count.parked:,}",
        "oldest": "" if oldest is None else times.duration(oldest),
        "since": times.time_since(one.since, overview.at),
        "next": times.time_until(one.next_try, overview.at),
        "reason": visible_text(one.summary),
        "tone": one.tone,
        "code": one.code or "",
    }
