"""The clock of what must hold while the machine is suspended."""

import time

from relay.observability.clocks import uptime


def test_it_counts_the_time_of_a_suspended_machine() -> None:
    before = time.clock_gettime(time.CLOCK_BOOTTIME)
    assert before <= uptime() <= time.clock_gettime(time.CLOCK_BOOTTIME)
