"""The watchdog: a thread that notices a blocked loop, logs where it is blocked, and notifies systemd.

systemd is notified only while the loop ticks and no component has been stalled for long; without a
notification it restarts the process (WatchdogSec=).
"""

import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from relay.daemon.systemd import SystemdNotifier
from relay.observability.liveness import LOOP_SECONDS, Liveness
from relay.observability.logs import Log

_CHECK_SECONDS = 1.0
_BLOCKED_SECONDS = 3.0
"""A loop without a tick for this time is logged as blocked; /livez fails later (`LOOP_SECONDS`)."""

_BEYOND_RESTART_SECONDS = 60.0
"""A component that is late by this much was not helped by its restart."""


class Watchdog:
    """Watches the thread that creates it. `clock`: monotonic seconds."""

    def __init__(
        self,
        liveness: Liveness,
        systemd: SystemdNotifier,
        log: Log,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._liveness, self._systemd, self._log, self._clock = liveness, systemd, log, clock
        self._watched = threading.get_ident()
        self._ended = threading.Event()
        self._blocked = False
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread after its current check."""
        self._ended.set()

    @property
    def is_well(self) -> bool:
        """Whether the loop ticks, and what has stalled may still recover by its restart."""
        late = self._liveness.overdue()
        return self._liveness.seconds_since_tick <= LOOP_SECONDS and all(
            one.seconds <= one.allowed + _BEYOND_RESTART_SECONDS for one in late
        )

    def where(self) -> str:
        """Where the watched thread is: the innermost line of all, and the innermost of the relay's own."""
        frame = sys._current_frames().get(self._watched)  # noqa: SLF001  # there is no other way to see it
        if frame is None:
            return "its thread is gone"
        lines = traceback.extract_stack(frame)
        ours = [line for line in lines if f"{Path(__file__).parent.parent.name}/" in line.filename]
        shown = [f"{Path(line.filename).name}:{line.lineno} {line.name}" for line in (lines[-1], *ours[-1:])]
        return ", in ".join(dict.fromkeys(shown))

    def _run(self) -> None:
        checked = self._clock()
        while not self._ended.wait(_CHECK_SECONDS):
            now = self._clock()
            if now - checked < 2 * _CHECK_SECONDS:  # else the whole process was frozen: its loop needs time
                self._check()
            checked = now

    def _check(self) -> None:
        silence = self._liveness.seconds_since_tick
        if silence > _BLOCKED_SECONDS and not self._blocked:
            self._blocked = True
            hint = "if it lasts, restart the relay; please report the place"
            self._log.error("loop.blocked", seconds=round(silence, 1), where=self.where(), hint=hint)
        elif silence <= _BLOCKED_SECONDS and self._blocked:
            self._blocked = False
            self._log.info("loop.freed")
        if self.is_well:
            self._systemd.alive()
