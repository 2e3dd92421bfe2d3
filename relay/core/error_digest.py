"""This file is how a storm of equal errors becomes one line now, summaries later, and one line at the end.

Pure: `now` (seconds of any steady clock) is an argument, and what comes out are the lines to say. A trouble
lasts from the first error until `resolved`; errors of several kinds within it are one trouble.
"""

from collections import deque
from dataclasses import dataclass

_AT_ONCE = 5
"""So many openings within one summary period are said at once; what comes beyond is left to the timer, so
that a trouble which comes and goes every second doesn't flood the log either."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A new kind of error; its equals are only counted from now on."""

    kind: str
    detail: str


@dataclass(frozen=True, slots=True)
class Ongoing:
    """What came of one kind since its last line: `count` (may be 0), `total` in this trouble.

    `first` and `last` are samples: the first error of this kind in the trouble, and the latest. `seconds`:
    how long the trouble has lasted so far.
    """

    kind: str
    count: int
    total: int
    first: str
    last: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Resolved:
    """The trouble is over: how long it lasted, how many errors it brought, their kinds, the last sample."""

    seconds: float
    count: int
    kinds: tuple[str, ...]
    last: str


Line = Opened | Ongoing | Resolved


@dataclass(slots=True)
class _Kind:
    unsaid: int
    total: int
    first: str
    last: str


@dataclass(slots=True)
class _Incident:
    began: float
    kinds: dict[str, _Kind]
    latest: str
    said: bool = False
    ended: float | None = None
    """Set where the trouble ended before any line told of it: the timer will."""


class ErrorDigest:
    """The errors of one tenant, folded. `next_tick` is when `tick` wants to be called next, or None."""

    def __init__(self, summary_seconds: float) -> None:
        self._period = summary_seconds
        self._openings: deque[float] = deque(maxlen=_AT_ONCE)
        self._trouble: _Incident | None = None
        self.next_tick: float | None = None

    @property
    def open(self) -> bool:
        """Whether a trouble lasts now."""
        return self._trouble is not None and self._trouble.ended is None

    def report(self, now: float, kind: str, detail: str) -> tuple[Line, ...]:
        """An error happened. A line only for a kind that is new in this trouble."""
        trouble = self._trouble
        if trouble is None:
            trouble = self._trouble = _Incident(now, {}, kind)
            self.next_tick = now + self._period
        trouble.ended, trouble.latest = None, kind
        known = trouble.kinds.get(kind)
        if known is not None:
            known.unsaid, known.total, known.last = known.unsaid + 1, known.total + 1, detail
            return ()
        at_once = self._may_open(now)
        trouble.kinds[kind] = _Kind(0 if at_once else 1, 1, detail, detail)
        if not at_once:
            return ()
        trouble.said = True
        self._openings.append(now)
        return (Opened(kind, detail),)

    def tick(self, now: float) -> tuple[Line, ...]:
        """The timer: every kind that has news; a trouble without news still says that it lasts."""
        trouble = self._trouble
        if trouble is None or self.next_tick is None or now < self.next_tick:
            return ()
        lines: tuple[Line, ...] = tuple(
            _summary(trouble, kind, now) for kind, known in trouble.kinds.items() if known.unsaid
        )
        if trouble.ended is not None:
            return lines + self._close(trouble, trouble.ended)
        trouble.said = True
        self.next_tick = max(self.next_tick + self._period, now)
        return lines or (_summary(trouble, trouble.latest, now),)

    def resolved(self, now: float) -> tuple[Line, ...]:
        """It works again. One closing line for the whole trouble; none where there was none."""
        trouble = self._trouble
        if trouble is None or trouble.ended is not None:
            return ()
        if not trouble.said:
            trouble.ended = now
            return ()
        return self._close(trouble, now)

    def _may_open(self, now: float) -> bool:
        return len(self._openings) < _AT_ONCE or now - self._openings[0] >= self._period

    def _close(self, trouble: _Incident, at: float) -> tuple[Line, ...]:
        self._trouble = self.next_tick = None
        count = sum(known.total for known in trouble.kinds.values())
        last = trouble.kinds[trouble.latest].last
        return (Resolved(at - trouble.began, count, tuple(trouble.kinds), last),)


def _summary(trouble: _Incident, kind: str, now: float) -> Ongoing:
    known = trouble.kinds[kind]
    count, known.unsaid = known.unsaid, 0
    seconds = (now if trouble.ended is None else trouble.ended) - trouble.began
    return Ongoing(kind, count, known.total, known.first, known.last, seconds)
