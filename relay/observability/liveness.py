"""Liveness: the tick of the relay's loop, and the progress of each component.

Written by the relay's loop, read by the watchdog's thread and the web thread. A component that begins a step
states how long it may take; an idle one is never overdue.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

LOOP = "the relay's loop"
LOOP_SECONDS = 10.0
"""A loop without a tick for longer is stalled."""


def worker_name(tenant: str) -> str:
    """The name of the component that delivers this tenant's messages."""
    return f"tenant {tenant}"


@dataclass(frozen=True, slots=True)
class Overdue:
    """A stalled component: the seconds that its step has taken, and those that it may take."""

    component: str
    seconds: float
    allowed: float

    def __str__(self) -> str:
        return f"{self.component} has been stalled for {self.seconds:.0f} s"


class Liveness:
    """One for the process. `clock`: steady seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._ticked = clock()
        self._steps: dict[str, tuple[float, float]] = {}
        self._progress: dict[str, float] = {}
        self.lag = 0.0
        """By how much the loop's last tick was late."""

    def tick(self, lag: float = 0.0) -> None:
        """The loop is running."""
        self._ticked, self.lag = self._clock(), lag

    def begin(self, component: str, allowed: float) -> None:
        """The component begins a step, or makes progress: at most `allowed` seconds from now on."""
        self._progress[component] = now = self._clock()
        self._steps[component] = (now, allowed)

    def idle(self, component: str) -> None:
        """The component has nothing to do, or waits for something that may take any time."""
        self._progress[component] = self._clock()
        self._steps.pop(component, None)

    def component(self, name: str, allowed: float) -> "Component":
        """A component each step of which may take `allowed` seconds."""
        return Component(self, name, allowed)

    def seconds_since_progress(self, component: str) -> float | None:
        """Seconds since the component began or ended a step; None: it never did."""
        progress = self._progress.get(component)
        return None if progress is None else self._clock() - progress

    @property
    def seconds_since_tick(self) -> float:
        """Seconds since the loop's last tick."""
        return self._clock() - self._ticked

    def overdue(self, grace: float = 0.0) -> list[Overdue]:
        """Components that exceed their time by `grace` seconds; the loop first: all others depend on it."""
        now = self._clock()
        found = [
            Overdue(component, now - began, allowed)
            for component, (began, allowed) in self._steps.copy().items()
            if now - began > allowed + grace
        ]
        silent = now - self._ticked
        return [Overdue(LOOP, silent, LOOP_SECONDS), *found] if silent > LOOP_SECONDS else found


@dataclass(slots=True)
class Component:
    """One component's own view of the liveness. `extra`: seconds that its steps may take longer now."""

    liveness: Liveness
    name: str
    allowed: float
    extra: float = 0.0

    def begin(self) -> None:
        """It begins a step, or makes progress."""
        self.liveness.begin(self.name, self.allowed + self.extra)

    def idle(self) -> None:
        """It has nothing to do, or waits for something that may take any time."""
        self.liveness.idle(self.name)
