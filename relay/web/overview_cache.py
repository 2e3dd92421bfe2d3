"""This file is the overview that pages and metrics share: one look at the outbox serves all for a moment."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime

from relay.reports.overview import Configured, Overview, read_overview
from relay.web.delivery_rates import DeliveryRates
from relay.web.store_access import StoreAccess

KEPT_SECONDS, KEPT_SHARE = 2.0, 20.0
"""A look serves for so long, or so many times as long as it took: at most 5 % of the time goes there."""


class OverviewCache:
    """Looks when somebody asks, and not again while it is fresh."""

    def __init__(self, hall: StoreAccess, configured: Callable[[], Configured], rates: DeliveryRates) -> None:
        self._hall, self._configured, self._rates = hall, configured, rates
        self._seen: Overview | None = None
        self._kept_until = float("-inf")
        self._looking = asyncio.Lock()

    async def seen(self) -> Overview:
        """How everything is, or was a moment ago. Raises StoreError."""
        async with self._looking:
            time = asyncio.get_running_loop().time
            began = time()
            if self._seen is None or began >= self._kept_until:
                self._seen = await read_overview(
                    await self._hall.store(), self._configured(), datetime.now(UTC)
                )
                self._kept_until = began + max(KEPT_SECONDS, KEPT_SHARE * (time() - began))
                self._rates.saw(self._seen.counts)
            return self._seen

    def forget(self) -> None:
        """Something was decided: look again."""
        self._seen = None
