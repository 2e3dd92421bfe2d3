"""What SQLite's errors mean to an operator: what happened, where, and the hint."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path

from relay.core.ports import RowRefusedError, StoreError
from relay.observability import open_files
from relay.observability.regular_file import file_kind

LOCK_SECONDS = 5.0
"""How long a call waits while another process writes."""

_PRIMARY = 0xFF  # the low byte of an extended result code is the primary one
_NEARLY_FULL = 64 * 1024  # bytes; below it a failed write is taken for a full disk

_OF_A_ROW = frozenset(
    {sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_ERROR}
)
"""What constraints and triggers answer about a row; a statement that is wrong as a whole says "no such"."""
_LAST_ID = 2**62  # of a message that the schema admits
_SET_IDS_BACK = (
    "UPDATE sqlite_sequence SET seq = (SELECT coalesce(max(id), 0) FROM relay_outbox) "
    "WHERE name = 'relay_outbox'"
)

_ENDS_CONNECTION = frozenset(
    {sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CANTOPEN}
    | {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_PROTOCOL, sqlite3.SQLITE_MISUSE}
)

_PASSING = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR})


def code(error: sqlite3.Error) -> int:
    """The primary result code; -1 where the error is the driver's own."""
    found: int = getattr(error, "sqlite_errorcode", -1)
    return found & _PRIMARY if found >= 0 else -1


def ends_connection(error: sqlite3.Error) -> bool:
    """Whether the connection must not be used again: the next call opens a new one."""
    is_other_schema = code(error) == sqlite3.SQLITE_ERROR and "no such" in str(error)  # which one: `verify`
    return code(error) in _ENDS_CONNECTION or code(error) == -1 or is_other_schema


def is_passing(error: StoreError) -> bool:
    """Whether the cause passes without a change to the file: a lock, a full or failing disk."""
    cause = error.__cause__
    return isinstance(cause, sqlite3.Error) and code(cause) in _PASSING


def explain(error: sqlite3.Error, path: Path) -> StoreError:
    """The error that the relay's log and command line show. Nothing of the call was stored."""
    if code(error) in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN):
        if open_files.are_exhausted():
            return no_descriptors(path)
        if _is_full(path.parent) or _is_full(_temporary_folder()):
            return _without_room(path)
    match code(error):
        case sqlite3.SQLITE_FULL:
            return _without_room(path)
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
            return _damaged(path, error)
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_PERM | sqlite3.SQLITE_AUTH:
            return _unwritable(path, error)
        case sqlite3.SQLITE_CANTOPEN:
            return cannot_open(path, error)
        case sqlite3.SQLITE_IOERR:
            return StoreError(
                f"the disk under the outbox {path} failed ({error}); check the file system and its logs",
                answer_lost=True,
            )
        case sqlite3.SQLITE_ERROR if "no such" in str(error):
            return StoreError(
                f"{path} lacks a table or column of the outbox ({error}); if a trigger of the application "
                "names it, correct the trigger; else restore a backup (relay outbox restore), or give "
                "another path in RELAY_OUTBOX__URL",
                lasting=True,
            )
    return _failed(path, error)


def _failed(path: Path, error: sqlite3.Error) -> StoreError:
    if "id_is_at_most" in str(error):  # the next id, which nobody chose
        return _used_up(path)
    if code(error) in _OF_A_ROW:
        return RowRefusedError(f"the outbox {path} refused a row: {error}")
    return StoreError(f"the call to the outbox {path} failed: {error}")


def no_descriptors(path: Path) -> StoreError:
    """The process may open no further file."""
    return StoreError(f"the outbox {path} cannot be opened: {open_files.described()}")


def _without_room(path: Path) -> StoreError:
    """SQLite says the same of three shortages."""
    if _is_full(path.parent):
        return _full(path)
    if _are_ids_used_up(path):
        return _used_up(path)
    return _full_temporary(path) if _is_full(_temporary_folder()) else _full(path)


def _full(path: Path) -> StoreError:
    return StoreError(
        f"the disk is full under the outbox {path}; free some space in {path.parent}; "
        "nothing that was stored is lost, and a running relay resumes automatically"
    )


def _full_temporary(path: Path) -> StoreError:
    return StoreError(
        f"the disk is full under {_temporary_folder()}, where SQLite sorts what does not fit into memory; "
        f"free some space there, or name another folder in SQLITE_TMPDIR; the outbox {path} "
        "has room, and nothing that was stored is lost"
    )


def _damaged(path: Path, error: sqlite3.Error) -> StoreError:
    return StoreError(
        f"the outbox {path} is damaged ({error}); stop every program that uses it, then restore a backup "
        "with: relay outbox restore BACKUP; without one, save what is readable with: "
        f"sqlite3 {path} .recover",
        lasting=True,
    )


def _used_up(path: Path) -> StoreError:
    return StoreError(
        f"the ids of the outbox {path} are used up: a row was given one of the last; delete the rows "
        f"whose id is {_LAST_ID} or more, then run: {_SET_IDS_BACK}"
    )


