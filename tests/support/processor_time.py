"""An end to work that takes too much of the processor: a test fails by it, instead of never ending."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def at_most_processor_seconds(seconds: float) -> Iterator[None]:
    """AssertionError once this process has worked for so long; also from within a regular expression."""

    def stop(_: int, __: FrameType | None) -> None:
        raise AssertionError(f"it took more than {seconds:g} s of the processor")

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
