"""Opens, creates and upgrades an outbox on PostgreSQL."""

from relay.outbox.location import OutboxLocation
from relay.outbox.postgres import schema
from relay.outbox.postgres.database import PostgresLocation
from relay.outbox.postgres.logins import Logins
from relay.outbox.postgres.store import PostgresOutbox
from relay.outbox.postgres.table_names import TableNames

__all__ = ["PostgresOutbox", "open_database", "schema_of", "upgrade_database"]


async def open_database(
    location: OutboxLocation, *, notify: bool, lease_seconds: float | None, purging: bool
) -> PostgresOutbox:
    """Open an outbox whose tables are there and of a version that this relay can use."""
    outbox = PostgresOutbox(_locate(location), notify=notify, lease_seconds=lease_seconds, purging=purging)
    try:
        await outbox.verify()
    except BaseException:
        await outbox.close()
        raise
    return outbox


def schema_of(location: OutboxLocation) -> str:
    """The statements that create the tables there."""
    return schema.ddl(_locate(location).names)


async def upgrade_database(location: OutboxLocation) -> list[str]:
    """Create the tables or bring them up to date; what else was corrected."""
    return await schema.upgrade(_locate(location))


def _locate(location: OutboxLocation) -> PostgresLocation:
    names = TableNames(location.schema, location.prefix)
    return PostgresLocation(location.url, location.shown, names, Logins(location.url_file))
