"""The locks that keep two relays off one SQLite file, whatever names it has.

The lock that decides is on the file itself: an open-file-description lock on one byte far behind any content,
which links, mounts and other spellings of the name share. SQLite's own locks are on other bytes. The lock on
`<file>.lock` beside it excludes relays of 0.1.0, which know no other, and holds what is printed about the
holder.

Closing any descriptor of a file drops the locks that SQLite holds on it in this process. So the file's
descriptor is closed last, and a file that this process has locked is not opened again.
"""

import contextlib
import errno
import fcntl
import os
import stat
import struct
import threading
from pathlib import Path

from relay.core.ports import StoreError
from relay.observability import open_files
from relay.outbox.sqlite import errors
from relay.outbox.sqlite.last_use import LastUse, format_use, parse_use

FileId = tuple[int, int]

_OWN_LOCK = range(1 << 62, (1 << 62) + 1)
"""The byte that is locked; a database ends long before it."""

SQLITE_LOCKS = range(0x40000000, 0x40000200)
"""The bytes on which SQLite locks: whoever has the file open holds some of them."""

_RECORD_BYTES = 1024
"""The lock file's length: it is always written whole, by one call."""

_UNSUPPORTED = frozenset({errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP})

_locked: set[FileId] = set()
"""The files that this process has locked."""


def file_id(path: Path) -> FileId | None:
    """Which file stands at the path now."""
    try:
        found = os.stat(path)  # noqa: PTH116  # half the cost of Path.stat, and it is asked for each call
    except OSError:
        return None
    return found.st_dev, found.st_ino


def sibling(path: Path, suffix: str) -> Path:
    """Another file beside it, as SQLite's own `-wal` and `-shm`: beside the target, if the path is a link."""
    target = Path(os.path.realpath(path))
    return target.with_name(target.name + suffix)


def is_locked_here(path: Path) -> bool:
    """Whether this process has the lock of the file."""
    return file_id(path) in _locked


class FileLock:
    """Held by the one relay of a file; the system releases it when the process ends, however it ends."""

    def __init__(self, path: Path, *, create: bool) -> None:
        """Raises StoreError where another relay holds it. `create`: a missing outbox is made, empty."""
        self._path, self._create = path, create
        self._guard = threading.Lock()
        self._descriptors: list[int] = []
        self._file_id: FileId | None = None
        self._beside_file = _lock_beside(sibling(path, ".lock"), path)
        self.before = parse_use(os.pread(self._beside_file, _RECORD_BYTES, 0))
        """What the relay before this one recorded."""
        try:
            self.follow()
        except BaseException:
            os.close(self._beside_file)
            raise
        self._create = False
        self.record(self.before)  # with this process' number

    def follow(self) -> None:
        """Hold the lock on the file that stands at the path now. Raises StoreError if another relay does."""
        with self._guard:
            found = file_id(self._path)
            if found == self._file_id and found is not None:
                return
            if found is None and not self._create:
                return
            self._take(found)

    def _take(self, found: FileId | None) -> None:
        if found in _locked:
            raise _held(self._path, f"process {os.getpid()}")
        descriptor = _open(self._path, create=self._create)
        if not _lock(descriptor, _OWN_LOCK, self._path):
            os.close(descriptor)
            raise _held(self._path, "relay status names it; its lock file is another one or was deleted")
        if self._file_id is not None:
            _unlock(self._descriptors[-1], _OWN_LOCK)
            _locked.discard(self._file_id)
        opened = os.fstat(descriptor)
        self._descriptors.append(descriptor)
        self._file_id = (opened.st_dev, opened.st_ino)
        _locked.add(self._file_id)

    def exclude_all(self) -> bool:
        """Keep every other program from the file; False: one has it open. This process must not have."""
        return not self._descriptors or _lock(self._descriptors[-1], SQLITE_LOCKS, self._path)

    def record(self, use: LastUse | None) -> None:
        """Keep what the outbox holds beside it, for the next start."""
        with contextlib.suppress(OSError):  # a full disk may refuse it
            os.pwrite(self._beside_file, format_use(os.getpid(), use).ljust(_RECORD_BYTES), 0)

    def release(self) -> None:
        """The lock file stays: deleting it would let two relays lock two files of one name."""
        if self._beside_file < 0:
            return
        for descriptor in self._descriptors:
            os.close(descriptor)
        if self._file_id is not None:
            _locked.discard(self._file_id)
        os.close(self._beside_file)
        self._descriptors, self._beside_file, self._file_id = [], -1, None


