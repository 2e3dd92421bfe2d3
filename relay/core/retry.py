"""Exponential back-off: the delay after the n-th failure in a row.

Pure: the random number is an argument, so that a test knows every delay.
"""

from dataclasses import dataclass
from itertools import islice

import backoff

_MAX_STEPS = 64
"""The delay no longer grows after this many failures, whatever the settings; this bounds the arithmetic."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """Delays that double from `initial` to `longest` seconds."""

    initial: float
    longest: float

    def full(self, failures: int) -> float:
        """The n-th delay without jitter, in seconds; `failures` counts from 1."""
        steps = backoff.expo(base=2, factor=self.initial, max_value=self.longest)
        next(steps)  # the generator yields None first: it expects to be sent the outcome of a try
        step = min(max(failures, 1), _MAX_STEPS) - 1
        return float(next(islice(steps, step, None)))

    def left(self, attempts: int, holds_for: float) -> float:
        """What is left of a message's back-off, which its row says ends in `holds_for` seconds.

        Nothing where that is longer than any lasts: the clock went back since it was written. Without an
        attempt it is no back-off but what the application asked for.
        """
        return 0.0 if attempts > 0 and holds_for > self.longest else holds_for

    def delay(self, failures: int, chance: float) -> float:
        """Between half of the n-th delay and all of it, also at the cap; `chance` in [0, 1)."""
        return self.full(failures) * (0.5 + 0.5 * chance)
