"""Watches the store's clock for jumps, against a clock of this machine that cannot jump.

On SQLite it is the host's, on PostgreSQL the server's. After a jump what was read ahead is read again, since
what was not due may be due now; and until the clock was steady for a while nothing is deleted for its age: a
clock that is wrong for a minute must not cost what was delivered a minute before.
"""

import asyncio
from collections.abc import Callable

from relay.core.ports import Store
from relay.daemon.supervisor import STALLED_CALL_SECONDS
from relay.observability.liveness import Liveness
from relay.observability.logs import Log

CLOCK = "clock"
"""The name of this component."""

STEADY_SECONDS = 600.0
"""After its start and after a jump, the clock counts as right when it has gone on evenly for this time."""

JUMP_SECONDS = 10.0
"""Less is corrected all the time where machines are suspended or moved, and matters to no limit."""

_LOOK_SECONDS = 5.0


class ClockWatch:
    """`uptime`: steady seconds, also while the machine is suspended. `jumped()` is called after a jump."""

    def __init__(
        self,
        store: Store,
        log: Log,
        uptime: Callable[[], float],
        jumped: Callable[[], None],
        liveness: Liveness,
    ) -> None:
        self._store, self._log, self._uptime, self._jumped = store, log, uptime, jumped
        self._liveness = liveness.component(CLOCK, _LOOK_SECONDS + STALLED_CALL_SECONDS)
        self._started: float | None = None
        """By the store's clock, when this machine was at 0; None: not known yet."""
        self._steady_since = uptime()

    async def run(self) -> None:
        """Look again and again, for ever."""
        while True:
            self._liveness.begin()
            await self._look()
            await asyncio.sleep(_LOOK_SECONDS)

    async def is_steady(self) -> bool:
        """Whether the clock can be trusted just now with what cannot be undone. Raises StoreError."""
        await self._look()
        return self._uptime() - self._steady_since >= STEADY_SECONDS

    async def _look(self) -> None:
        asked = self._uptime()
        now = (await self._store.clock()).timestamp()
        answered = self._uptime()
        before, self._started = self._started, now - (asked + answered) / 2
        jump = 0.0 if before is None else self._started - before
        if abs(jump) <= JUMP_SECONDS + (answered - asked) / 2:
            return
        self._steady_since = answered
        hint = "check the time synchronisation of the outbox' machine; `date` there, and `relay status`"
        self._log.warning("clock.jumped", seconds=round(jump, 1), hint=hint)
        self._jumped()
