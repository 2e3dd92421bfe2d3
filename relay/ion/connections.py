"""The connections of a process to ION and the token services: a limit, and idle ones closed for new ones."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol
from weakref import WeakSet

_TURNS = 2
"""Of the loop: one until the transport is closed, and one more for loops that do so at the end of a turn."""


class Pool(Protocol):
    """The connections of one tenant."""

    def idle(self) -> int:
        """How many are kept for later requests."""

    def close_idle(self) -> None:
        """Close one of them at once, without a farewell to its server."""


class Connections:
    """`limit`: of requests at the same time, and of connections. Requests take turns."""

    def __init__(self, limit: int) -> None:
        self._limit, self._in_use = limit, 0
        self._room = asyncio.Semaphore(limit)
        self._pools: WeakSet[Pool] = WeakSet()

    def add(self, pool: Pool) -> None:
        """This pool counts too, as long as it exists."""
        self._pools.add(pool)

    @asynccontextmanager
    async def request(self) -> AsyncIterator[None]:
        """Wait for the turn of a request, which uses one connection."""
        async with self._room:
            self._in_use += 1
            try:
                yield
            finally:
                self._in_use -= 1

    async def make_room(self) -> None:
        """A request opens a new connection: close what is idle beyond the limit, most of the largest pool.

        Returns once the descriptors are free: a transport is closed in the loop's next turn, and until then
        as many connections again would be open.
        """
        pools = [pool for pool in self._pools if pool.idle()]
        excess = sum(pool.idle() for pool in pools) + self._in_use - self._limit
        if excess <= 0:
            return
        for _ in range(excess):
            max(pools, key=lambda pool: pool.idle()).close_idle()
        for _ in range(_TURNS):
            await asyncio.sleep(0)
