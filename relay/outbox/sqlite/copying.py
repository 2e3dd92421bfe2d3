"""Copies an outbox file whole, while it is in use, and makes the copy durable before it gets its name."""

import contextlib
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

from relay.core.ports import StoreError
from relay.outbox.sqlite import errors, schema
from relay.outbox.sqlite.database import connect

Progress = Callable[[int, int], None]
"""Gets (pages copied, pages in all)."""

_STEP_PAGES = 2048


def copy_file(source: sqlite3.Connection, target: Path, progress: Progress) -> None:
    """Copy the database as it is now into a new file.

    One read transaction encloses all steps: a commit of another process would make SQLite begin again.
    """
    source.execute("BEGIN")
    try:
        source.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        with contextlib.closing(connect(target)) as copy:
            copy.execute("PRAGMA synchronous = OFF")  # made durable as a whole, in the end
            source.backup(
                copy, pages=_STEP_PAGES, progress=lambda _, left, total: progress(total - left, total)
            )
    finally:
        source.execute("ROLLBACK")


@contextlib.contextmanager
def unfinished(target: Path) -> Iterator[Path]:
    """A new file beside the target, for this user alone; it is removed unless it gets the target's name."""
    part = target.with_name(target.name + ".unfinished")
    try:
        _remove(part)  # of a run that was killed
        os.close(os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise StoreError(
            f"{part} cannot be made ({error.strerror}); the copy is made in this folder; nothing was changed"
        ) from error
    try:
        yield part
    except sqlite3.Error as error:
        raise _failed(error, part) from error
    finally:
        _remove(part)


def _remove(part: Path) -> None:
    for suffix in ("", "-wal", "-shm", "-journal"):
        part.with_name(part.name + suffix).unlink(missing_ok=True)


def name_durably(part: Path, target: Path) -> None:
    """Give the complete file its name: all of it is on the disk before, and the name is after."""
    sync(part)
    part.replace(target)
    sync(target.parent)


def sync(path: Path) -> None:
    """Write a file, or the names in a folder, through to the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def require_outbox(connection: sqlite3.Connection, path: Path) -> None:
    """Raise StoreError unless it is an outbox of a version that this relay knows."""
    version = schema.version_of(connection)
    if not version:
        raise StoreError(f"{path} holds no outbox; nothing was changed")
    if version > schema.versions()[-1][0]:
        raise StoreError(
            f"{path} was made by a newer relay (schema version {version}, this one knows up to "
            f"{schema.versions()[-1][0]}); use the command of that relay; nothing was changed"
        )


def require_whole(connection: sqlite3.Connection, path: Path, name: str) -> None:
    """Raise StoreError if the copy, and so what it was made of, is damaged."""
    try:
        (found,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
    except sqlite3.DatabaseError as error:
        if errors.code(error) not in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            raise errors.explain(error, path) from error
        found = str(error)
    if found != "ok":
        raise damaged(name, " ".join(str(found).split()))


def damaged(name: str, why: str) -> StoreError:
    """What was to be copied is damaged; `name` says what that is."""
    return StoreError(f"{name} is damaged ({why}); nothing was changed")


def explain(error: sqlite3.Error, source: Path, part: Path) -> StoreError:
    """What failed while one file was copied into the other."""
    match errors.code(error):
        case sqlite3.SQLITE_CORRUPT:
            return damaged(str(source), str(error))
        case sqlite3.SQLITE_NOTADB:
            return StoreError(f"{source} is not a SQLite database; nothing was changed")
        case sqlite3.SQLITE_FULL | sqlite3.SQLITE_IOERR:
            return _failed(error, part)
        case _:
            return errors.explain(error, source)


def _failed(error: sqlite3.Error, part: Path) -> StoreError:
    if errors.code(error) != sqlite3.SQLITE_FULL:
        return errors.explain(error, part)
    return StoreError(f"the disk is full under {part}; free some space in {part.parent}; nothing was changed")


def adopt_rights(part: Path, target: Path) -> None:
    """Give the copy the owner and the mode of the file that it replaces, or of a new one in that folder."""
    like = target if target.exists() else target.parent
    found = like.stat()
    with contextlib.suppress(PermissionError):  # only root may give a file away
        os.chown(part, found.st_uid, found.st_gid)
    part.chmod(found.st_mode & 0o666)


def link_or_copy(path: Path, other: Path) -> None:
    """Give the file a second name, or where the file system knows none, a copy under that name."""
    try:
        other.hardlink_to(path)
    except OSError:
        shutil.copy2(path, other)
        sync(other)
