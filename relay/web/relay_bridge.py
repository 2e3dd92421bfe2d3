"""This file is what the web thread may ask of the running relay, on the relay's own loop, within a second."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

SECONDS = 1.0


class LoopStalledError(Exception):
    """The relay's loop did not answer in time."""


class RelayBridge:
    """The way from the web thread to the loop that carries messages."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    async def ask(self, question: Callable[[], T]) -> T:
        """Call `question`, which must not wait, on the relay's loop. Raises LoopStalledError."""
        asked = asyncio.run_coroutine_threadsafe(_answer(question), self._loop)
        try:
            async with asyncio.timeout(SECONDS):
                return await asyncio.wrap_future(asked)
        except TimeoutError:
            asked.cancel()
            raise LoopStalledError(f"the relay's loop did not answer within {SECONDS:g} s") from None


async def _answer(question: Callable[[], T]) -> T:
    return question()
