"""This file is what is remembered about messages that may themselves be the trouble.

Pure: `now` is an argument. All of it may be lost at a restart; the relay then only parks later.
"""

from collections.abc import Hashable
from dataclasses import dataclass, replace

from relay.core.model import DocumentName, RowId

Lane = Hashable
"""The messages of one ordering key, of the whole tenant, or a single one: see `lanes.py`."""


@dataclass(frozen=True, slots=True)
class CountedAttempts:
    """What is known about a message that may be poison.

    `attempts`: blamed releases before this one. `seconds`: since the first. `delivered_elsewhere`: another
    lane delivered since the first. `alone`: there is no other lane that could.
    """

    attempts: int = 0
    seconds: float = 0.0
    delivered_elsewhere: bool = False
    alone: bool = False


@dataclass(frozen=True, slots=True)
class _First:
    lane: Lane
    at: float
    delivered_elsewhere: bool = False


class PoisonDetector:
    """The messages that were blamed, since when, and whether others got through meanwhile."""

    def __init__(self) -> None:
        self._firsts: dict[RowId, _First] = {}

    def of(self, row: RowId, attempts: int, now: float, *, alone: bool) -> CountedAttempts:
        """What speaks against this message if it fails now."""
        first = self._firsts.get(row)
        if first is None:
            return CountedAttempts(attempts, alone=alone)
        return CountedAttempts(attempts, now - first.at, first.delivered_elsewhere, alone)

    def counted(self, row: RowId, lane: Lane, now: float) -> None:
        """It was released with blame."""
        self._firsts.setdefault(row, _First(lane, now))

    def cleared(self, row: RowId) -> None:
        """It was delivered or parked."""
        self._firsts.pop(row, None)

    def delivered(self, lane: Lane) -> None:
        """This lane delivered: it is not everything that fails."""
        for row, first in self._firsts.items():  # only a few at any time
            if first.lane != lane and not first.delivered_elsewhere:
                self._firsts[row] = replace(first, delivered_elsewhere=True)


class Unready:
    """Documents that are listed as accepted and yet met "not ready": which lanes, how often in a row.

    One lane's refusals hold that lane alone; the whole document is held only when another lane's message
    meets it too.
    """

    def __init__(self) -> None:
        self._met: dict[DocumentName, dict[Lane, int]] = {}

    def met(self, document: DocumentName, lane: Lane) -> tuple[int, bool]:
        """How many times in a row now, and whether the whole document is to be held."""
        lanes = self._met.setdefault(document, {})
        lanes[lane] = lanes.get(lane, 0) + 1
        whole = len(lanes) > 1
        return (max(lanes.values()) if whole else lanes[lane]), whole

    def delivered(self, document: DocumentName) -> None:
        """A message of this document arrived: what was met before is over."""
        self._met.pop(document, None)
