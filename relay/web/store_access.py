"""The web thread's own connection to the outbox, and its bridge to the relay's loop."""

import asyncio
from collections.abc import Awaitable, Callable

from relay.core.ports import Store
from relay.web.relay_bridge import RelayBridge


class StoreAccess:
    """Created in the web thread, once."""

    def __init__(self, open_store: Callable[[], Awaitable[Store]], bridge: RelayBridge) -> None:
        self._open, self.bridge = open_store, bridge
        self._store: Store | None = None
        self._opening = asyncio.Lock()

    async def store(self) -> Store:
        """The outbox, opened at its first use. Raises StoreError while it cannot be opened."""
        async with self._opening:
            if self._store is None:
                self._store = await self._open()
        return self._store

    async def close(self) -> None:
        """Close the store, if it was opened."""
        if self._store is not None:
            await self._store.close()