def _unwritable(path: Path, error: Exception | str) -> StoreError:
    return StoreError(
        f"the outbox {path} cannot be written ({error}); give this user the right to write the file "
        f"and its folder {path.parent}, where SQLite keeps two more files beside it"
    )


def cannot_open(path: Path, error: Exception) -> StoreError:
    """Why the file cannot be opened, from what stands at its path."""
    if open_files.is_exhausted(error):
        return no_descriptors(path)
    hidden = _hidden(path)
    if hidden is not None:
        return hidden
    if not path.parent.is_dir():
        return missing_folder(path)
    kind = file_kind(path.stat().st_mode) if path.exists() else None
    if kind is not None:
        return _no_file(path, kind)
    if not path.exists() and os.access(path.parent, os.W_OK):
        return missing_file(path)
    return _unwritable(path, error)


def require(path: Path, *, create: bool) -> None:
    """Raise StoreError where the file cannot be opened, or must not be created."""
    try:
        if not path.is_absolute():
            Path.cwd()  # raises where it was deleted
    except OSError as error:
        raise unreachable(path, error) from error
    try:
        kind = file_kind(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        if not os.path.isdir(path.parent):  # noqa: PTH112  # raises nothing
            raise missing_folder(path) from None
        if not create:
            raise no_outbox(path) from None
    except OSError as error:
        raise unreachable(path, error) from error
    else:
        if kind is not None:  # opening a FIFO would wait for its writer
            raise _no_file(path, kind)


def read_only(path: Path) -> StoreError:
    """A relay could not write there, where nothing is tried."""
    return _unwritable(path, "no right to write")


def missing_folder(path: Path) -> StoreError:
    """The file cannot be made, since its folder is not there."""
    return StoreError(
        f"there is no folder {path.parent} for the outbox {path.name}; "
        "create it, or correct RELAY_OUTBOX__URL"
    )


def no_text(path: Path) -> StoreError:
    """A value has halves of surrogate pairs, as an argument of a command has for bytes that are not UTF-8."""
    return StoreError(f"the outbox {path} keeps no text that is not UTF-8; write it in UTF-8", lasting=True)


def missing_file(path: Path) -> StoreError:
    """The file is not there, as far as can be seen, and this call must not make a new one."""
    return _hidden(path) or StoreError(
        f"there is no outbox at {path}; put it back, or correct RELAY_OUTBOX__URL"
    )


def _no_file(path: Path, kind: str) -> StoreError:
    return StoreError(f"the outbox {path} is {kind}; give the path of a file", lasting=True)


def no_outbox(path: Path) -> StoreError:
    """There is none to open: the place may be wrong, or it is the first start."""
    return StoreError(
        f"there is no outbox at {path.absolute()}; correct RELAY_OUTBOX__URL or change to its folder, "
        "or create it there with: relay outbox upgrade"
    )


def _hidden(path: Path) -> StoreError | None:
    """Why the system does not say whether the file is there; None: it does."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        return unreachable(path, error)
    return None


def unreachable(path: Path, error: OSError) -> StoreError:
    """The system does not even say whether the file is there."""
    return StoreError(
        f"the outbox {path} cannot be reached ({error.strerror}); give this user the right to search the "
        "folders above it, or another absolute path in RELAY_OUTBOX__URL"
    )


def replaced(path: Path) -> StoreError:
    """The file was taken away while it was open: writing into the old one would lose everything.

    Or the rights to its folder were: whether it is the same is not known then.
    """
    hidden = _hidden(path)
    if hidden is not None:
        return hidden
    return StoreError(
        f"the outbox {path} was moved, deleted or replaced while it was open; nothing is written until it "
        "is an outbox again; put it back, and keep programs from touching it while the relay runs",
        answer_lost=True,
    )


def _are_ids_used_up(path: Path) -> bool:
    """SQLite says that the disk is full then, too."""
    sequence = "SELECT count(*) FROM sqlite_sequence WHERE name = 'relay_outbox' AND seq >= ?"
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            return bool(connection.execute(sequence, (_LAST_ID,)).fetchone()[0])
    except sqlite3.Error:
        return False


def _is_full(folder: Path) -> bool:
    try:
        space = os.statvfs(folder)
    except OSError:
        return False
    return space.f_bavail * space.f_frsize < _NEARLY_FULL


def _temporary_folder() -> Path:
    """Where SQLite puts its temporary files (sqlite.org/tempfiles.html, section 5)."""
    named = [os.environ.get(name) for name in ("SQLITE_TMPDIR", "TMPDIR")]
    folders = [Path(name) for name in (*named, "/var/tmp", "/usr/tmp", "/tmp") if name]  # noqa: S108  # nosec B108
    return next((one for one in folders if one.is_dir() and os.access(one, os.W_OK | os.X_OK)), Path())
