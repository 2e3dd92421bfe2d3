"""Signals that come before the relay handles them: a reload waits for it, a stop ends the process at once.

Imports nothing that is slow to import: until `hold` is called, SIGHUP would end the process.
"""

import os
import signal


def hold() -> None:
    """From the first moment of `relay run` until `release`. Nothing was begun yet that a stop could cut."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))


def release() -> None:
    """The relay handles them from now on; what waited is delivered."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})
