"""Tasks of one sender: they end together, and the first failure of any of them is kept."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any


class Tasks:
    """`wakened`: set at the end of each task, and by `wake`; the sender's loop waits for it and clears it.

    It may be shared by several groups of tasks. A task group of asyncio would cancel the posts in flight when
    one task fails; here they may complete first.
    """

    def __init__(self, wakened: asyncio.Event | None = None) -> None:
        self.wakened = wakened or asyncio.Event()
        self.error: BaseException | None = None
        """What the first task that failed raised."""
        self._running: set[asyncio.Task[None]] = set()

    def wake(self) -> None:
        """Have the sender's loop check what can be done now."""
        self.wakened.set()

    def start(self, work: Coroutine[Any, Any, None], ended: Callable[[], object]) -> None:
        """Run it; `ended` is called at its end, however it ends."""

        def done(task: asyncio.Task[None]) -> None:
            self._running.discard(task)
            if not task.cancelled() and self.error is None:
                self.error = task.exception()
            ended()
            self.wake()

        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(done)

    async def cancel(self) -> None:
        """Cancel those that still run, and wait for their end."""
        tasks = list(self._running)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
