"""This file is how long to wait after the n-th failure in a row.

Pure: chance is handed in, so that a test knows every delay.
"""

from dataclasses import dataclass
from itertools import islice

import backoff

_STEPS = 64
"""Beyond this many failures nothing grows any more, whatever the settings; it bounds the arithmetic."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """Delays that double from `initial` to `longest` seconds."""

    initial: float = 1.0
    longest: float = 300.0

    def full(self, failures: int) -> float:
        """The n-th delay without jitter, in seconds; `failures` counts from 1."""
        steps = backoff.expo(base=2, factor=self.initial, max_value=self.longest)
        next(steps)  # the generator's first value is empty: it waits to be told the outcome of a try
        step = min(max(failures, 1), _STEPS) - 1
        return float(next(islice(steps, step, None)))

    def delay(self, failures: int, chance: float) -> float:
        """Between half the n-th delay and the whole, also at the cap; `chance` in [0, 1)."""
        return self.full(failures) * (0.5 + 0.5 * chance)
