"""Counts what each tenant's worker delivers, by minute and quarter of an hour, until the outbox has it.

A delivery costs some additions here: no lock, no clock, no write. Clocks are arguments, seconds since 1970.
"""

from collections import defaultdict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from relay.core.activity import (
    EVERYONE,
    SPANS,
    Activity,
    ActivityKey,
    bucket_of,
    combined,
)
from relay.core.model import TenantId


def _no_durations() -> defaultdict[int, int]:
    return defaultdict(int)


@dataclass(slots=True)
class ActivityTally:
    """What happened since it was last collected."""

    delivered: int = 0
    failed: int = 0
    parked: int = 0
    queued: defaultdict[int, int] = field(default_factory=_no_durations)
    answered: defaultdict[int, int] = field(default_factory=_no_durations)

    def add_delivery(self, seconds: float) -> None:
        """ION took a message, `seconds` after it was enqueued."""
        self.delivered += 1
        self.queued[bucket_of(seconds)] += 1

    def add_answer(self, seconds: float) -> None:
        """ION answered a post after so long."""
        self.answered[bucket_of(seconds)] += 1

    def take(self) -> "ActivityTally":
        """The counts; they begin anew."""
        taken = ActivityTally(self.delivered, self.failed, self.parked, self.queued, self.answered)
        self.delivered = self.failed = self.parked = 0
        self.queued, self.answered = _no_durations(), _no_durations()
        return taken

    def activity(self) -> Activity:
        """The counts as a value."""
        queued, answered = dict(self.queued), dict(self.answered)
        return Activity(self.delivered, self.failed, self.parked, None, queued, answered)

    def __bool__(self) -> bool:
        return bool(self.delivered or self.failed or self.parked or self.answered)


class ActivityLedger:
    """The counts of one process, used by its loop alone. `process`: a name that no other process ever has."""

    def __init__(self, process: str) -> None:
        self._process, self._steps_back = process, 0
        self._tallies: defaultdict[TenantId, ActivityTally] = defaultdict(ActivityTally)
        self._taken: deque[tuple[str, float, TenantId, ActivityTally]] = deque()
        """Source, time and tenant of counts that are not merged yet."""
        self._counts: dict[ActivityKey, Activity] = {}
        self._unwritten: set[ActivityKey] = set()
        self._since: float | None = None

    def of(self, tenant: TenantId) -> ActivityTally:
        """Where the tenant's worker counts."""
        return self._tallies[tenant]

    def collect(self, now: float) -> None:
        """Assign what was counted since the last call to the time of that call; the first call begins.

        Called at each full minute and in between. After the clock was set back the counts have another
        source: those of the time that comes again are in the outbox already, and must not be replaced.
        """
        since, self._since = self._since, now
        if since is not None:
            source = self._source
            self._taken.extend(
                (source, since, tenant, tally.take()) for tenant, tally in self._tallies.items() if tally
            )
            self._steps_back += now < since
        for span in SPANS:
            key = ActivityKey(self._source, span, span.start(now), EVERYONE)
            if key not in self._counts:
                self._count(key, Activity())
        self._keep(lambda key: key.start > now - key.span.kept)

    @property
    def _source(self) -> str:
        return f"{self._process}-{self._steps_back}"

    def merge(self, limit: int) -> bool:
        """Add what was collected to the counts, of at most so many tenants; whether more is left."""
        for _ in range(min(limit, len(self._taken))):
            source, at, tenant, tally = self._taken.popleft()
            activity = tally.activity()
            for span in SPANS:
                for whose in (tenant, EVERYONE):
                    self._count(ActivityKey(source, span, span.start(at), whose), activity)
        return bool(self._taken)

    def _count(self, key: ActivityKey, activity: Activity) -> None:
        before = self._counts.get(key)
        self._counts[key] = activity if before is None else combined((before, activity))
        self._unwritten.add(key)

    def unwritten(self) -> Mapping[ActivityKey, Activity]:
        """The counts that changed since they were written."""
        return {key: self._counts[key] for key in self._unwritten}

    def written(self) -> None:
        """What `unwritten` returned is in the outbox; counts that can no longer change are forgotten."""
        self._unwritten.clear()
        now = self._since or 0.0
        self._keep(lambda key: key.start == key.span.start(now))

    def _keep(self, is_kept: Callable[[ActivityKey], bool]) -> None:
        self._counts = {key: one for key, one in self._counts.items() if is_kept(key)}
        self._unwritten &= self._counts.keys()
