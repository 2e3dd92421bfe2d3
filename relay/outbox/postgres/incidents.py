"""What may be wrong with an outbox on PostgreSQL although every call succeeds, found before it does harm.

A sequence of ids lags behind where rows came without it: by logical replication,
or from a dump of the rows alone. Each INSERT fails then, until one gets an id that is free.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import asyncpg

from relay.core.ports import StoreIncident
from relay.outbox.postgres.connection import Connection, StoreConnection
from relay.outbox.postgres.exposure import exposures
from relay.outbox.postgres.table_names import TableNames

NOTIFY_BELOW = 0.5
"""How full the queue of notifications may be; above, none is sent. As in 0004_identity.sql."""

_TABLES = ("relay_outbox", "relay_history", "relay_audit")

# The ids are those of the statement's snapshot, and a sequence is read as it is: what is inserted meanwhile
# never lets one seem to lag behind.
_IDS = " UNION ALL ".join(
    f"SELECT {place}, (SELECT max(id) FROM {table}), last_value, is_called FROM {table}_id_seq"  # noqa: S608
    for place, table in enumerate(_TABLES)
)

# Can be run again, and at any time: it changes nothing where the sequence does not lag behind.
_CATCH_UP = (
    "SELECT setval(ids.tableoid::regclass, highest) FROM {table}_id_seq AS ids, "
    "(SELECT max(id) AS highest FROM {table}) AS stored WHERE highest >= last_value"
)

_QUEUE = "SELECT pg_notification_queue_usage()"


@dataclass(frozen=True, slots=True)
class LaggingSequence:
    """A table whose sequence would generate an id that is not above the highest one."""

    table: str
    highest: int
    next_id: int
    statement: str
    """Sets the sequence to the highest id."""

    def __str__(self) -> str:
        return f"the next id of {self.table} would be {self.next_id}, and its highest one is {self.highest}"


async def lagging_sequences(connection: Connection, names: TableNames) -> list[LaggingSequence]:
    """All of them, one step along an index for each table."""
    found = []
    for place, highest, last, is_called in await connection.fetch(names.within(_IDS)):
        if highest is not None and last + is_called <= highest:
            table = names.within(_TABLES[place])
            statement = names.within(_CATCH_UP.format(table=_TABLES[place]))
            found.append(LaggingSequence(table, highest, last + is_called, statement))
    return found


async def catch_up(connection: Connection, names: TableNames) -> list[LaggingSequence]:
    """Correct them, within a transaction: no id is generated meanwhile. What was corrected."""
    found = await lagging_sequences(connection, names)
    for one in found:
        await connection.execute(f"LOCK TABLE {one.table} IN SHARE ROW EXCLUSIVE MODE")
        await connection.execute(one.statement)
    return found


async def incidents(session: StoreConnection) -> Sequence[StoreIncident]:
    """Sequences that lag behind, a queue of notifications that fills up, roles that may create too much."""
    return [
        *await _of_sequences(session),
        *await _of_notifications(session),
        *await _of_exposures(session),
    ]


async def notification_queue(session: StoreConnection) -> float:
    """How full it is; it is the queue of all databases of the server."""
    return float(await session.fetchval(_QUEUE))


async def _of_sequences(session: StoreConnection) -> list[StoreIncident]:
    try:
        lagging = await lagging_sequences(session.connection, session.names)
    except asyncpg.InsufficientPrivilegeError as error:
        hint = "GRANT SELECT on the three sequences to the relay's role, as docs/postgres.md lists"
        detail = f"whether ids are generated in order cannot be checked: {error}"
        return [StoreIncident("sequence", detail, hint)]
    if not lagging:
        return []
    statements = "; ".join(one.statement for one in lagging)
    hint = f"run, as the owner of the tables: relay outbox upgrade; or: {statements}"
    return [StoreIncident("sequence", f"{'; '.join(map(str, lagging))}: INSERTs fail", hint)]


async def _of_notifications(session: StoreConnection) -> list[StoreIncident]:
    used = await notification_queue(session)
    if used < NOTIFY_BELOW:
        return []
    detail = (
        f"the server's queue of notifications is {used:.0%} full: a session that listens does not read them; "
        "an INSERT sends none meanwhile, and the relays poll"
    )
    hint = (
        "the server's log names the process that holds up the queue; end its transaction, or the session: "
        "SELECT pg_terminate_backend(…)"
    )
    return [StoreIncident("notifications", detail, hint)]


async def _of_exposures(session: StoreConnection) -> list[StoreIncident]:
    found = await exposures(session.connection, session.names)
    if not found:
        return []
    detail = f"{'; '.join(map(str, found))}: what they create there may run with the relay's rights"
    hint = f"run, as its owner: {'; '.join(one.statement for one in found)}"
    return [StoreIncident("exposed", detail, hint)]
