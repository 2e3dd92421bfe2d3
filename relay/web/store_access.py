"""The web thread's own connection to the outbox, and its bridge to the relay's loop."""

import asyncio
from collections.abc import Awaitable, Callable

from relay.core.ports import Store, StoreError
from relay.web.relay_bridge import RelayBridge

_LONGEST_PAUSE_SECONDS = 10.0


class StoreAccess:
    """Created in the web thread, once."""

    def __init__(self, open_store: Callable[[], Awaitable[Store]], bridge: RelayBridge) -> None:
        self._open, self.bridge = open_store, bridge
        self._store: Store | None = None
        self._opening = asyncio.Lock()
        self._failed: StoreError | None = None
        self._pause, self._not_before = 0.0, 0.0

    async def store(self) -> Store:
        """The outbox, opened at its first use. Raises StoreError while it cannot be opened.

        However often probes ask: a server that refuses the login is not asked all the time.
        """
        async with self._opening:
            if self._store is None:
                self._store = await self._try_to_open()
        return self._store

    async def _try_to_open(self) -> Store:
        clock = asyncio.get_running_loop().time
        if self._failed is not None and clock() < self._not_before:
            raise StoreError(str(self._failed), lasting=self._failed.lasting)
        try:
            return await self._open()
        except StoreError as error:
            self._pause = min(2 * self._pause or 1.0, _LONGEST_PAUSE_SECONDS)
            self._failed, self._not_before = error, clock() + self._pause
            raise

    async def close(self) -> None:
        """Close the store, if it was opened."""
        if self._store is not None:
            await self._store.close()
