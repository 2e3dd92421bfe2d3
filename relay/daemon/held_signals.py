"""Signals that come before the relay handles them: a reload waits for it, a stop ends the process at once.

Imports nothing that is slow to import: until `hold` is called, SIGHUP would end the process, and until
`end_on_interrupt` is called, Ctrl-C would print a traceback.
"""

import os
import signal

_INTERRUPTED = 130
"""The exit code after Ctrl-C, as everywhere."""


def hold() -> None:
    """From the first moment of `relay run` until `release`. Nothing was begun yet that a stop could cut."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    end_on_interrupt()


def release() -> None:
    """The relay handles them from now on; what waited is delivered."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})


def end_on_interrupt() -> None:
    """Ctrl-C ends the process at once and silently, until `raise_on_interrupt`: nothing was begun yet."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _end_interrupted)


def raise_on_interrupt() -> None:
    """Ctrl-C raises KeyboardInterrupt from now on, which whoever is interrupted handles."""
    if signal.getsignal(signal.SIGINT) is _end_interrupted:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _end_interrupted(*_: object) -> None:
    os._exit(_INTERRUPTED)
