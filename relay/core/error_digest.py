"""Aggregation of repeated errors: one line when an incident opens, summaries while it lasts, one at its end.

Pure: `now` (seconds of any monotonic clock) is an argument, and the result is the lines to log. An incident
lasts from the first error until `resolved`; errors of several kinds in that time are one incident.
"""

from collections import deque
from dataclasses import dataclass

_MAX_OPENINGS = 5
"""Openings reported at once within one summary period; the timer reports further ones, so that an incident
that opens and resolves every second does not flood the log either."""


@dataclass(frozen=True, slots=True)
class Opened:
    """The first error of a kind; later ones of the same kind are only counted."""

    kind: str
    detail: str


@dataclass(frozen=True, slots=True)
class Ongoing:
    """Errors of one kind since its last line: `count` (may be 0), and `total` in this incident.

    `first` and `last` are samples: the first error of this kind in the incident, and the latest. `seconds`:
    the incident's duration so far.
    """

    kind: str
    count: int
    total: int
    first: str
    last: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Resolved:
    """The end of an incident: its duration, its number of errors, their kinds, and the last sample."""

    seconds: float
    count: int
    kinds: tuple[str, ...]
    last: str


Line = Opened | Ongoing | Resolved


@dataclass(slots=True)
class _Kind:
    unreported: int
    total: int
    first: str
    last: str


@dataclass(slots=True)
class _Incident:
    began: float
    kinds: dict[str, _Kind]
    latest: str
    is_reported: bool = False
    ended: float | None = None
    """Set where the incident ended before any line reported it: the timer will."""


class ErrorDigest:
    """Aggregates the errors of one tenant. `next_tick`: when `tick` must be called next, or None."""

    def __init__(self, summary_seconds: float) -> None:
        self._period = summary_seconds
        self._openings: deque[float] = deque(maxlen=_MAX_OPENINGS)
        self._incident: _Incident | None = None
        self.next_tick: float | None = None

    @property
    def open(self) -> bool:
        """Whether an incident is open."""
        return self._incident is not None and self._incident.ended is None

    def report(self, now: float, kind: str, detail: str) -> tuple[Line, ...]:
        """Record an error. Only the first of its kind in this incident gives a line."""
        incident = self._incident
        if incident is None:
            incident = self._incident = _Incident(now, {}, kind)
            self.next_tick = now + self._period
        incident.ended, incident.latest = None, kind
        known = incident.kinds.get(kind)
        if known is not None:
            known.unreported, known.total, known.last = known.unreported + 1, known.total + 1, detail
            return ()
        at_once = self._may_open(now)
        incident.kinds[kind] = _Kind(0 if at_once else 1, 1, detail, detail)
        if not at_once:
            return ()
        incident.is_reported = True
        self._openings.append(now)
        return (Opened(kind, detail),)

    def tick(self, now: float) -> tuple[Line, ...]:
        """Summarise every kind with new errors; an incident without any is still reported as ongoing."""
        incident = self._incident
        if incident is None or self.next_tick is None or now < self.next_tick:
            return ()
        lines: tuple[Line, ...] = tuple(
            _summarise(incident, kind, now) for kind, known in incident.kinds.items() if known.unreported
        )
        if incident.ended is not None:
            return lines + self._close(incident, incident.ended)
        incident.is_reported = True
        self.next_tick = max(self.next_tick + self._period, now)
        return lines or (_summarise(incident, incident.latest, now),)

    def resolved(self, now: float) -> tuple[Line, ...]:
        """End the incident: one line for all of it; none where none was open."""
        incident = self._incident
        if incident is None or incident.ended is not None:
            return ()
        if not incident.is_reported:
            incident.ended = now
            return ()
        return self._close(incident, now)

    def _may_open(self, now: float) -> bool:
        return len(self._openings) < _MAX_OPENINGS or now - self._openings[0] >= self._period

    def _close(self, incident: _Incident, at: float) -> tuple[Line, ...]:
        self._incident = self.next_tick = None
        count = sum(known.total for known in incident.kinds.values())
        last = incident.kinds[incident.latest].last
        return (Resolved(at - incident.began, count, tuple(incident.kinds), last),)


def _summarise(incident: _Incident, kind: str, now: float) -> Ongoing:
    known = incident.kinds[kind]
    count, known.unreported = known.unreported, 0
    seconds = (now if incident.ended is None else incident.ended) - incident.began
    return Ongoing(kind, count, known.total, known.first, known.last, seconds)
