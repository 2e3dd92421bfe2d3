"""How many posts, and how many bytes, a tenant may have in flight: what the link and ION have borne so far.

One post after a failure, doubled with each success (slow start). After a time-out the link may have been too
slow for what was in flight: then half as many bytes, and growth by one post a flight, as TCP does (RFC 5681).
"""

_STEP_BYTES = 256 * 1024
"""The bound on bytes grows by so much with each success."""
_UNBOUNDED_BYTES = 64 * 1024 * 1024
"""From here on there is no bound."""


class SlowStart:
    """The current limits: `size` posts, between 1 and `limit`; `max_bytes` of their bodies (None: any)."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._is_additive, self._successes = False, 0
        self.size = 1
        self.max_bytes: int | None = None

    @property
    def is_full(self) -> bool:
        """Whether the limit is reached again."""
        return self.size >= self._limit

    def has_room(self, taken: int, wanted: int) -> bool:
        """Whether a body of `wanted` bytes may be sent beside those of `taken`; the only one always may."""
        return self.max_bytes is None or not taken or taken + wanted <= self.max_bytes

    def succeed(self) -> None:
        """A delivery: twice as many posts; after a time-out one more for each whole flight."""
        if self.max_bytes is not None:
            self.max_bytes += _STEP_BYTES
            if self.max_bytes >= _UNBOUNDED_BYTES:
                self.max_bytes = None
        if not self._is_additive:
            self.size = min(self.size * 2, self._limit)
            return
        self._successes += 1
        if self._successes >= self.size:
            self.size, self._successes = min(self.size + 1, self._limit), 0
        self._is_additive = not self.is_full

    def fail(self) -> None:
        """Start with one again."""
        self.size, self._successes = 1, 0

    def time_out(self, in_flight: int) -> None:
        """Start with one again, and grow slowly; `in_flight` bytes were too many for the link, perhaps."""
        self.fail()
        self._is_additive = self._limit > 1
        self.max_bytes = max(in_flight // 2, _STEP_BYTES)
