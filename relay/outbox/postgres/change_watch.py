"""This file is the look-out for news: a connection of its own that listens, beside looking from time to time.

A notification is a hint only. Where it cannot be had (a pooler in transaction mode, switched off), which is
found out by sending one, the relay looks more often; `mode` says which.
"""

import asyncio
import contextlib
import random
import secrets
from collections.abc import Awaitable, Callable
from typing import Any

from relay.core.ports import Mode, StoreError
from relay.outbox.postgres.connection import Connection
from relay.outbox.postgres.database import Place, farewell
from relay.outbox.postgres.errors import DRIVER_ERRORS

HEARTBEAT_SECONDS = 15.0
"""How often the listening connection is tried, so that one that is half open is found."""

ANSWER_SECONDS = 5.0

NOTIFY_LOOK_SECONDS = 5.0
POLL_LOOK_SECONDS = 0.5
"""Between two looks; half to one and a half times that, at random."""

_REST_SECONDS = 1.0  # between two tries to listen; doubled up to
_LONGEST_REST_SECONDS = 60.0


class ChangeWatch:
    """Wakes whoever waits for a change.

    A change is never missed: the waiter reads the outbox after it was woken; once listening (again), the
    first thing is to wake it; and it looks by itself anyway.
    """

    def __init__(
        self,
        place: Place,
        notify: Callable[[str], Awaitable[None]] | None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        """`notify`: send a notification with this mark, like an application's. None: do not listen."""
        self._place = place
        self._mark = secrets.token_hex(8)
        self._echo = asyncio.Event()
        self._news = asyncio.Event()
        self._news.set()  # what was there before the first look is news too
        self._lost = asyncio.Event()
        self._listening = False
        self._chance = chance
        loop = asyncio.get_running_loop()
        self._task = None if notify is None else loop.create_task(self._listen(notify))

    @property
    def mode(self) -> Mode:
        """How changes are found now."""
        return "notify" if self._listening else "poll"

    async def change(self, within: float) -> None:
        """Return once there may be something, at the latest after `within` seconds."""
        look = NOTIFY_LOOK_SECONDS if self._listening else POLL_LOOK_SECONDS
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(within, look * (0.5 + self._chance()))):
                await self._news.wait()
        self._news.clear()

    async def close(self) -> None:
        """At once."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _listen(self, notify: Callable[[str], Awaitable[None]]) -> None:
        rest = _REST_SECONDS
        while True:
            with contextlib.suppress(StoreError, OSError, *DRIVER_ERRORS):
                await self._listen_once(notify)
                rest = _REST_SECONDS
            self._listening = False
            self._news.set()
            await asyncio.sleep(rest)
            rest = min(2 * rest, _LONGEST_REST_SECONDS)

    async def _listen_once(self, notify: Callable[[str], Awaitable[None]]) -> None:
        """Until the connection is lost or does not answer."""
        connection = await self._place.connect()
        self._lost.clear()
        self._echo.clear()
        connection.add_termination_listener(self._ended)
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await connection.add_listener(self._place.names.channel, self._heard)
                await notify(self._mark)
                await self._echo.wait()
            self._listening = True
            self._news.set()  # what came while nobody listened
            while await self._answers(connection):
                pass
        finally:
            self._listening = False
            await farewell(connection)

    async def _answers(self, connection: Connection) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(HEARTBEAT_SECONDS):
                await self._lost.wait()
        if connection.is_closed():
            return False
        async with asyncio.timeout(ANSWER_SECONDS):
            await connection.execute("SELECT 1")
        return True

    def _heard(self, _connection: Any, _process: int, _channel: str, mark: object) -> None:
        if mark == self._mark:
            self._echo.set()
        self._news.set()

    def _ended(self, _connection: Any) -> None:
        self._lost.set()
