"""What was delivered, refused and waiting over the last hour or day, as the outbox has recorded it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

from relay.core.activity import EVERYONE, MINUTES, QUARTERS, Activity, Span, combined, percentile
from relay.core.model import TenantId
from relay.reports.overview import ReportStore

SHARES = (0.5, 0.95, 0.99)
"""The percentiles that are shown."""


@dataclass(frozen=True, slots=True)
class Range:
    """How far back, and in which steps: `count` of `span`. `tick_seconds`: between two labels of the axis."""

    name: str
    words: str
    step_words: str
    span: Span
    count: int
    tick_seconds: int

    def starts(self, now: datetime) -> Sequence[int]:
        """When its steps begin; the last holds `now`."""
        last, step = self.span.start(now.timestamp()), self.span.seconds
        return range(last - (self.count - 1) * step, last + step, step)


HOUR = Range("hour", "last hour", "minute", MINUTES, 60, 600)
DAY = Range("day", "last day", "quarter of an hour", QUARTERS, 96, 3 * 3600)
RANGES = (HOUR, DAY)


@dataclass(frozen=True)
class ActivitySeries:
    """The steps of a range, in their order. None: nobody recorded it, so nothing is known; that is not zero.

    The step of the moment is left out until it is recorded for the first time.
    """

    range: Range
    steps: Sequence[tuple[int, Activity | None]]

    @cached_property
    def total(self) -> Activity:
        """All of it together; of what waits, the most."""
        return combined(activity for _, activity in self.steps if activity is not None)

    @property
    def unknown(self) -> int:
        """How many steps nobody recorded."""
        return sum(activity is None for _, activity in self.steps)

    @property
    def is_known(self) -> bool:
        """Whether anything is recorded at all."""
        return self.unknown < len(self.steps)

    @property
    def queued(self) -> Sequence[float | None]:
        """The percentiles of the time from enqueueing to delivery, in seconds."""
        return [percentile(self.total.queued, share) for share in SHARES]

    @property
    def answered(self) -> Sequence[float | None]:
        """The percentiles of the time that ION took to answer."""
        return [percentile(self.total.answered, share) for share in SHARES]


async def read_activity(store: ReportStore, tenant: TenantId, over: Range, now: datetime) -> ActivitySeries:
    """Of one tenant, or of EVERYONE."""
    starts = over.starts(now)
    found: dict[tuple[int, TenantId], Activity] = {}
    for start, whose, activity in await store.activity(over.span, starts, sorted({EVERYONE, tenant})):
        found[start, whose] = activity
    steps = [
        (start, _known(found.get((start, EVERYONE)), found.get((start, tenant)), tenant)) for start in starts
    ]
    return ActivitySeries(over, steps[:-1] if steps[-1][1] is None else steps)


def _known(everyone: Activity | None, own: Activity | None, tenant: TenantId) -> Activity | None:
    """A tenant of which nothing is recorded, while a relay recorded, had nothing delivered and waiting."""
    if tenant == EVERYONE or everyone is None:
        return own
    looked = 0 if everyone.waiting is not None else None
    return combined([own or Activity(), Activity(waiting=looked)])
