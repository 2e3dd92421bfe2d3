"""This file is the overview that all pages share: one look at the outbox serves everybody for a moment."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime

from relay.view.overview import Configured, Overview, look
from relay.web.hall import Hall
from relay.web.rates import Rates

KEPT_SECONDS = 2.0


class Glance:
    """Looks when somebody asks, and not again while it is fresh."""

    def __init__(self, hall: Hall, configured: Callable[[], Configured], rates: Rates) -> None:
        self._hall, self._configured, self._rates = hall, configured, rates
        self._seen: Overview | None = None
        self._looked_at = float("-inf")
        self._looking = asyncio.Lock()

    async def seen(self) -> Overview:
        """How everything is, at most KEPT_SECONDS ago. Raises StoreError."""
        async with self._looking:
            now = asyncio.get_running_loop().time()
            if self._seen is None or now - self._looked_at >= KEPT_SECONDS:
                self._seen = await look(await self._hall.store(), self._configured(), datetime.now(UTC))
                self._looked_at = now
                self._rates.saw(self._seen.counts)
            return self._seen

    def forget(self) -> None:
        """Something was decided: look again."""
        self._seen = None
