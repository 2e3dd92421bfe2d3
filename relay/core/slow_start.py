"""Slow start: how many posts a tenant may have in flight, one after a failure, doubled with each success."""


class SlowStart:
    """The current number of posts in flight, between 1 and `limit`."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.size = 1

    @property
    def is_full(self) -> bool:
        """Whether the limit is reached again."""
        return self.size >= self._limit

    def succeed(self) -> None:
        """A delivery: twice as many."""
        self.size = min(self.size * 2, self._limit)

    def fail(self) -> None:
        """Start with one again."""
        self.size = 1
