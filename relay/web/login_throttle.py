"""This file is who failed too often: callers whose next tries are not even looked at, for a while.

Pure: the time is handed in, as seconds of any steady clock.
"""

from collections import OrderedDict, deque

MOST_CALLERS = 10_000
"""Callers that are remembered; the one that failed longest ago is forgotten first."""


class LoginThrottle:
    """At most `most` failures of one caller within `seconds`, then it has to wait."""

    def __init__(self, most: int = 20, seconds: float = 60.0) -> None:
        self._most, self._seconds = most, seconds
        self._times: OrderedDict[str, deque[float]] = OrderedDict()

    def wait(self, caller: str, now: float) -> float:
        """Seconds until this caller is listened to again; 0: at once."""
        times = self._times.get(caller)
        if times is None or len(times) < self._most:
            return 0.0
        return max(0.0, times[0] + self._seconds - now)

    def failed(self, caller: str, now: float) -> None:
        """It failed once more."""
        times = self._times.setdefault(caller, deque(maxlen=self._most))
        times.append(now)
        self._times.move_to_end(caller)
        if len(self._times) > MOST_CALLERS:
            self._times.popitem(last=False)
