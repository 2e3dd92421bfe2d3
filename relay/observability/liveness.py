"""This file is how alive the process is: its loop's tick, and what its parts are at, and since when.

The relay's loop writes it; the watchdog's thread and the web thread read it. A part that begins something
says how long that may take; one that waits for work says nothing and is never late.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

LOOP = "the relay's loop"
LOOP_SECONDS = 10.0
"""A loop that has not ticked for so long stands still."""


def worker_of(tenant: str) -> str:
    """The name of the part that carries this tenant's messages."""
    return f"tenant {tenant}"


@dataclass(frozen=True, slots=True)
class Overdue:
    """A part that stands still: for so many seconds, of which so many were allowed."""

    part: str
    seconds: float
    allowed: float

    def __str__(self) -> str:
        return f"{self.part} stands still for {self.seconds:.0f} s"


class Liveness:
    """One for the process. `clock`: steady seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._ticked = clock()
        self._steps: dict[str, tuple[float, float]] = {}
        self._moved: dict[str, float] = {}
        self.lag = 0.0
        """By how much the loop's last tick came too late."""

    def tick(self, lag: float = 0.0) -> None:
        """The loop goes round."""
        self._ticked, self.lag = self._clock(), lag

    def begin(self, part: str, allowed: float) -> None:
        """The part begins something, or has got on with it: it takes at most so long from now on."""
        self._moved[part] = now = self._clock()
        self._steps[part] = (now, allowed)

    def rest(self, part: str) -> None:
        """The part has nothing to do, or waits for something that may take any time."""
        self._moved[part] = self._clock()
        self._steps.pop(part, None)

    def part(self, name: str, allowed: float) -> "Component":
        """A part whose every step may take so long."""
        return Component(self, name, allowed)

    def still(self, part: str) -> float | None:
        """Seconds since the part began or ended a step; None: it never did."""
        moved = self._moved.get(part)
        return None if moved is None else self._clock() - moved

    @property
    def silence(self) -> float:
        """Seconds since the loop's last tick."""
        return self._clock() - self._ticked

    def late(self, spare: float = 0.0) -> list[Overdue]:
        """What stands still, `spare` seconds beyond what it may; the loop first: all else needs it."""
        now = self._clock()
        found = [
            Overdue(part, now - began, allowed)
            for part, (began, allowed) in self._steps.copy().items()
            if now - began > allowed + spare
        ]
        silence = now - self._ticked
        return [Overdue(LOOP, silence, LOOP_SECONDS), *found] if silence > LOOP_SECONDS else found


@dataclass(frozen=True, slots=True)
class Component:
    """One part's own view of the pulse."""

    liveness: Liveness
    name: str
    allowed: float

    def begin(self) -> None:
        """It begins a step, or has got on with one."""
        self.liveness.begin(self.name, self.allowed)

    def rest(self) -> None:
        """It has nothing to do, or waits for something that may take any time."""
        self.liveness.rest(self.name)
