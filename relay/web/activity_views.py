"""The charts of what was delivered, refused and waiting over time; also alone, for a page that is open."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from relay.core.activity import EVERYONE
from relay.core.model import TenantId
from relay.core.ports import StoreError
from relay.reports.activity import HOUR, RANGES, ActivitySeries, Range, read_activity
from relay.reports.chart import Chart, chart_of, sparkline
from relay.web.store_access import StoreAccess


@dataclass(frozen=True, slots=True)
class Sparkline:
    """What was delivered in the last hour: the path of its bars, and the number."""

    path: str
    delivered: int


@dataclass(frozen=True, slots=True)
class ActivityView:
    """What the template shows. `links`: (range, address). `source`: the address of the chart alone.

    `error`: why there is no series; else empty.
    """

    range: Range
    links: Sequence[tuple[Range, str]]
    source: str
    series: ActivitySeries | None
    chart: Chart | None
    error: str = ""


class ActivityViews:
    """Reads what the relays have recorded. The rest of a page is shown though that fails."""

    def __init__(self, access: StoreAccess) -> None:
        self._access = access

    async def view(self, query: Mapping[str, Any], tenant: TenantId = EVERYONE) -> ActivityView:
        """The chart for a tenant, or for all, over the range that the query string names."""
        over = next((one for one in RANGES if one.name == query.get("range")), HOUR)
        kept = "all&" if "all" in query else ""
        links = [(one, f"?{kept}range={one.name}#activity-title") for one in RANGES]
        source = f"/activity{'/' if tenant else ''}{tenant}?range={over.name}"
        try:
            series = await read_activity(await self._access.store(), tenant, over, datetime.now(UTC))
        except StoreError as error:
            return ActivityView(over, links, source, None, None, str(error))
        return ActivityView(over, links, source, series, chart_of(series))

    async def sparklines(self, tenants: Sequence[TenantId]) -> Mapping[TenantId, Sparkline]:
        """Of the tenants for which something was delivered in the last hour."""
        starts = HOUR.starts(datetime.now(UTC))
        try:
            found = await (await self._access.store()).deliveries(HOUR.span, starts, tenants)
        except StoreError:  # the chart of the same page says why
            return {}
        return {
            tenant: Sparkline(sparkline([counts.get(start, 0) for start in starts]), sum(counts.values()))
            for tenant, counts in found.items()
        }

    @staticmethod
    def tenant_of(request: web.Request) -> TenantId:
        """The tenant that the path names; EVERYONE where it names none."""
        return TenantId(request.match_info.get("tenant", EVERYONE).upper())
