"""Recognises, creates and upgrades the outbox's tables on SQLite.

The numbered `.sql` files beside it are the schema's versions. `relay_schema` holds those that a file has,
so that the outbox can live in an application's own database, whose `user_version` stays the application's.
"""

import sqlite3
from collections.abc import Iterator
from functools import cache
from importlib import resources
from pathlib import Path

from relay.core.ports import StoreError

_APPLICATION_ID = 0x494F4E52  # "IONR": set in files that the relay creates, for tools such as `file`


@cache
def versions() -> tuple[tuple[int, str], ...]:
    """The schema's versions: number and SQL text, ascending."""
    files = (file for file in resources.files(__package__).iterdir() if file.name.endswith(".sql"))
    return tuple(sorted((int(file.name[:4]), file.read_text("utf-8")) for file in files))


def ddl() -> str:
    """All of it, for an operator or an application's own migrations."""
    return "\n".join(text for _, text in versions())


def version_of(connection: sqlite3.Connection) -> int | None:
    """The file's version; 0 for an empty database; None for one that holds other tables only."""
    tables = connection.execute(
        "SELECT count(*), coalesce(sum(name IN ('relay_schema', 'relay_outbox')), 0) FROM sqlite_schema"
    ).fetchone()
    if tables[0] == 0:
        return 0
    if tables[1] == 0:
        return None
    (version,) = connection.execute("SELECT max(version) FROM relay_schema").fetchone()
    return int(version or 0)


def verify(connection: sqlite3.Connection, path: Path) -> None:
    """Raise StoreError unless this is an outbox of the version that this relay knows."""
    match version_of(connection):
        case 0:
            raise StoreError(
                f"{path} is an empty database, not an outbox yet; make it one with: relay outbox upgrade"
            )
        case None:
            raise _foreign(path)
        case version if version > _newest():
            raise too_new(path, version)
        case version if version < _newest():
            raise StoreError(
                f"the outbox {path} has schema version {version}, this relay needs {_newest()}; "
                "bring it up to date with: relay outbox upgrade",
                lasting=True,
            )
        case _:
            _require_utf8(connection, path)


def upgrade(connection: sqlite3.Connection, path: Path, *, adopt: bool) -> None:
    """Bring the file to the newest version, in one transaction. `adopt`: also another program's database."""
    version = version_of(connection)
    if version is None and not adopt:
        raise _foreign(path)
    if (version or 0) > _newest():
        raise too_new(path, version or 0)
    _require_utf8(connection, path)
    _use_wal(connection, path)
    if version == _newest():
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        _apply(connection, made_here=version == 0)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _apply(connection: sqlite3.Connection, *, made_here: bool) -> None:
    version = version_of(connection) or 0  # again, now that nobody else can write
    if version == 0 and made_here:
        connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
    for number, text in versions():
        if number > version:
            for statement in _statements(text):
                connection.execute(statement)


def _use_wal(connection: sqlite3.Connection, path: Path) -> None:
    (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        raise StoreError(
            f"SQLite cannot keep a write-ahead log for {path}; "
            "put the outbox on a local disk, not a network share",
            lasting=True,
        )


def _statements(text: str) -> Iterator[str]:
    """One statement each: `executescript` would commit in between."""
    pending = ""
    for line in text.splitlines(keepends=True):
        pending += line
        if sqlite3.complete_statement(pending):
            yield pending
            pending = ""


def _newest() -> int:
    return versions()[-1][0]


def _require_utf8(connection: sqlite3.Connection, path: Path) -> None:
    (encoding,) = connection.execute("PRAGMA encoding").fetchone()
    if encoding != "UTF-8":
        raise StoreError(
            f"the database {path} keeps text as {encoding}, so that documents would be sent in it; "
            "the outbox needs a database in UTF-8",
            lasting=True,
        )


def _foreign(path: Path) -> StoreError:
    return StoreError(
        f"{path} is another program's database and holds no outbox; add one with: relay outbox upgrade, "
        "or give the outbox another path in RELAY_OUTBOX__URL",
        lasting=True,
    )


def too_new(path: Path, version: int) -> StoreError:
    """The file is of a later version than this relay knows."""
    return StoreError(
        f"the outbox {path} was made by a newer relay (schema version {version}, this one knows up to "
        f"{_newest()}); install that relay, or give the outbox another path in RELAY_OUTBOX__URL",
        lasting=True,
    )
