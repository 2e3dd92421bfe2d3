"""Holders of leases whose heartbeat lies in the future: the database's clock went back.

Their `until` says nothing any more. A renewal shows that a holder is alive: one that did not renew for as
long as its lease lasts, by the clock of whoever watches it, has ended, or has stopped posting.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class AheadHolder:
    """A holder whose heartbeat would end later than it can last. `seconds`: how long it lasts."""

    token: str
    relay: str
    until: datetime
    seconds: float


class LateHolders:
    """What one process saw of them. `clock`: steady seconds, also while the machine is suspended."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._since: dict[AheadHolder, float] = {}
        self.ended: frozenset[AheadHolder] = frozenset()
        """Those that did not renew in time."""

    def asked(self) -> float:
        """To be called before the database is asked, for `seen`."""
        return self._clock()

    def seen(self, holders: Iterable[AheadHolder], asked: float) -> None:
        """All that are ahead now. Who renewed since is another one, or none of them."""
        answered = self._clock()
        self._since = {one: self._since.get(one, answered) for one in holders}
        self.ended = frozenset(one for one, since in self._since.items() if asked - since >= one.seconds)
