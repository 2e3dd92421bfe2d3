"""This file is the watchdog: a thread that sees when the loop stands still, says where, and tells systemd.

systemd is told that all is well only while the loop ticks and no part has stood still for long; without a
word from here it restarts the process (WatchdogSec=).
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

_LOOK_SECONDS = 1.0
_BLOCKED_SECONDS = 3.0
"""A loop without a tick for so long is said to be blocked; health turns red later (`LOOP_SECONDS`)."""

_BEYOND_MENDING = 60.0
"""A part that stands still so much longer than allowed was not mended by its restart."""


class Watchdog:
    """Watches the thread that makes it. `clock`: steady seconds."""

    def __init__(
        self,
        liveness: Liveness,
        service: SystemdNotifier,
        log: Log,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._liveness, self._service, self._log, self._clock = liveness, service, log, clock
        self._watched = threading.get_ident()
        self._ended = threading.Event()
        self._blocked = False
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Ends with its current look."""
        self._ended.set()

    @property
    def is_well(self) -> bool:
        """Whether there is hope: the loop ticks, and what stands still may yet be mended by its restart."""
        late = self._liveness.overdue()
        return self._liveness.seconds_since_tick <= LOOP_SECONDS and all(
            one.seconds <= one.allowed + _BEYOND_MENDING for one in late
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
        looked = self._clock()
        while not self._ended.wait(_LOOK_SECONDS):
            now = self._clock()
            if now - looked < 2 * _LOOK_SECONDS:  # else the whole process slept: first its loop goes on
                self._look()
            looked = now

    def _look(self) -> None:
        silence = self._liveness.seconds_since_tick
        if silence > _BLOCKED_SECONDS and not self._blocked:
            self._blocked = True
            hint = "if it lasts, restart the relay; report the place"
            self._log.error("loop.blocked", seconds=round(silence, 1), where=self.where(), hint=hint)
        elif silence <= _BLOCKED_SECONDS and self._blocked:
            self._blocked = False
            self._log.info("loop.freed")
        if self.is_well:
            self._service.alive()
