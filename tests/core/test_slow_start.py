"""Slow start: one post after a failure, doubled with each success."""

import pytest

from relay.core.slow_start import SlowStart


@pytest.mark.parametrize("limit", [1, 3, 8])
def test_it_starts_at_one_and_doubles_up_to_the_limit(limit):
    slow_start = SlowStart(limit)
    sizes = [slow_start.size]
    for _ in range(5):
        slow_start.succeed()
        sizes.append(slow_start.size)
    assert sizes == [min(2**n, limit) for n in range(6)]
    assert slow_start.is_full
    slow_start.fail()
    assert (slow_start.size, slow_start.is_full) == (1, limit == 1)
