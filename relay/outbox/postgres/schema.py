"""Recognises, creates and upgrades the outbox's tables on PostgreSQL.

The numbered `.sql` files beside it are the schema's versions; each is one transaction, and can be run again.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from functools import cache
from importlib import resources

import asyncpg

from relay.outbox.postgres import errors, incidents
from relay.outbox.postgres.catalog_names import qualified
from relay.outbox.postgres.connection import Connection, StoreConnection
from relay.outbox.postgres.database import PostgresLocation, close_connection
from relay.outbox.postgres.errors import DRIVER_ERRORS
from relay.outbox.postgres.exposure import exposures
from relay.outbox.postgres.table_names import TableNames

_UPGRADE_SECONDS = 3600.0
_LOCK = 0x494F4E52  # "IONR": two upgrades at the same time wait for each other
_OLDEST_SERVER = 140_000

_FOUND = """
SELECT version, works_with, current_setting('server_encoding') AS encoding
FROM relay_schema ORDER BY version DESC LIMIT 1
"""

_EXISTS = """
SELECT EXISTS (SELECT FROM pg_class WHERE relname = $1 AND relnamespace = coalesce(
    (SELECT oid FROM pg_namespace WHERE nspname = $2),
    (SELECT oid FROM pg_namespace WHERE $2 IS NULL AND nspname = current_schema())))
"""


@cache
def versions() -> tuple[tuple[int, str], ...]:
    """The schema's versions: number and SQL text, ascending."""
    files = (file for file in resources.files(__package__).iterdir() if file.name.endswith(".sql"))
    return tuple(sorted((int(file.name[:4]), file.read_text("utf-8")) for file in files))


def ddl(names: TableNames) -> str:
    """All of it, for a database administrator or an application's own migrations."""
    return "\n".join(
        f"BEGIN;\n\n{_opening(names)}{names.definition(text).strip()}\n\nCOMMIT;\n" for _, text in versions()
    )


async def verify(location: PostgresLocation, session: StoreConnection) -> None:
    """Raise StoreError unless this is an outbox that this relay can use."""
    try:
        found = await session.fetchrow(_FOUND)
    except (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError):
        raise errors.missing(location.where) from None
    version, works_with = (found["version"], found["works_with"]) if found is not None else (0, 0)
    if version < _newest():
        raise errors.too_old(location.where, version, _newest())
    if works_with > _newest():
        raise errors.too_new(location.where, version, _newest())
    assert found is not None
    if found["encoding"] != "UTF8":
        raise errors.not_utf8(location.where, found["encoding"])


async def upgrade(location: PostgresLocation) -> list[str]:
    """Create the tables or bring them to the newest version, a transaction each. Raises StoreError.

    A sequence of ids that lags behind is corrected; the result says which, and who may create too much.
    """
    connection = await location.connect()
    try:
        async with asyncio.timeout(_UPGRADE_SECONDS):
            await _require_fit(location, connection)
            for number, text in versions():
                await _apply(location, connection, number, text)
            async with _transaction(connection):
                corrected = await incidents.catch_up(connection, location.names)
            exposed = await exposures(connection, location.names)
            return [
                *(f"{one}; corrected: {one.statement}" for one in corrected),
                *(f"warning: {one}; run, as its owner: {one.statement}" for one in exposed),
            ]
    except (OSError, *DRIVER_ERRORS) as error:
        raise errors.explain(error, location.where) from error
    finally:
        await close_connection(connection)


async def _apply(location: PostgresLocation, connection: Connection, number: int, text: str) -> None:
    """Unless it is there."""
    async with _transaction(connection):
        version = await _version(location, connection)
        if version > _newest():
            raise errors.too_new(location.where, version, _newest())
        if number > version:
            await connection.execute(_opening(location.names) + location.names.definition(text))


@contextlib.asynccontextmanager
async def _transaction(connection: Connection) -> AsyncIterator[None]:
    """One that no other upgrade has at the same time."""
    async with connection.transaction():
        # Applications queue behind a change of tables that waits for its lock.
        await connection.execute("SET LOCAL lock_timeout = '20s'")
        await connection.execute(qualified(f"SELECT pg_advisory_xact_lock({_LOCK})"))
        yield


async def _version(location: PostgresLocation, connection: Connection) -> int:
    names = location.names
    if not await connection.fetchval(qualified(_EXISTS), f"{names.prefix}schema", names.schema):
        return 0
    newest = await connection.fetchval(names.within("SELECT max(version) FROM relay_schema"))
    return int(newest or 0)


async def _require_fit(location: PostgresLocation, connection: Connection) -> None:
    encoding, version = await connection.fetchrow(  # type: ignore[misc]  # there is always one
        qualified("SELECT current_setting('server_encoding'), current_setting('server_version_num')::int")
    )
    if encoding != "UTF8":
        raise errors.not_utf8(location.where, encoding)
    if version < _OLDEST_SERVER:
        raise errors.too_old_server(location.where, version)


def _opening(names: TableNames) -> str:
    """Make the schema, where one is named, and the place where the names that follow are created."""
    quoted = names.quoted_schema
    if quoted is None:
        return ""
    text, tag = quoted.replace("'", "''"), "$relay$"
    while tag in text:  # a name must not end the block
        tag = f"{tag[:-1]}_$"
    block = f"BEGIN IF to_regnamespace('{text}') IS NULL THEN CREATE SCHEMA {quoted}; END IF; END"
    return f"DO {tag} {qualified(block)} {tag};\nSET LOCAL search_path TO {quoted};\n\n"


def _newest() -> int:
    return versions()[-1][0]
