"""Watches for changes: a connection of its own that listens, beside polling.

A notification is a hint only. Where none arrive (a pooler in transaction mode, switched off), which is
found out by sending one, the relay polls more often; see `mode`.
"""

import asyncio
import contextlib
import random
import secrets
from collections.abc import Awaitable, Callable
from typing import Any

from relay.core.ports import Mode, StoreError
from relay.outbox.postgres.connection import Connection, set_for_session
from relay.outbox.postgres.database import PostgresLocation, close_connection
from relay.outbox.postgres.errors import DRIVER_ERRORS

HEARTBEAT_SECONDS = 15.0
"""How often the listening connection is checked, so that one that is half open is found."""

ANSWER_SECONDS = 5.0

NOTIFY_POLL_SECONDS = 5.0
POLL_SECONDS = 0.5
"""Between two polls; half to one and a half times that, at random."""

UNREAD_SECONDS = 30.0
"""The server ends a listening session whose relay has not read for so long: it holds up the queue."""

_REST_SECONDS = 1.0  # between two tries to listen; doubled up to
_LONGEST_REST_SECONDS = 60.0


class ChangeWatch:
    """Wakes whoever waits for a change.

    A change is never missed: the waiter reads the outbox after it was woken; once listening (again), the
    first thing is to wake it; and it polls anyway.
    """

    def __init__(
        self,
        location: PostgresLocation,
        notify: Callable[[str], Awaitable[None]] | None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        """`notify`: send a notification with this mark, like an application's. None: do not listen."""
        self._location = location
        self._mark = secrets.token_hex(8)
        self._echo = asyncio.Event()
        self._changed = asyncio.Event()
        self._changed.set()  # what was there before the first poll counts too
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
        poll = NOTIFY_POLL_SECONDS if self._listening else POLL_SECONDS
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(within, poll * (0.5 + self._chance()))):
                await self._changed.wait()
        self._changed.clear()

    def reconnect(self) -> None:
        """Listen on another connection: this one may be that of a server that was replaced."""
        self._lost.set()

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
            self._changed.set()
            await asyncio.sleep(rest)
            rest = min(2 * rest, _LONGEST_REST_SECONDS)

    async def _listen_once(self, notify: Callable[[str], Awaitable[None]]) -> None:
        """Until the connection is lost or does not answer."""
        connection = await self._location.connect()
        self._lost.clear()
        self._echo.clear()
        connection.add_termination_listener(self._connection_lost)
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await set_for_session(connection, _ends_unread(UNREAD_SECONDS))
                await connection.add_listener(self._location.names.channel, self._receive)
                await notify(self._mark)
                await self._echo.wait()
            self._listening = True
            self._changed.set()  # what came while nobody listened
            while await self._is_alive(connection):
                pass
        finally:
            self._listening = False
            await close_connection(connection)

    async def _is_alive(self, connection: Connection) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(HEARTBEAT_SECONDS):
                await self._lost.wait()
        if self._lost.is_set() or connection.is_closed():
            return False
        async with asyncio.timeout(ANSWER_SECONDS):
            await connection.execute("SELECT 1")
        return True

    def _receive(self, _connection: Any, _process: int, _channel: str, mark: object) -> None:
        if mark == self._mark:
            self._echo.set()
        self._changed.set()

    def _connection_lost(self, _connection: Any) -> None:
        self._lost.set()


def _ends_unread(seconds: float) -> dict[str, str]:
    """Settings of the server: how long it keeps a connection whose other end takes nothing, or is gone."""
    third = str(max(round(seconds / 3), 1))
    return {
        "tcp_user_timeout": str(round(seconds * 1000)),
        "tcp_keepalives_idle": third,
        "tcp_keepalives_interval": third,
        "tcp_keepalives_count": "2",
    }
