"""What was delivered, refused and waiting in a stretch of time, and how long it took: counts that add up.

Durations are counted in buckets whose edges grow by a fixed factor: those of several relay processes, and of
several minutes, are added bucket by bucket, and a percentile of the sum is exact to half a bucket's width.
"""

import math
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from relay.core.model import TenantId

EVERYONE = TenantId("")
"""All tenants together. A stretch of time without a row of it was recorded by nobody: unknown, not zero."""

_PER_DOUBLING = 4
_FIRST_SECONDS = 0.001
LAST_BUCKET = 30 * _PER_DOUBLING
"""Twelve days and longer."""

_EDGES = tuple(_FIRST_SECONDS * 2.0 ** (bucket / _PER_DOUBLING) for bucket in range(LAST_BUCKET))

Durations = Mapping[int, int]
"""How many durations lie in each bucket."""


class Span(NamedTuple):
    """A resolution: the length of a stretch of time, and how long its counts are kept, in seconds."""

    seconds: int
    kept: int

    def start(self, at: float) -> int:
        """When the stretch that holds this moment began; moments are seconds since 1970, UTC."""
        return math.floor(at / self.seconds) * self.seconds


MINUTES = Span(60, 2 * 3600)
QUARTERS = Span(15 * 60, 26 * 3600)
SPANS = (MINUTES, QUARTERS)

FUTURE_SECONDS = 3600
"""Counts that lie farther ahead were recorded by a clock that went back since; they are deleted."""


@dataclass(frozen=True, slots=True)
class Activity:
    """What happened in a stretch of time. `failed`: tries after which the message waits again.

    `waiting`: the most messages that were seen waiting; None: nobody looked. `queued`: from enqueueing (or an
    operator's retry) to ION's answer, of what was delivered. `answered`: how long ION took to answer a post,
    whatever the answer was.
    """

    delivered: int = 0
    failed: int = 0
    parked: int = 0
    waiting: int | None = None
    queued: Durations = field(default_factory=dict[int, int])
    answered: Durations = field(default_factory=dict[int, int])

    @property
    def refused(self) -> int:
        """Failed tries and parked messages."""
        return self.failed + self.parked


class ActivityKey(NamedTuple):
    """A stretch of time of a tenant, or of EVERYONE, and the process that counted: its `source`.

    A process writes its whole count of the stretch each time: to write it twice changes nothing.
    """

    source: str
    span: Span
    start: int
    tenant: TenantId


class TenantActivity(NamedTuple):
    """What a store has about a stretch of time, of all processes together."""

    start: int
    tenant: TenantId
    activity: Activity


def combined(activities: Iterable[Activity]) -> Activity:
    """Their sum; of what waits, the most."""
    found = list(activities)
    waiting = [one.waiting for one in found if one.waiting is not None]
    return Activity(
        sum(one.delivered for one in found),
        sum(one.failed for one in found),
        sum(one.parked for one in found),
        max(waiting) if waiting else None,
        added(one.queued for one in found),
        added(one.answered for one in found),
    )


def added(durations: Iterable[Durations]) -> Durations:
    """The counts of all of them, bucket by bucket."""
    total: dict[int, int] = {}
    for one in durations:
        for bucket, count in one.items():
            total[bucket] = total.get(bucket, 0) + count
    return total


def bucket_of(seconds: float) -> int:
    """The bucket of a duration: 0 up to a millisecond, also where a clock went back; each four double it."""
    return bisect_left(_EDGES, seconds)


def seconds_of(bucket: int) -> float:
    """The middle of a bucket."""
    if bucket <= 0:
        return _FIRST_SECONDS
    return float(_FIRST_SECONDS * 2.0 ** ((bucket - 0.5) / _PER_DOUBLING))


def percentile(durations: Durations, share: float) -> float | None:
    """The duration, in seconds, that `share` of them do not exceed, within 10 %; None: there are none."""
    left = share * sum(durations.values())
    for bucket, count in sorted(durations.items()):
        left -= count
        if count and left <= 1e-9:
            return seconds_of(bucket)
    return None
