"""Counts by time: they add up, and their percentiles are exact to a tenth."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.core.activity import (
    LAST_BUCKET,
    MINUTES,
    QUARTERS,
    Activity,
    added,
    bucket_of,
    combined,
    percentile,
    seconds_of,
)

DAY = 86400.0


def counted(durations):
    return added([{bucket_of(seconds): 1} for seconds in durations])


def test_a_stretch_begins_at_a_full_minute_or_quarter():
    at = 1_800_000_000.0 - 0.001
    assert (MINUTES.start(at), QUARTERS.start(at)) == (1_799_999_940, 1_799_999_100)
    assert QUARTERS.start(1_800_000_000.0) == 1_800_000_000


def test_a_day_of_quarters_and_an_hour_of_minutes_are_kept():
    assert MINUTES.kept > 3600 + 60
    assert QUARTERS.kept > DAY + 900


@given(st.floats(min_value=0.001, max_value=12 * DAY))
def test_a_bucket_is_exact_to_a_tenth(seconds):
    assert seconds_of(bucket_of(seconds)) == pytest.approx(seconds, rel=0.1)


@pytest.mark.parametrize("seconds", [0.0, -5.0, 0.001, 1e-9])
def test_a_duration_up_to_a_millisecond_or_below_zero_is_in_the_first_bucket(seconds):
    assert bucket_of(seconds) == 0
    assert seconds_of(0) == 0.001


@pytest.mark.parametrize("seconds", [13 * DAY, 1e300])
def test_a_duration_beyond_all_buckets_is_in_the_last(seconds):
    assert bucket_of(seconds) == LAST_BUCKET


@given(st.lists(st.floats(min_value=0.001, max_value=DAY), min_size=1), st.sampled_from([0.5, 0.95, 0.99]))
def test_a_percentile_is_that_of_the_sorted_durations_to_a_tenth(durations, share):
    rank = next(n for n in range(1, len(durations) + 1) if n >= share * len(durations) - 1e-9)
    assert percentile(counted(durations), share) == pytest.approx(sorted(durations)[rank - 1], rel=0.1)


def test_there_is_no_percentile_of_nothing():
    assert percentile({}, 0.5) is None
    assert percentile({7: 0}, 0.5) is None


@given(st.lists(st.lists(st.floats(min_value=0.0, max_value=DAY))))
def test_durations_of_several_processes_add_up(groups):
    assert added(counted(group) for group in groups) == counted(one for group in groups for one in group)


def test_counts_add_up_and_of_what_waits_the_most_is_kept():
    found = combined(
        [Activity(1, 2, 3, None, {4: 1}, {5: 2}), Activity(10, 20, 30, 7, {4: 1}, {}), Activity(waiting=9)]
    )
    assert found == Activity(11, 22, 33, 9, {4: 2}, {5: 2})
    assert found.refused == 55


def test_nothing_combined_is_zero_and_nobody_looked_what_waits():
    assert combined([]) == Activity()
    assert combined([Activity()]).waiting is None


def test_a_billion_messages_are_counted_exactly():
    many = Activity(10**9, 10**9, 10**9, 10**9, {3: 10**9}, {3: 10**9})
    assert combined([many, many]).delivered == 2 * 10**9
    assert percentile(many.queued, 0.99) == seconds_of(3)
