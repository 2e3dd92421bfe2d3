"""The delay after the n-th failure in a row."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.core.retry import Schedule

failures = st.integers(min_value=0, max_value=10**9)
chances = st.floats(min_value=0, max_value=1, exclude_max=True)


@pytest.mark.parametrize(
    ("n", "full"), [(0, 1), (1, 1), (2, 2), (3, 4), (8, 128), (9, 256), (10, 300), (11, 300), (10**9, 300)]
)
def test_delays_double_up_to_the_longest(n, full):
    assert Schedule(1, 300).full(n) == full


@given(failures, chances)
def test_jitter_stays_between_half_and_whole_also_at_the_cap(n, chance):
    schedule = Schedule(1, 300)
    assert schedule.full(n) / 2 <= schedule.delay(n, chance) <= schedule.full(n)


def test_jitter_survives_the_cap():
    schedule = Schedule(1, 300)
    assert schedule.delay(50, 0.0) == 150
    assert schedule.delay(50, 0.5) == 225


@given(st.integers(1, 10**6), chances)
def test_more_failures_never_wait_less(n, chance):
    schedule = Schedule(0.5, 77)
    assert schedule.delay(n + 1, chance) >= schedule.delay(n, chance)


@given(failures)
def test_an_initial_delay_beyond_the_longest_is_capped(n):
    assert Schedule(60, 10).full(n) == 10


def test_a_back_off_that_is_longer_than_any_lasts_has_ended():
    """The store's clock went back since it was written; what an application asked for is never cut short."""
    schedule = Schedule(1, 300)
    assert [schedule.left(1, seconds) for seconds in (0.0, 299.9, 300.0, 300.1, 3600.0)] == [
        *(0.0, 299.9, 300.0),
        *(0.0, 0.0),
    ]
    assert schedule.left(0, 86400.0) == 86400.0
