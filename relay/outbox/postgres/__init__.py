"""This file is the way into the outbox on PostgreSQL: open it, create it, bring it up to date."""

from relay.outbox.postgres import schema
from relay.outbox.postgres.database import Place
from relay.outbox.postgres.store import PostgresOutbox

__all__ = ["Place", "PostgresOutbox", "open_database", "schema"]


async def open_database(
    place: Place, *, notify: bool, lease_seconds: float, purging: bool = False
) -> PostgresOutbox:
    """Open an outbox whose tables are there and of a version that this relay can use."""
    outbox = PostgresOutbox(place, notify=notify, lease_seconds=lease_seconds, purging=purging)
    try:
        await outbox.verify()
    except BaseException:
        await outbox.close()
        raise
    return outbox
