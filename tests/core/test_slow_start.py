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


MIB = 1024 * 1024


def test_after_a_time_out_it_grows_by_one_a_flight_until_it_is_full_once() -> None:
    slow_start = SlowStart(4)
    slow_start.time_out(0)
    sizes = []
    for _ in range(12):
        sizes.append(slow_start.size)
        slow_start.succeed()
    assert sizes == [1, 2, 2, 3, 3, 3, 4, 4, 4, 4, 4, 4]
    slow_start.fail()
    slow_start.succeed()
    slow_start.succeed()
    assert slow_start.size == 4


def test_a_failure_begins_the_flight_anew_also_while_it_grows_slowly() -> None:
    slow_start = SlowStart(8)
    slow_start.time_out(0)
    for _ in range(4):
        slow_start.succeed()
    slow_start.fail()
    sizes = []
    for _ in range(4):
        sizes.append(slow_start.size)
        slow_start.succeed()
    assert sizes == [1, 2, 2, 3]


def test_a_limit_of_one_stays_one() -> None:
    slow_start = SlowStart(1)
    slow_start.time_out(5)
    slow_start.succeed()
    assert (slow_start.size, slow_start.is_full) == (1, True)


def test_a_time_out_halves_the_bytes_in_flight_and_each_delivery_adds_some() -> None:
    slow_start = SlowStart(8)
    assert slow_start.has_room(2**40, 2**40)
    slow_start.time_out(8 * MIB)
    assert slow_start.max_bytes == 4 * MIB
    assert slow_start.has_room(3 * MIB, MIB)
    assert not slow_start.has_room(3 * MIB, MIB + 1)
    assert slow_start.has_room(0, 100 * MIB), "the only one may always be sent"
    slow_start.succeed()
    assert slow_start.max_bytes == 4 * MIB + MIB // 4
    slow_start.time_out(100)
    assert slow_start.max_bytes == MIB // 4
    for _ in range(254):
        slow_start.succeed()
    assert slow_start.max_bytes == 255 * MIB // 4
    slow_start.succeed()
    assert slow_start.max_bytes is None
    slow_start.succeed()
    assert slow_start.max_bytes is None
