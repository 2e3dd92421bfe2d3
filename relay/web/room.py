"""The places that a port has for connections: so many at most, so many of one address, and some for probes.

Whoever takes all ordinary places must not have the process restarted: beyond them a connection may still send
a probe. A caller that reads none of its answers loses its place.
"""

import asyncio
from collections import Counter
from typing import Protocol

from relay.observability import logs
from relay.observability.open_files import open_files

MOST = 200
"""Maximum number of ordinary connections, fewer under a low limit of open files."""
MOST_OF_ONE = 100
"""Maximum number of ordinary connections of one address."""
PROBES = 32
"""Connections beyond those, for probes alone; one more ends the oldest of them."""
UNREAD_SECONDS = 10.0
"""A caller that has read nothing of what waits to be sent for so long is disconnected."""

_SWEEP_SECONDS = 2.0
_REPORT_SECONDS = 60.0


class Occupant(Protocol):
    """A connection; `unsent` bytes wait to be sent."""

    @property
    def unsent(self) -> int: ...  # noqa: D102

    def abort(self) -> None: ...  # noqa: D102


class Room:
    """The connections of one port. `setting`: the variable with its address, for the log."""

    def __init__(self, setting: str) -> None:
        self._setting = setting
        self._ordinary: dict[Occupant, str] = {}
        self._of_caller: Counter[str] = Counter()
        self._for_probes: dict[Occupant, None] = {}
        self._unread: dict[Occupant, tuple[int, float]] = {}
        self._sweep: asyncio.TimerHandle | None = None
        self._reported_at = float("-inf")
        self._turned_away = 0

    def enter(self, connection: Occupant, caller: str) -> bool:
        """Whether it has an ordinary place; else it may send probes."""
        if self._sweep is None:
            self._sweep = asyncio.get_running_loop().call_later(_SWEEP_SECONDS, self._end_unread)
        if (
            len(self._ordinary) < min(MOST, open_files().web or MOST)
            and self._of_caller[caller] < MOST_OF_ONE
        ):
            self._ordinary[connection] = caller
            self._of_caller[caller] += 1
            return True
        if len(self._for_probes) >= PROBES:
            next(iter(self._for_probes)).abort()
        self._for_probes[connection] = None
        return False

    def leave(self, connection: Occupant) -> None:
        """It is closed."""
        self._for_probes.pop(connection, None)
        self._unread.pop(connection, None)
        caller = self._ordinary.pop(connection, None)
        if caller is not None:
            self._of_caller[caller] -= 1
            if not self._of_caller[caller]:
                del self._of_caller[caller]

    def turn_away(self, connection: Occupant, caller: str) -> None:
        """There is room for probes alone, and it sends something else: one line of the log a minute."""
        connection.abort()
        self._turned_away += 1
        now = asyncio.get_running_loop().time()
        if now - self._reported_at < _REPORT_SECONDS:
            return
        is_own = self._of_caller[caller] >= MOST_OF_ONE
        logs.logger().warning(
            "web.crowded",
            setting=self._setting,
            caller=caller,
            turned_away=self._turned_away,
            reason=f"it has {MOST_OF_ONE} connections" if is_own else "all connections are in use",
            hint="find out what holds them open, and keep it from this port; probes are still answered",
        )
        self._reported_at, self._turned_away = now, 0

    def _end_unread(self) -> None:
        """Disconnect who reads nothing; also where the answer is complete and the connection to be closed."""
        now = asyncio.get_running_loop().time()
        for connection in [*self._ordinary, *self._for_probes]:
            unsent = connection.unsent
            before, since = self._unread.get(connection, (unsent, now))
            if not unsent:
                self._unread.pop(connection, None)
            elif unsent != before:
                self._unread[connection] = unsent, now
            elif now - since >= UNREAD_SECONDS:
                connection.abort()
            else:
                self._unread[connection] = unsent, since
        is_empty = not self._ordinary and not self._for_probes
        self._sweep = (
            None if is_empty else asyncio.get_running_loop().call_later(_SWEEP_SECONDS, self._end_unread)
        )
