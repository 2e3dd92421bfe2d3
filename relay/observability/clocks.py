"""Clocks of the machine that the standard library's names do not make plain."""

import time

_UPTIME = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""Linux' alone; elsewhere the monotonic clock is the best there is."""


def uptime() -> float:
    """Steady seconds that also run while the machine is suspended; the loop's time does not."""
    return time.clock_gettime(_UPTIME)
