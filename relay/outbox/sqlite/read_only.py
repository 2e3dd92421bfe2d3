"""Reads an outbox without changing it."""

import contextlib
import os
import sqlite3
from pathlib import Path

from relay.outbox.sqlite import errors, schema
from relay.outbox.sqlite.database import prepare
from relay.outbox.sqlite.file_lock import sibling
from relay.outbox.sqlite.write_ahead_log import log_bytes


def connect(path: Path) -> sqlite3.Connection:
    """A connection that reads only: an outbox, or a backup on a medium that cannot be written.

    SQLite creates a write-ahead log and its index for readers too, unless the file is declared immutable: so
    it is read where there is no log. Otherwise the log is read too; SQLite makes an index that is missing.
    """
    has_log = log_bytes(path) > 0 or all(map(os.path.exists, (sibling(path, "-wal"), sibling(path, "-shm"))))
    return prepare(path, "mode=ro" if has_log else "mode=ro&immutable=1")


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
