"""Poison-message detection: which messages fail while others are delivered.

Pure: `now` is an argument. The memory may be lost at a restart; the relay then only parks later.
"""

from collections.abc import Hashable
from dataclasses import dataclass, replace

from relay.core.model import RowId

Lane = Hashable
"""The messages of one ordering key, of the whole tenant, or a single one: see `lanes.py`."""


@dataclass(frozen=True, slots=True)
class CountedAttempts:
    """What is known about a message that may be poison.

    `attempts`: counted before this one. `seconds`: since the first. `delivered_elsewhere`: another lane
    delivered since the first. `alone`: there is no other lane that could.
    """

    attempts: int = 0
    seconds: float = 0.0
    delivered_elsewhere: bool = False
    alone: bool = False


@dataclass(frozen=True, slots=True)
class _FirstAttempt:
    lane: Lane
    at: float
    delivered_elsewhere: bool = False


class PoisonDetector:
    """The messages with counted attempts: since when, and whether another lane delivered meanwhile."""

    def __init__(self) -> None:
        self._first_attempts: dict[RowId, _FirstAttempt] = {}

    def attempts_of(self, row: RowId, attempts: int, now: float, *, alone: bool) -> CountedAttempts:
        """What is known about this message before the attempt that just failed."""
        first = self._first_attempts.get(row)
        if first is None:
            return CountedAttempts(attempts, alone=alone)
        return CountedAttempts(attempts, now - first.at, first.delivered_elsewhere, alone)

    def count(self, row: RowId, lane: Lane, now: float) -> None:
        """It was released, and the attempt was counted."""
        self._first_attempts.setdefault(row, _FirstAttempt(lane, now))

    def forget(self, row: RowId) -> None:
        """It was delivered or parked."""
        self._first_attempts.pop(row, None)

    def delivered(self, lane: Lane) -> None:
        """This lane delivered, so that not everything fails."""
        for row, first in self._first_attempts.items():  # only a few at any time
            if first.lane != lane and not first.delivered_elsewhere:
                self._first_attempts[row] = replace(first, delivered_elsewhere=True)
