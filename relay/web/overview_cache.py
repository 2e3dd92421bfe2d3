"""The overview that pages and metrics share: one query of the outbox serves all of them for a moment."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime

from relay.reports.overview import Configured, Overview, read_overview
from relay.web.store_access import StoreAccess

KEPT_SECONDS, KEPT_SHARE = 2.0, 20.0
"""An overview is kept for 2 s, or for 20 times as long as its query took: at most 5 % of the time."""


class OverviewCache:
    """Queries the outbox on demand, and not again while the last overview is fresh."""

    def __init__(self, access: StoreAccess, configured: Callable[[], Configured]) -> None:
        self._access, self._configured = access, configured
        self._overview: Overview | None = None
        self._kept_until = float("-inf")
        self._changes = 0
        self._querying = asyncio.Lock()

    async def overview(self) -> Overview:
        """The overview as of now, or of a moment ago. Raises StoreError."""
        async with self._querying:
            time = asyncio.get_running_loop().time
            began, changes = time(), self._changes
            if self._overview is None or began >= self._kept_until:
                self._overview = await read_overview(
                    await self._access.store(), self._configured(), datetime.now(UTC)
                )
                kept = max(KEPT_SECONDS, KEPT_SHARE * (time() - began))
                self._kept_until = began + (kept if changes == self._changes else 0.0)
            return self._overview

    def invalidate(self) -> None:
        """An operator changed something: the next call queries the outbox, even if a query is in progress."""
        self._changes += 1
        self._kept_until = float("-inf")
