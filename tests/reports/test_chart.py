"""The geometry of the charts: bars in their places, a scale that fits, and gaps for what is unknown."""

from datetime import UTC, datetime
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.core.activity import Activity
from relay.reports.activity import DAY, HOUR, ActivitySeries
from relay.reports.chart import HEIGHT, LEAST, TOP, chart_of, gaps, panel, scale, sparkline

NOON = datetime(2026, 3, 1, 12, 0, 30, tzinfo=UTC)


def series(*activities, over=HOUR, now=NOON):
    """The last steps are these; None before."""
    starts = over.starts(now)
    padded = [None] * (over.count - len(activities)) + list(activities)
    return ActivitySeries(over, list(zip(starts, padded, strict=True)))


counts = st.none() | st.integers(0, 10**9)


@given(st.integers(0, 10**12))
def test_the_scale_ends_with_a_round_number_that_is_not_much_more(most):
    top = scale(most)
    assert str(top).rstrip("0") in set("1234568")
    assert most <= top <= max(2 * most, 1)


@pytest.mark.parametrize(
    ("most", "top"), [(0, 1), (1, 1), (3, 3), (7, 8), (9, 10), (10, 10), (11, 20), (10**9, 10**9)]
)
def test_scales(most, top):
    assert scale(most) == top


@given(st.lists(st.tuples(counts, st.integers(0, 10**9)), max_size=60))
def test_every_bar_is_inside_and_stands_on_what_is_below(values):
    lower, upper = [low for low, _ in values], [high for _, high in values]
    found = panel(lower, 60, upper)
    base = TOP + HEIGHT
    assert [bar.x for bar in found.bars] == sorted({bar.x for bar in found.bars})
    for bar in [*found.bars, *found.upper]:
        assert 0 <= bar.x <= bar.x + bar.width <= 100
        assert LEAST <= bar.height <= HEIGHT
        assert TOP - 0.02 <= bar.y <= bar.y + bar.height <= base + 0.02
    feet = {bar.x: bar.y for bar in found.bars}
    assert all(abs(bar.y + bar.height - feet.get(bar.x, base)) < 0.02 for bar in found.upper)
    assert len(found.bars) == sum(bool(low) for low in lower)
    assert len(found.upper) == sum(bool(high) for high in upper)


@given(st.lists(counts, min_size=1, max_size=96))
def test_gaps_cover_what_is_unknown_and_nothing_else(values):
    found = gaps(values, 96)
    covered = {round(gap.x * 96 / 100) + step for gap in found for step in range(round(gap.width * 96 / 100))}
    assert covered == {slot for slot, value in enumerate(values) if value is None}
    for gap, after in pairwise(found):
        assert gap.x + gap.width < after.x


def test_a_bar_has_the_height_of_its_share_of_the_scale():
    found = panel([0, 5, 10], 4)
    assert found.top == 10
    assert [(bar.x, bar.width, bar.y, bar.height) for bar in found.bars] == [
        (27.5, 20.0, TOP + HEIGHT / 2, HEIGHT / 2),
        (52.5, 20.0, TOP, HEIGHT),
    ]


def test_one_message_among_a_billion_is_seen():
    found = panel([1, 10**9], 60)
    assert [bar.height for bar in found.bars] == [LEAST, HEIGHT]
    stacked = panel([10**9], 60, [1])
    assert stacked.upper[0].height == LEAST


def test_nothing_at_all_is_a_panel_without_bars_whose_scale_ends_with_one():
    empty = panel([], 60)
    assert (empty.top, empty.bars, empty.upper, empty.gaps) == (1, [], [], [])
    zeros = panel([0] * 60, 60, [0] * 60)
    assert (zeros.top, zeros.bars, zeros.upper, zeros.gaps) == (1, [], [], [])


def test_one_point_is_one_bar_at_the_right_end_and_one_gap_before_it():
    chart = chart_of(series(Activity(3, 2, 1, 4)))
    for one in (chart.delivered, chart.refused, chart.waiting):
        (bar,) = one.bars
        assert bar.x > 98
        (gap,) = one.gaps
        assert (gap.x, gap.has_room) == (0.0, True)
        assert gap.width == pytest.approx(100 * 59 / 60, abs=0.001)
    assert len(chart.refused.upper) == 1
    assert (chart.delivered.top, chart.refused.top, chart.waiting.top) == (3, 3, 4)


def test_a_restart_is_a_gap_between_bars():
    one = Activity(1, 0, 0, 0)
    chart = chart_of(series(one, one, None, None, None, one))
    assert len(chart.delivered.bars) == 3
    assert [round(gap.width * 60 / 100) for gap in chart.delivered.gaps] == [54, 3]
    assert [gap.has_room for gap in chart.delivered.gaps] == [True, False]


def test_waiting_that_nobody_looked_at_is_a_gap_of_that_panel_alone():
    chart = chart_of(series(*[Activity(1)] * 60))
    assert len(chart.delivered.bars) == 60
    assert (chart.delivered.gaps, len(chart.waiting.gaps)) == ([], 1)


def test_the_hour_is_labelled_every_ten_minutes_in_utc():
    chart = chart_of(series())
    assert [tick.text for tick in chart.ticks] == ["11:10", "11:20", "11:30", "11:40", "11:50"]
    assert chart.ticks[0].x == pytest.approx(100 * 9 / 60, abs=0.001)


def test_the_day_is_labelled_every_three_hours_and_midnight_by_its_date():
    chart = chart_of(series(over=DAY))
    texts = [tick.text for tick in chart.ticks]
    assert texts == ["15:00", "18:00", "21:00", "Mar 1", "03:00", "06:00", "09:00"]


@given(st.integers(0, 4 * 10**9))
def test_labels_are_inside_in_order_and_apart(at):
    now = datetime.fromtimestamp(at, UTC)
    for over in (HOUR, DAY):
        places = [tick.x for tick in chart_of(series(over=over, now=now)).ticks]
        assert all(4 <= place <= 96 for place in places)
        assert all(after - before > 10 for before, after in pairwise(places))
        assert len(places) >= 5


def test_a_series_without_steps_has_no_labels():
    assert chart_of(ActivitySeries(HOUR, [])).ticks == ()


def test_a_sparkline_has_a_bar_for_each_count_and_none_for_zeros():
    assert sparkline([]) == sparkline([0, 0]) == ""
    assert sparkline([0, 10, 1]) == "M40.0 20v-20.0h32.0V20zM80.0 20v-2.0h32.0V20z"
