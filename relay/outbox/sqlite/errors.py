"""What SQLite's errors mean to an operator: what happened, where, and the hint."""

import os
import sqlite3
from pathlib import Path

from relay.core.ports import StoreError
from relay.observability import open_files

LOCK_SECONDS = 5.0
"""How long a call waits while another process writes."""

_PRIMARY = 0xFF  # the low byte of an extended result code is the primary one
_NEARLY_FULL = 64 * 1024  # bytes; below it a failed write is taken for a full disk

_ENDS_CONNECTION = frozenset(
    {sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CANTOPEN}
    | {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_PROTOCOL, sqlite3.SQLITE_MISUSE}
)


def code(error: sqlite3.Error) -> int:
    """The primary result code; -1 where the error is the driver's own."""
    found: int = getattr(error, "sqlite_errorcode", -1)
    return found & _PRIMARY if found >= 0 else -1


def ends_connection(error: sqlite3.Error) -> bool:
    """Whether the connection must not be used again: the next call opens a new one."""
    return code(error) in _ENDS_CONNECTION or code(error) == -1


def explain(error: sqlite3.Error, path: Path) -> StoreError:
    """The error that the relay's log and command line show. Nothing of the call was stored."""
    if code(error) in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN):
        if open_files.are_exhausted():
            return no_descriptors(path)
        if _is_full(path):
            return _full(path)
    match code(error):
        case sqlite3.SQLITE_FULL:
            return _full(path)
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return StoreError(
                f"the outbox {path} was locked by another process for more than {LOCK_SECONDS:g} s; "
                "keep write transactions short, or end the program that holds one open"
            )
        case sqlite3.SQLITE_NOTADB:
            return StoreError(
                f"{path} is not a SQLite database; give the outbox another path in RELAY_OUTBOX__URL",
                lasting=True,
            )
        case sqlite3.SQLITE_CORRUPT:
            return StoreError(
                f"the outbox {path} is damaged ({error}); stop every program that uses it, then restore a "
                f"backup, or save what is readable with: sqlite3 {path} .recover",
                lasting=True,
            )
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_PERM | sqlite3.SQLITE_AUTH:
            return _unwritable(path, error)
        case sqlite3.SQLITE_CANTOPEN:
            return _cannot_open(path, error)
        case sqlite3.SQLITE_IOERR:
            return StoreError(
                f"the disk under the outbox {path} failed ({error}); check the file system and its logs"
            )
        case sqlite3.SQLITE_ERROR if "no such" in str(error):
            return StoreError(
                f"{path} lacks a table or column of the outbox ({error}); "
                "restore a backup, or give the outbox another path in RELAY_OUTBOX__URL",
                lasting=True,
            )
        case _:
            return StoreError(f"the call to the outbox {path} failed: {error}")


def no_descriptors(path: Path) -> StoreError:
    """The process may open no further file."""
    return StoreError(f"the outbox {path} cannot be opened: {open_files.described()}")


def _full(path: Path) -> StoreError:
    return StoreError(
        f"the disk is full under the outbox {path}; free some space in {path.parent}; "
        "nothing that was stored is lost, and a running relay resumes automatically"
    )


def _unwritable(path: Path, error: sqlite3.Error) -> StoreError:
    return StoreError(
        f"the outbox {path} cannot be written ({error}); give this user the right to write the file "
        f"and its folder {path.parent}, where SQLite keeps two more files beside it"
    )


def _cannot_open(path: Path, error: sqlite3.Error) -> StoreError:
    if not path.parent.is_dir():
        return missing_folder(path)
    if path.is_dir():
        return StoreError(f"the outbox {path} is a folder; give the path of a file", lasting=True)
    if not path.exists() and os.access(path.parent, os.W_OK):
        return missing_file(path)
    return _unwritable(path, error)


def missing_folder(path: Path) -> StoreError:
    """The file cannot be made, since its folder is not there."""
    return StoreError(
        f"there is no folder {path.parent} for the outbox {path.name}; "
        "create it, or correct RELAY_OUTBOX__URL"
    )


def missing_file(path: Path) -> StoreError:
    """The file is not there, and this call must not make a new one."""
    return StoreError(f"there is no outbox at {path}; put it back, or correct RELAY_OUTBOX__URL")


def replaced(path: Path) -> StoreError:
    """The file was taken away while it was open: writing into the old one would lose everything."""
    return StoreError(
        f"the outbox {path} was moved, deleted or replaced while it was open; nothing is written until it "
        "is an outbox again; put it back, and keep programs from touching it while the relay runs"
    )


def _is_full(path: Path) -> bool:
    try:
        space = os.statvfs(path.parent)
    except OSError:
        return False
    return space.f_bavail * space.f_frsize < _NEARLY_FULL
