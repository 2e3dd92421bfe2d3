"""Reads an outbox without changing its file, and without creating one beside it."""

import contextlib
import os
import sqlite3
from pathlib import Path

from relay.outbox.sqlite import errors, schema
from relay.outbox.sqlite.database import prepare
from relay.outbox.sqlite.file_lock import sibling


def connect(path: Path) -> sqlite3.Connection:
    """A connection that reads only.

    SQLite creates a write-ahead log and its index for readers too, unless the file is declared immutable: so
    it is read where no other process keeps a log, and with the log of that process where there is one.
    """
    in_use = all(os.path.exists(sibling(path, ending)) for ending in ("-wal", "-shm"))  # noqa: PTH110  # raises nothing
    options = "mode=ro" if in_use else "mode=ro&immutable=1"
    return prepare(path, options)


def to_come(path: Path) -> str | None:
    """What `relay run` does at its start before it can use the outbox; None: nothing. Raises StoreError."""
    errors.require(path, create=True)
    folder = Path(os.path.realpath(path)).parent
    if not os.access(folder, os.W_OK):
        raise errors.read_only(folder)
    if not os.path.exists(path):  # noqa: PTH110  # raises nothing
        return "does not exist yet; relay run creates it"
    if not os.access(path, os.W_OK):
        raise errors.read_only(path)
    try:
        with contextlib.closing(connect(path)) as connection:
            version = schema.version_of(connection)
    except sqlite3.Error as error:
        raise errors.explain(error, path) from error
    newest = schema.versions()[-1][0]
    if version == 0:
        return "is empty yet; relay run makes it an outbox"
    if version is not None and version < newest:
        return f"has schema version {version}; relay run brings it to version {newest}"
    return None  # whatever else is wrong with it is found when it is opened
