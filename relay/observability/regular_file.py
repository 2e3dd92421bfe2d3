"""Reads a small file that settings name: a regular one only, so that reading never waits for a writer."""

import errno
import os
import stat
from pathlib import Path

MAX_BYTES = 1024 * 1024
"""More is no file of settings."""

_KINDS = {
    stat.S_IFIFO: "a FIFO",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFDIR: "a directory",
    stat.S_IFSOCK: "a socket",
}


def read_regular(path: Path, limit: int = MAX_BYTES) -> bytes:
    """Its content. Raises OSError, also where it is no regular file, or larger than `limit` bytes.

    A FIFO without a writer would hold up its reader for ever; opening a device may change its state.
    """
    _require_regular(path.stat())
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC  # it may be another file by now
    with os.fdopen(os.open(path, flags), "rb") as file:
        _require_regular(os.fstat(file.fileno()))
        content = file.read(limit + 1)
    if len(content) > limit:
        raise OSError(errno.EFBIG, f"it is larger than {limit} bytes")
    return content


def read_regular_text(path: Path, limit: int = MAX_BYTES) -> str:
    """The same as text, without a byte order mark. Raises OSError, and UnicodeDecodeError."""
    return read_regular(path, limit).decode("utf-8-sig")


def file_kind(mode: int) -> str | None:
    """What is there by its mode, with an article; None: a regular file."""
    kind = stat.S_IFMT(mode)
    return None if kind == stat.S_IFREG else _KINDS.get(kind, "something else")


def _require_regular(found: os.stat_result) -> None:
    kind = file_kind(found.st_mode)
    if kind is not None:
        number = errno.EISDIR if stat.S_ISDIR(found.st_mode) else errno.EINVAL
        raise OSError(number, f"it is {kind}, not a regular file")
