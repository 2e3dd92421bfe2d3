"""Recent delivery rates of each tenant, from the store's counts, as a sparkline.

Pure: the clock is an argument, in seconds.
"""

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from relay.core.admin import Count
from relay.core.model import TenantId

EVERY_SECONDS = 5.0
KEPT = 36
WIDTH, HEIGHT = 96.0, 20.0


@dataclass(frozen=True, slots=True)
class Sparkline:
    """`points`: of an SVG polyline, in a box of WIDTH by HEIGHT; `text`: the newest rate."""

    points: str
    text: str


class DeliveryRates:
    """Samples at least EVERY_SECONDS apart; counts in between are ignored."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._sampled_at: float | None = None
        self._before: Mapping[TenantId, int] = {}
        self._rates: dict[TenantId, deque[float]] = {}

    def record(self, counts: Mapping[TenantId, Count]) -> None:
        """Sample the counts of delivered messages."""
        now = self._clock()
        if self._sampled_at is not None and now - self._sampled_at < EVERY_SECONDS:
            return
        delivered = {tenant: count.delivered for tenant, count in counts.items()}
        if self._sampled_at is not None:
            seconds = now - self._sampled_at
            for tenant, count in delivered.items():
                rate = max(count - self._before.get(tenant, count), 0) / seconds
                line = self._rates.get(tenant)
                if line is None:
                    if rate == 0:
                        continue
                    line = self._rates[tenant] = deque(maxlen=KEPT)
                line.append(rate)
            for tenant in [tenant for tenant, line in self._rates.items() if not any(line)]:
                del self._rates[tenant]
        self._sampled_at, self._before = now, delivered

    def line(self, tenant: TenantId) -> Sparkline | None:
        """None if nothing was delivered recently."""
        rates = self._rates.get(tenant)
        if not rates:
            return None
        highest, step = max(rates), WIDTH / (KEPT - 1)
        first = KEPT - len(rates)
        points = " ".join(
            f"{(first + place) * step:.1f},{HEIGHT - 1 - rate / highest * (HEIGHT - 2):.1f}"
            for place, rate in enumerate(rates)
        )
        return Sparkline(points, f"{rates[-1]:.1f}/s")
