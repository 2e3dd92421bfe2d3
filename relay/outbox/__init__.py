"""This file is how to open the outbox that a URL names, print its schema, and bring it up to date.

`sqlite:///relay.db` is a file in the current folder, `sqlite:////var/lib/relay/relay.db` one anywhere;
`postgresql://role@host/database` is a database, in all forms that libpq knows.
"""

import asyncio
import importlib
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, TypeAlias
from urllib.parse import parse_qsl, urlencode

from relay.core.ports import StoreError
from relay.outbox import sqlite
from relay.outbox.sqlite import SqliteOutbox

if TYPE_CHECKING:
    from relay.outbox.postgres import Place, PostgresOutbox

__all__ = ["SqliteOutbox", "StoredOutbox", "open_outbox", "schema", "shown", "upgrade"]

StoredOutbox: TypeAlias = "SqliteOutbox | PostgresOutbox"
"""`ports.Outbox` and `desk.Desk` on one object, and its `leases`."""

_SQLITE = "sqlite:///"
_POSTGRES = ("postgresql://", "postgres://")
_SHOWN_OPTIONS = frozenset({"host", "port", "dbname", "sslmode"})

LEASE_SECONDS = 15.0


async def open_outbox(
    url: str,
    *,
    create: bool = True,
    exclusive: bool = False,
    schema_name: str | None = None,
    prefix: str = "relay_",
    notify: bool = True,
    lease_seconds: float = LEASE_SECONDS,
    purging: bool = False,
) -> StoredOutbox:
    """Open it, and answer a `ports.Outbox` that is a `desk.Desk` too.

    A file is brought up to date, and made where there is none if `create`; `exclusive`: as the one relay
    that carries it. A database must be up to date (`upgrade`), and several relays share it by leases of
    `lease_seconds`; `schema_name` and `prefix` say where its tables are, `notify` False that it is looked
    into from time to time instead of listened to. `shedding`: a payload goes when its message is delivered.
    Raises StoreError.
    """
    if url.startswith(_POSTGRES):
        postgres = _postgres()
        place = _place(url, schema_name, prefix)
        opened: PostgresOutbox = await postgres.open_database(
            place, notify=notify, lease_seconds=lease_seconds, purging=purging
        )
        return opened
    return await sqlite.open_file(_file(url), create=create, exclusive=exclusive, purging=purging)


def schema(url: str, *, schema_name: str | None = None, prefix: str = "relay_") -> str:
    """The statements that create the outbox, for a person or an application's own migrations."""
    if url.startswith(_POSTGRES):
        text: str = _postgres().schema.ddl(_place(url, schema_name, prefix).names)
        return text
    _file(url)
    return sqlite.schema.ddl()


def upgrade(url: str, *, schema_name: str | None = None, prefix: str = "relay_") -> None:
    """Create the outbox or bring it up to date, also in an application's own database. Raises StoreError.

    Not within a running loop.
    """
    if url.startswith(_POSTGRES):
        asyncio.run(_postgres().schema.upgrade(_place(url, schema_name, prefix)))
    else:
        sqlite.upgrade_file(_file(url), create=True, adopt=True)


def is_served(url: str) -> bool:
    """Whether the outbox is behind a server, which may be away for a while and come back by itself."""
    return url.startswith(_POSTGRES)


def shown(url: str) -> str:
    """The URL as it may be printed: without what may be a password."""
    if url.startswith(_SQLITE):
        return url
    scheme, separator, rest = url.partition("://")
    if not separator:
        return repr(url)
    place, _, query = rest.rpartition("@")[2].partition("?")
    options = [(name, value) for name, value in parse_qsl(query) if name in _SHOWN_OPTIONS]
    return f"{scheme}://{place}" + (f"?{urlencode(options, safe='/,:')}" if options else "")


def _place(url: str, schema_name: str | None, prefix: str) -> "Place":
    _postgres()
    from relay.outbox.postgres.database import Place
    from relay.outbox.postgres.table_names import TableNames

    return Place(url, shown(url), TableNames(schema_name, prefix))


def _postgres() -> ModuleType:
    """The store on PostgreSQL; its driver is an extra."""
    try:
        importlib.import_module("asyncpg")
    except ModuleNotFoundError as error:
        raise StoreError(
            "an outbox on PostgreSQL needs the driver asyncpg; "
            "install it with: pip install ion-relay[postgres]",
            lasting=True,
        ) from error
    return importlib.import_module("relay.outbox.postgres")


def _file(url: str) -> Path:
    path = url.removeprefix(_SQLITE)
    if path == url or not path or path.endswith("/") or ":memory:" in path:
        raise StoreError(
            f"{shown(url)} names no outbox; use sqlite:///relay.db for a file in the current folder, "
            "sqlite:////var/lib/relay/relay.db with four slashes for one anywhere, or "
            "postgresql://role@host/database for a database",
            lasting=True,
        )
    return Path(path)
