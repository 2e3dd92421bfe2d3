"""Interruptible waiting: every wait ends early when an event is set."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def nap(event: asyncio.Event, seconds: float | None) -> bool:
    """Wait until the event is set, at most `seconds` (None: without limit); whether it is set."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return event.is_set()
    return True


async def unless(event: asyncio.Event, work: Coroutine[Any, Any, T]) -> T | None:
    """The result of `work`, or None if the event is set first: then the work is cancelled."""
    task = asyncio.ensure_future(work)
    watch = asyncio.ensure_future(event.wait())
    try:
        await asyncio.wait({task, watch}, return_when=asyncio.FIRST_COMPLETED)
        return task.result() if task.done() else None
    finally:
        for job in (task, watch):
            job.cancel()
        await asyncio.gather(task, watch, return_exceptions=True)
