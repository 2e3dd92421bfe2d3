"""The charts of a page: over which range, with which links, and when the outbox does not answer."""

import time
from typing import Any

import pytest

from relay.core.activity import EVERYONE, MINUTES, Activity, ActivityKey
from relay.core.model import TenantId
from relay.core.ports import StoreError
from relay.web.activity_views import ActivityViews
from tests.support.memory import MemoryOutbox

ACME, GLOBEX = TenantId("ACME_PRD"), TenantId("GLOBEX_TST")


class Access:
    """What `StoreAccess` gives."""

    def __init__(self, outbox: MemoryOutbox) -> None:
        self.outbox = outbox

    async def store(self) -> MemoryOutbox:
        return self.outbox


def views(outbox: MemoryOutbox) -> ActivityViews:
    return ActivityViews(Access(outbox))  # type: ignore[arg-type]  # it needs this method alone


@pytest.mark.parametrize(
    ("query", "shown"),
    [({}, "hour"), ({"range": "hour"}, "hour"), ({"range": "day"}, "day"), ({"range": "<x>"}, "hour")],
)
async def test_the_range_is_the_one_that_is_asked_for_and_else_the_hour(
    query: dict[str, Any], shown: str
) -> None:
    view = await views(MemoryOutbox(time.time)).view(query, ACME)
    assert view.range.name == shown
    assert view.source == f"/activity/ACME_PRD?range={shown}"
    assert [address for _, address in view.links] == [
        "?range=hour#activity-title",
        "?range=day#activity-title",
    ]


async def test_links_of_the_overview_keep_that_all_tenants_are_shown() -> None:
    view = await views(MemoryOutbox(time.time)).view({"all": ""})
    assert view.source == "/activity?range=hour"
    assert [address for _, address in view.links] == [
        "?all&range=hour#activity-title",
        "?all&range=day#activity-title",
    ]


async def test_an_outbox_that_does_not_answer_leaves_the_rest_of_the_page() -> None:
    outbox = MemoryOutbox(time.time)
    outbox.broken = StoreError("permission denied for table relay_activity")
    view = await views(outbox).view({})
    assert (view.series, view.chart, view.error) == (None, None, "permission denied for table relay_activity")
    assert await views(outbox).sparklines([ACME]) == {}


async def test_a_sparkline_has_what_was_delivered_in_the_last_hour() -> None:
    outbox, now = MemoryOutbox(time.time), MINUTES.start(time.time())
    counts = {-50: 4, -10: 3, -100: 9}
    await outbox.record_activity(
        {
            ActivityKey("a", MINUTES, now + 60 * minute, tenant): Activity(delivered=count)
            for minute, count in counts.items()
            for tenant in (ACME, EVERYONE)
        }
    )
    lines = await views(outbox).sparklines([ACME, GLOBEX])
    assert list(lines) == [ACME]
    assert lines[ACME].delivered == 7
    assert lines[ACME].path.count("M") == 2
