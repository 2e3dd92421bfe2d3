"""How many tokens remain of a daily quota, as far as this process knows.

Token services count requests (on one licence tier 100 tokens a client and day), but none reports how many
remain. Requests of other processes, and of this one before its start, are not known here: Prometheus adds
them up.
"""

from collections import deque
from collections.abc import Iterable

_DAY = 86400.0


class TokenQuota:
    """No source says when the service's day begins: any 24 hours count. Instants are steady seconds."""

    def __init__(self, a_day: int, requests: Iterable[float]) -> None:
        """`requests`: when tokens were requested before."""
        self._a_day = a_day
        self.requests = deque(requests, maxlen=a_day)

    def count(self, now: float) -> None:
        """A token is requested."""
        self.requests.append(now)

    def remaining(self, now: float) -> int:
        """How many may still be requested; never less than 0."""
        while self.requests and self.requests[0] <= now - _DAY:
            self.requests.popleft()
        return self._a_day - len(self.requests)
