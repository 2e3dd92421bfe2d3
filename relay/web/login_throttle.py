"""Throttling of callers that fail to authenticate too often.

Pure: the time is an argument, in seconds of a monotonic clock.
"""

from collections import OrderedDict, deque

MOST_CALLERS = 10_000
"""Maximum number of callers that are remembered; the one that failed longest ago is removed first."""


class LoginThrottle:
    """At most `most` failures of one caller within `seconds`, then it has to wait."""

    def __init__(self, most: int = 20, seconds: float = 60.0) -> None:
        self._most, self._seconds = most, seconds
        self._times: OrderedDict[str, deque[float]] = OrderedDict()

    def wait(self, caller: str, now: float) -> float:
        """Seconds until this caller may try again; 0: now."""
        times = self._times.get(caller)
        if times is None or len(times) < self._most:
            return 0.0
        return max(0.0, times[0] + self._seconds - now)

    def failed(self, caller: str, now: float) -> None:
        """Record a failure of this caller."""
        times = self._times.setdefault(caller, deque(maxlen=self._most))
        times.append(now)
        self._times.move_to_end(caller)
        if len(self._times) > MOST_CALLERS:
            self._times.popitem(last=False)
