"""Supervised tasks: each is restarted when it fails or stalls, and none stops another.

The only catch-all of the relay stands here.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from relay.core.ports import CALL_SECONDS, StoreError
from relay.core.retry import Schedule
from relay.delivery.outbox_retry import report_outbox_incident
from relay.delivery.waiting import nap
from relay.observability.incidents import Incidents
from relay.observability.liveness import Liveness
from relay.observability.logs import Log

_STABLE_SECONDS = 60.0
"""A crash after this time counts as the first again."""

_CHECK_SECONDS = 2.0
"""The interval between two checks for stalled components."""

_MARGIN_SECONDS = 10.0
"""A component that is late is cancelled after this time: its call should end by its own limit first."""


STALLED_CALL_SECONDS = CALL_SECONDS + 5.0
"""A component whose call to the outbox takes longer than this has stalled."""


class StalledError(Exception):
    """A component was cancelled because it had stalled."""


class Supervisor:
    """The tasks of one relay process. `chance`: in [0, 1)."""

    def __init__(
        self,
        log: Log,
        incidents: Incidents,
        schedule: Schedule,
        chance: Callable[[], float],
        liveness: Liveness,
    ) -> None:
        self._log, self._incidents, self._liveness = log, incidents, liveness
        self._schedule, self._chance = schedule, chance
        self._tasks: dict[asyncio.Task[None], None] = {}
        self._attempts: dict[str, asyncio.Task[None]] = {}

    def start(self, name: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run this once, in a task that `cancel` ends."""
        task = asyncio.create_task(work, name=name)
        self._tasks[task] = None
        task.add_done_callback(self._tasks.pop)
        return task

    def supervise(
        self, name: str, run: Callable[[], Awaitable[None]], leaving: asyncio.Event | None = None
    ) -> asyncio.Task[None]:
        """Run a component until it returns or `leaving` is set; restart it whenever it fails."""
        return self.start(name, self._supervise(name, run, leaving or asyncio.Event()))

    async def restart_stalled(self) -> None:
        """Cancel the components that have stalled, so that they are restarted; for ever."""
        while True:
            await asyncio.sleep(_CHECK_SECONDS)
            for late in self._liveness.overdue(_MARGIN_SECONDS):
                task = self._attempts.get(late.component)
                if task is not None:
                    seconds = round(late.seconds, 1)
                    hint = "it is restarted automatically; please report it"
                    self._log.error("component.stuck", component=late.component, seconds=seconds, hint=hint)
                    task.cancel()

    async def cancel(self) -> None:
        """End every task at once."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _supervise(self, name: str, run: Callable[[], Awaitable[None]], leaving: asyncio.Event) -> None:
        failures = 0
        clock = asyncio.get_running_loop().time
        while not leaving.is_set():
            began = clock()
            try:
                await self._attempt(name, run)
            except StoreError as error:
                failures += 1
                report_outbox_incident(self._incidents, str(error))
            except StalledError:  # reported when it was cancelled
                failures += 1
            except Exception:  # noqa: BLE001 — the one catch-all: a bug in one component must not end the others
                failures = 1 if clock() - began > _STABLE_SECONDS else failures + 1
                self._log.exception("component.crashed", component=name, failures=failures)
            else:
                return
            await nap(leaving, self._schedule.delay(failures, self._chance()))

    async def _attempt(self, name: str, run: Callable[[], Awaitable[None]]) -> None:
        """In a task of its own, so that it can be cancelled once it stalls. Raises what it raises."""
        task = self._attempts[name] = asyncio.create_task(_awaited(run), name=name)
        try:
            await asyncio.wait({task})
        finally:
            self._attempts.pop(name, None)
            self._liveness.idle(name)
            if not task.done():
                task.cancel()
                await asyncio.wait({task})
        if task.cancelled():
            raise StalledError(name)
        task.result()


async def _awaited(run: Callable[[], Awaitable[None]]) -> None:
    await run()
