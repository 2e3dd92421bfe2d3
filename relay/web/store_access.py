"""This file is what every part of the web side works with: its own store, and the way into the relay."""

import asyncio
from collections.abc import Awaitable, Callable

from relay.core.ports import Store
from relay.web.relay_bridge import RelayBridge


class StoreAccess:
    """Made in the web thread, once."""

    def __init__(self, reach: Callable[[], Awaitable[Store]], inside: RelayBridge) -> None:
        self._reach, self.inside = reach, inside
        self._store: Store | None = None
        self._opening = asyncio.Lock()

    async def store(self) -> Store:
        """The outbox, opened when it is first asked for. Raises StoreError while it cannot be."""
        async with self._opening:
            if self._store is None:
                self._store = await self._reach()
        return self._store

    async def close(self) -> None:
        """Let go of it."""
        if self._store is not None:
            await self._store.close()
