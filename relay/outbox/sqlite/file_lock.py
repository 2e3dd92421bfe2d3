"""The lock that keeps two relays off one SQLite file."""

import contextlib
import fcntl
import os
from pathlib import Path

from relay.core.ports import StoreError
from relay.observability import open_files
from relay.outbox.sqlite import errors


class FileLock:
    """An advisory lock on `<file>.lock`; the system releases it when the process ends, however it ends."""

    def __init__(self, path: Path) -> None:
        """Raises StoreError where another relay holds it."""
        self._file = _open_lock(path)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(self._file, 20, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(self._file)
            raise StoreError(
                f"another relay (process {holder}) uses the outbox {path}; stop it first, or give this "
                "relay an outbox of its own in RELAY_OUTBOX__URL"
            ) from error
        with contextlib.suppress(OSError):  # the number is only for the text above; a full disk may refuse it
            os.ftruncate(self._file, 0)
            os.pwrite(self._file, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """The file stays: deleting it would let two relays lock two files of one name."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def _open_lock(path: Path) -> int:
    lock = path.with_name(path.name + ".lock")
    try:
        return os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except FileNotFoundError as error:
        raise errors.missing_folder(path) from error
    except OSError as error:
        if open_files.is_exhausted(error):
            raise errors.no_descriptors(path) from error
        raise StoreError(
            f"{lock} cannot be opened ({error.strerror}); give this user the right to write in "
            f"{path.parent}, or correct RELAY_OUTBOX__URL"
        ) from error
