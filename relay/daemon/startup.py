"""The start of a relay: it waits for its outbox, alive, not ready, and says why.

A file must exist and be an outbox. What passes is waited for: a database that is away, a lock of another
program, a full disk.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar

from relay.config.settings import Settings
from relay.core.ports import Store, StoreError
from relay.core.retry import Schedule
from relay.daemon.systemd import SystemdNotifier
from relay.delivery.outbox_retry import report_outbox_incident
from relay.delivery.waiting import nap
from relay.observability.incidents import Incidents
from relay.observability.logs import Log
from relay.outbox import may_open_later, open_outbox

T = TypeVar("T")

_EXTEND_SECONDS = 10.0
"""systemd is asked so often to wait longer, and for this and a minute more: however long the start takes."""

_HINT = "if it is not the first start, correct RELAY_OUTBOX__URL, or mount its folder"


class Startup:
    """From the first moment of the process until messages are delivered. `end`: in the loop's time."""

    def __init__(
        self,
        incidents: Incidents,
        schedule: Schedule,
        systemd: SystemdNotifier,
        stop: asyncio.Event,
        end: float | None,
    ) -> None:
        self._incidents, self._schedule, self._systemd = incidents, schedule, systemd
        self._stop, self._end = stop, end
        self._waits_for = ""
        self._is_over = False
        self._extending = asyncio.create_task(self._extend())

    @property
    def hindrance(self) -> str | None:
        """Why nothing is delivered yet; None: the relay has started. Called from any thread."""
        if self._is_over:
            return None
        return f"the relay is starting: {self._waits_for}" if self._waits_for else "the relay is starting"

    def complete(self) -> None:
        """The relay has started."""
        self.cancel()
        self._is_over = True
        self._systemd.ready()

    def cancel(self) -> None:
        """It is over: systemd is not asked to wait any longer."""
        self._extending.cancel()

    async def wait_for(
        self, call: Callable[[], Awaitable[T]], is_final: Callable[[StoreError], bool] = lambda _: False
    ) -> T | None:
        """The result of a call to the outbox; None if the relay was stopped before.

        A failure is one incident, tried again on the retry schedule, at most until the end that was given.
        Raises StoreError then, and where waiting will not help.
        """
        clock, failures = asyncio.get_running_loop().time, 0
        while not self._stop.is_set():
            try:
                result = await self._unless_stopped(call)
            except StoreError as error:
                if is_final(error) or (self._end is not None and clock() >= self._end):
                    raise
                failures += 1
                self._waits_for = str(error)
                report_outbox_incident(self._incidents, str(error))
                delay = self._schedule.delay(failures, random.random())  # noqa: S311  # a delay is no secret
                await nap(self._stop, delay if self._end is None else min(delay, max(self._end - clock(), 0)))
            else:
                self._waits_for = ""
                self._incidents.resolved()
                return result
        return None

    async def _unless_stopped(self, call: Callable[[], Awaitable[T]]) -> T | None:
        calling = asyncio.ensure_future(call())
        stopping = asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait({calling, stopping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopping.cancel()
        if calling.done():
            return calling.result()
        calling.cancel()
        await asyncio.wait({calling})
        return None

    async def _extend(self) -> None:
        while True:
            self._systemd.waiting(_EXTEND_SECONDS, self._waits_for or "the outbox is being opened")
            await asyncio.sleep(_EXTEND_SECONDS)


async def open_when_available(settings: Settings, startup: Startup, log: Log) -> Store | None:
    """The outbox; None if the relay was stopped before it could be opened. Raises StoreError."""
    at = settings.outbox
    is_new = at.location.is_missing
    opening = partial(
        open_outbox,
        at.location,
        exclusive=True,
        notify=at.notify,
        lease_seconds=settings.lease_seconds,
        purging=settings.retention.payload_days == 0,
    )
    opened = await startup.wait_for(opening, lambda error: not may_open_later(at.location, error))
    if is_new and opened is not None:
        log.warning("outbox.created", outbox=at.place, reason="there was no outbox at this place", hint=_HINT)
    return opened