def _held(path: Path, holder: str) -> StoreError:
    return StoreError(
        f"another relay ({holder}) uses the outbox {path}; stop it first, or name another outbox in "
        "RELAY_OUTBOX__URL"
    )


# --- the file itself ------------------------------------------------------------------------------


def _open(path: Path, *, create: bool) -> int:
    flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOCTTY | (os.O_CREAT if create else 0)
    try:
        return os.open(path, flags, 0o644)  # as SQLite makes it
    except OSError as error:
        raise errors.cannot_open(path, error) from error


def _lock(descriptor: int, place: range, path: Path) -> bool:
    try:
        fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, _range(fcntl.F_WRLCK, place))
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES):
            return False
        if error.errno in _UNSUPPORTED:  # a kernel without such locks: the lock file alone excludes
            return True
        raise StoreError(
            f"the outbox {path} cannot be locked ({error.strerror}); put it on a local disk"
        ) from error
    return True


def _unlock(descriptor: int, place: range) -> None:
    with contextlib.suppress(OSError):
        fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, _range(fcntl.F_UNLCK, place))


def _range(kind: int, place: range) -> bytes:
    """A `struct flock`, with room for the process id and what pads it."""
    return struct.pack("hhqqiq", kind, os.SEEK_SET, place.start, len(place), 0, 0)


# --- the file beside it ---------------------------------------------------------------------------


def _lock_beside(beside: Path, path: Path) -> int:
    descriptor = _open_beside(beside, path)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if file_id(beside) != _file_id_of(descriptor):  # deleted meanwhile
            raise _held(path, "which starts or ends now")
    except OSError as error:
        words = os.pread(descriptor, 20, 0).split()
        os.close(descriptor)
        holder = words[0].decode("ascii", "replace") if words else "unknown"
        raise _held(path, f"process {holder}") from error
    except StoreError:
        os.close(descriptor)
        raise
    return descriptor


def _open_beside(beside: Path, path: Path) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
    try:
        descriptor = os.open(beside, flags, 0o644)
    except FileNotFoundError as error:
        raise errors.missing_folder(path) from error
    except OSError as error:
        if open_files.is_exhausted(error):
            raise errors.no_descriptors(path) from error
        if error.errno in (errno.ELOOP, errno.EISDIR, errno.ENXIO):
            raise _no_lock_file(beside) from error
        raise StoreError(
            f"{beside} cannot be opened ({error.strerror}); give this user the right to write in "
            f"{beside.parent}, or correct RELAY_OUTBOX__URL"
        ) from error
    if not _is_lock_file(descriptor):
        os.close(descriptor)
        raise _no_lock_file(beside)
    _give_to_owner(descriptor, beside)
    return descriptor


def _give_to_owner(descriptor: int, beside: Path) -> None:
    """What root makes belongs to the owner of the outbox, as SQLite's own files beside it do."""
    target = beside.with_name(beside.name.removesuffix(".lock"))
    if os.geteuid() == 0:
        like = target.stat() if target.exists() else beside.parent.stat()
        with contextlib.suppress(OSError):  # a file system without owners
            os.fchown(descriptor, like.st_uid, like.st_gid)


def _is_lock_file(descriptor: int) -> bool:
    """Whether a relay wrote it: whatever else stands under the name is not overwritten."""
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1 or found.st_size > _RECORD_BYTES:
        return False
    first = os.pread(descriptor, _RECORD_BYTES, 0).split(b"\n")[0].strip()
    return first == b"" or first.isdigit()


def _no_lock_file(beside: Path) -> StoreError:
    return StoreError(
        f"{beside} is not a lock file of a relay, but a link or something else; it is left as it is; "
        "remove it, and start again"
    )


def _file_id_of(descriptor: int) -> FileId:
    found = os.fstat(descriptor)
    return found.st_dev, found.st_ino
