"""This file is how often an outbox is looked at for news: at most a given share of the time goes into it."""

from collections import deque
from collections.abc import Callable

_COMPARED = 20


class PollRate:
    """The rest after each look: `times` as long as the quickest of the last looks took.

    The quickest: the others took longer because this process was busy, and a busy relay must not look the
    less for it.
    """

    def __init__(self, times: float, clock: Callable[[], float]) -> None:
        """`clock`: steady seconds."""
        self._times, self._clock = times, clock
        self._looks = deque[float](maxlen=_COMPARED)
        self._next = clock()

    def looked(self, seconds: float) -> None:
        """A look is over; it took so long."""
        self._looks.append(seconds)
        self._next = self._clock() + self._times * min(self._looks)

    @property
    def rest(self) -> float:
        """Seconds until the next look may begin."""
        return max(0.0, self._next - self._clock())
