"""The limit of open files: raised at the start, shared by ION, outbox and web, named where it is reached."""

import contextlib
import errno
import os
import resource
from dataclasses import dataclass

_KEPT = 36
"""Descriptors for outbox, log, event loops, and files that are read for a moment."""

_WEB_FRACTION = 8
"""One descriptor in so many is for connections to the page, health and metrics."""

_FEWEST = 4
"""Connections to ION, and to the page, however low the limit is."""


@dataclass(frozen=True, slots=True)
class OpenFiles:
    """The limit of this process; None: there is none."""

    limit: int | None

    @property
    def connections(self) -> int | None:
        """How many connections to ION and its token services may be open; None: any number."""
        return None if self.limit is None else max(self.limit - _KEPT - (self.web or 0), _FEWEST)

    @property
    def web(self) -> int | None:
        """How many connections to the page, health and metrics may be open; None: any number."""
        return None if self.limit is None else max(self.limit // _WEB_FRACTION, _FEWEST)

    def bounds(self, wanted: int) -> str | None:
        """What the limit means where `wanted` posts may be in flight; None where it bounds nothing."""
        if self.connections is None or self.connections >= wanted:
            return None
        return (
            f"the limit of {self.limit} open files leaves {self.connections} connections to ION, not {wanted}"
        )


RAISE_HINT = (
    "raise the limit: LimitNOFILE of the systemd unit, ulimit -n, or --ulimit nofile of the container"
)


def open_files() -> OpenFiles:
    """The limit as it is now."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return OpenFiles(None if soft == resource.RLIM_INFINITY else soft)


def raise_limit() -> OpenFiles:
    """Raise the limit to the highest that is allowed without privileges."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):  # where it is forbidden, the limit stays as it is
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return open_files()


def is_exhausted(error: BaseException) -> bool:
    """Whether it is the error of a process, or a machine, with too many open files."""
    return isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE)


def are_exhausted() -> bool:
    """Whether no file can be opened now: for drivers that hide the reason."""
    try:
        os.close(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
    except OSError as error:
        return is_exhausted(error)
    return False


def described() -> str:
    """What happened, and the hint."""
    return f"too many open files (limit {open_files().limit or 'of the machine'}); {RAISE_HINT}"
