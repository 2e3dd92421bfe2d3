"""How often an outbox is polled: at most a given share of the time is spent on it."""

from collections import deque
from collections.abc import Callable

_COMPARED = 20


class PollRate:
    """The rest after each poll: `times` as long as the quickest of the last polls took.

    The quickest: the others took longer because this process was busy, and a busy relay must not poll less
    often for it.
    """

    def __init__(self, times: float, clock: Callable[[], float]) -> None:
        """`clock`: steady seconds."""
        self._times, self._clock = times, clock
        self._polls = deque[float](maxlen=_COMPARED)
        self._next = clock()

    def polled(self, seconds: float) -> None:
        """A poll is over; it took so long."""
        self._polls.append(seconds)
        self._next = self._clock() + self._times * min(self._polls)

    @property
    def rest(self) -> float:
        """Seconds until the next poll may begin."""
        return max(0.0, self._next - self._clock())
