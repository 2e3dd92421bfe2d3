"""What is shown over time: what is unknown is not zero, and of a tenant nothing recorded is nothing done."""

from datetime import UTC, datetime, timedelta

import pytest

from relay.core.activity import EVERYONE, Activity, ActivityKey, bucket_of
from relay.core.model import DocumentName, Draft, TenantId
from relay.reports.activity import DAY, HOUR, read_activity
from relay.reports.times import measured
from tests.support.memory import MemoryOutbox

ACME, GLOBEX = TenantId("ACME_PRD"), TenantId("GLOBEX_TST")
NOW = datetime(2026, 3, 1, 12, 0, 30, tzinfo=UTC)
START = int(NOW.timestamp()) - 30


def store() -> MemoryOutbox:
    return MemoryOutbox(NOW.timestamp)


async def recorded(**delivered_by_minute: dict[int, int]) -> MemoryOutbox:
    """By tenant (`everyone`: all), how many were delivered in the minute so far back."""
    outbox = store()
    names = {"acme": ACME, "globex": GLOBEX, "everyone": EVERYONE}
    await outbox.record_activity(
        {
            ActivityKey("a", HOUR.span, START - 60 * back, names[name]): Activity(delivered=count)
            for name, minutes in delivered_by_minute.items()
            for back, count in minutes.items()
        }
    )
    return outbox


@pytest.mark.parametrize("over", [HOUR, DAY])
async def test_of_an_outbox_where_nothing_was_recorded_nothing_is_known(over):
    series = await read_activity(store(), EVERYONE, over, NOW)
    assert not series.is_known
    assert {activity for _, activity in series.steps} == {None}
    assert series.total == Activity()
    assert series.queued == series.answered == [None, None, None]


async def test_the_hour_has_sixty_minutes_and_ends_with_the_one_that_is_not_over():
    outbox = await recorded(everyone={0: 5, 59: 7, 60: 100})
    series = await read_activity(outbox, EVERYONE, HOUR, NOW)
    assert len(series.steps) == 60
    assert [step for step in series.steps if step[1] is not None] == [
        (START - 59 * 60, Activity(delivered=7)),
        (START, Activity(delivered=5)),
    ]
    assert (series.total.delivered, series.unknown) == (12, 58)


async def test_the_day_has_ninety_six_quarters():
    starts = DAY.starts(NOW)
    assert len(starts) == 96
    assert (starts[0], starts[-1]) == (START - 95 * 900, START)


async def test_a_minute_that_is_not_recorded_yet_is_left_out_and_not_called_unknown():
    series = await read_activity(await recorded(everyone={1: 5}), EVERYONE, HOUR, NOW)
    assert series.steps[-1] == (START - 60, Activity(delivered=5))
    assert series.unknown == 58


async def test_a_tenant_without_anything_was_idle_while_a_relay_recorded_and_is_unknown_otherwise():
    outbox = await recorded(everyone={1: 5, 3: 5}, acme={1: 5})
    series = await read_activity(outbox, ACME, HOUR, NOW)
    assert [activity for _, activity in series.steps[-3:]] == [Activity(), None, Activity(delivered=5)]
    other = await read_activity(outbox, GLOBEX, HOUR, NOW)
    assert [activity for _, activity in other.steps[-3:]] == [Activity(), None, Activity()]


async def test_a_paused_tenant_delivers_nothing_and_has_messages_waiting():
    outbox = await recorded(everyone={0: 0})
    outbox.insert(Draft(ACME, DocumentName("Sync.SalesOrder"), b"x"))
    await outbox.record_waiting(NOW.timestamp())
    assert (await read_activity(outbox, ACME, HOUR, NOW)).steps[-1][1] == Activity(waiting=1)
    assert (await read_activity(outbox, GLOBEX, HOUR, NOW)).steps[-1][1] == Activity(waiting=0)
    assert (await read_activity(outbox, EVERYONE, HOUR, NOW)).steps[-1][1] == Activity(waiting=1)


async def test_what_nobody_looked_at_is_not_zero_messages_waiting():
    series = await read_activity(await recorded(everyone={0: 1}, acme={0: 1}), ACME, HOUR, NOW)
    assert series.steps[-1][1] == Activity(delivered=1, waiting=None)


async def test_what_a_clock_recorded_that_was_ahead_is_not_shown_before_its_time():
    outbox = await recorded(everyone={-5: 100, 1: 1})
    assert (await read_activity(outbox, EVERYONE, HOUR, NOW)).total.delivered == 1
    later = await read_activity(outbox, EVERYONE, HOUR, NOW + timedelta(minutes=5))
    assert later.total.delivered == 101


async def test_percentiles_are_those_of_all_steps_together():
    outbox = store()
    for back in range(3):
        durations = {bucket_of(0.1): 30, bucket_of(2.0): 3, bucket_of(60.0): 1}
        one = Activity(34, 0, 0, None, durations, {bucket_of(0.02): 34})
        await outbox.record_activity({ActivityKey("a", HOUR.span, START - 60 * back, EVERYONE): one})
    series = await read_activity(outbox, EVERYONE, HOUR, NOW)
    assert list(series.queued) == pytest.approx([0.1, 2.0, 60.0], rel=0.1)
    assert list(series.answered) == pytest.approx([0.02] * 3, rel=0.1)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, ""),
        (0.0, "1 ms"),
        (0.0234, "23 ms"),
        (0.2351, "240 ms"),
        (0.994, "990 ms"),
        (0.996, "1.0 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.4, "59 s"),
        (300.0, "5 min"),
        (100 * 86400.0, "100 days"),
    ],
)
def test_a_measured_duration_has_the_digits_that_are_known(seconds, text):
    assert measured(seconds) == text
