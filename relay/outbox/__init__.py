"""This file is how to open the outbox that a URL names, print its schema, and bring it up to date.

`sqlite:///relay.db` is a file in the current folder, `sqlite:////var/lib/relay/relay.db` one anywhere.
"""

from pathlib import Path

from relay.outbox import sqlite
from relay.outbox.sqlite import SqliteOutbox
from relay.ports import StoreError

__all__ = ["SqliteOutbox", "open_outbox", "schema", "upgrade"]

_SQLITE = "sqlite:///"


async def open_outbox(url: str, *, create: bool = True, exclusive: bool = False) -> SqliteOutbox:
    """Open it, bring its schema up to date, and answer a `ports.Outbox` that is a `ports.Desk` too.

    `create`: make the file where there is none. `exclusive`: as a relay that carries it, the only one.
    Raises StoreError.
    """
    return await sqlite.open_file(_file(url), create=create, exclusive=exclusive)


def schema(url: str) -> str:
    """The statements that create the outbox, for a person or an application's own migrations."""
    _file(url)
    return sqlite.schema.ddl()


def upgrade(url: str) -> None:
    """Create the outbox or bring it up to date, also in an application's own database. Raises StoreError."""
    sqlite.upgrade_file(_file(url), create=True, adopt=True)


def _file(url: str) -> Path:
    path = url.removeprefix(_SQLITE)
    if path == url or not path or path.endswith("/") or ":memory:" in path:
        raise StoreError(
            f"{_shown(url)} names no outbox; use sqlite:///relay.db for a file in the current folder, or "
            "sqlite:////var/lib/relay/relay.db with four slashes for one anywhere",
            lasting=True,
        )
    return Path(path)


def _shown(url: str) -> str:
    """Without what may be a password."""
    scheme, separator, rest = url.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}" if separator else repr(url)
