"""This file is how many tokens are left of a day's quota, as far as this process knows.

Token services count (on one licence tier 100 tokens a client and day), but none says how many are left. What
other processes asked for, and this one before its start, is not known here: Prometheus adds that up.
"""

from collections import deque
from collections.abc import Iterable

_DAY = 86400.0


class Quota:
    """No source says when the service's day begins: any 24 hours count. Instants are steady seconds."""

    def __init__(self, a_day: int, asked: Iterable[float] = ()) -> None:
        """`asked`: when tokens were asked for before."""
        self._a_day = a_day
        self.asked = deque(asked, maxlen=a_day)

    def ask(self, now: float) -> None:
        """A token is asked for."""
        self.asked.append(now)

    def left(self, now: float) -> int:
        """How many may still be asked for; never less than 0."""
        while self.asked and self.asked[0] <= now - _DAY:
            self.asked.popleft()
        return self._a_day - len(self.asked)
