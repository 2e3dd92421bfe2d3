"""Calls from the web thread into the relay's own loop, bounded in time."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

SECONDS = 1.0
"""The longest that a call waits for the loop."""


class LoopStalledError(Exception):
    """The relay's loop did not answer in time."""


class RelayBridge:
    """The web thread's access to the loop that delivers messages."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    async def call(self, function: Callable[[], T]) -> T:
        """Call `function`, which must not block, on the relay's loop. Raises LoopStalledError."""
        future = asyncio.run_coroutine_threadsafe(_call(function), self._loop)
        try:
            async with asyncio.timeout(SECONDS):
                return await asyncio.wrap_future(future)
        except TimeoutError:
            future.cancel()
            raise LoopStalledError(f"the relay's loop did not answer within {SECONDS:g} s") from None


async def _call(function: Callable[[], T]) -> T:
    return function()
