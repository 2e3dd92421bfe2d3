"""Whether a database is still the store that this relay uses, or another one took its place.

A promoted standby and a restore to a point in time continue on a new timeline; a restored copy of a server's
files has an earlier position; tables that were made anew have another number and another random id.
"""

from collections.abc import Callable
from dataclasses import dataclass

import asyncpg

from relay.outbox.postgres import errors
from relay.outbox.postgres.catalog_names import qualified
from relay.outbox.postgres.connection import Connection, StoreConnection

_SYSTEM = "SELECT system_identifier::text FROM pg_control_system()"

# The timeline that is written to now: the one of the last checkpoint lags behind after a promotion.
_TIMELINE = "SELECT left(pg_walfile_name(pg_current_wal_insert_lsn()), 8)"

_NEXT = """
UPDATE relay_identity
SET position = position + 1, cluster = $1,
    changed_at = CASE WHEN cluster <> $1 THEN clock_timestamp() ELSE changed_at END
RETURNING tableoid::bigint AS made, store::text AS store, position
"""

_MAKE = "INSERT INTO relay_identity DEFAULT VALUES ON CONFLICT (id) DO NOTHING"

_CHANGED = "UPDATE relay_identity SET changed_at = clock_timestamp()"

_NOT_GIVEN = (
    asyncpg.InsufficientPrivilegeError,
    asyncpg.UndefinedFunctionError,
    asyncpg.FeatureNotSupportedError,
    asyncpg.ObjectNotInPrerequisiteStateError,
    asyncpg.InternalServerError,
)
"""What a managed service answers that does not give this function to its customers."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """A cluster, and the timeline that it writes. Empty, 0: not known."""

    system: str = ""
    timeline: int = 0

    def __str__(self) -> str:
        return f"{self.system}/{self.timeline}"


@dataclass(frozen=True, slots=True)
class Incarnation:
    """One life of a store. `tables`: the number of its tables. `store`: the random id in its row."""

    cluster: Cluster
    tables: int
    store: str


class StoreIdentity:
    """The incarnation that this process uses, and the newest timelines that it saw.

    `changed` is called with the reason, once for each change, before the caller of `check` continues.
    """

    def __init__(self, where: str, changed: Callable[[str], None]) -> None:
        self._where, self._changed = where, changed
        self._timelines: dict[str, int] = {}
        self._not_given: set[str] = set()
        self._position = 0
        self.current: Incarnation | None = None
        """None before the first check."""

    async def accept(self, connection: Connection) -> None:
        """Raise StoreError where a newer timeline of the same cluster was seen: it was replaced."""
        self._refuse_replaced(await self._cluster(connection))

    async def check(self, session: StoreConnection) -> None:
        """Compare, not within a transaction; the next position is left for the next check."""
        before, position = self.current, self._position
        cluster = await self._cluster(session.connection)
        self._refuse_replaced(cluster)
        row = await session.fetchrow(_NEXT, str(cluster))
        if row is None:
            await session.execute(_MAKE)
            row = await session.fetchrow(_NEXT, str(cluster))
            assert row is not None
        found = Incarnation(cluster, row["made"], row["store"])
        if before is not self.current:  # another check noticed meanwhile
            self._refuse_replaced(cluster)
            return
        reason = None if before is None else _difference(before, found, is_behind=row["position"] <= position)
        self._timelines[cluster.system] = cluster.timeline
        if reason is None:
            self.current, self._position = before or found, max(self._position, row["position"])
            return
        self.current, self._position = found, row["position"]
        self._changed(reason)
        await session.execute(_CHANGED)

    def _refuse_replaced(self, cluster: Cluster) -> None:
        newest = self._timelines.get(cluster.system, 0)
        if cluster.system and cluster.timeline and cluster.timeline < newest:
            raise errors.replaced(self._where, cluster.timeline, newest)

    async def _cluster(self, connection: Connection) -> Cluster:
        system = await self._ask(connection, _SYSTEM)
        timeline = await self._ask(connection, _TIMELINE)
        return Cluster(system, int(timeline or "0", 16))

    async def _ask(self, connection: Connection, query: str) -> str:
        """Empty where the server does not give it to this role; it is not asked again then."""
        if query in self._not_given:
            return ""
        try:
            return str(await connection.fetchval(qualified(query)))
        except _NOT_GIVEN:
            self._not_given.add(query)
            return ""


def _difference(before: Incarnation, found: Incarnation, *, is_behind: bool) -> str | None:
    """What shows that it is another store; None: it is the same."""
    old, new = before.cluster, found.cluster
    if old.system != new.system:
        return f"the server is of another cluster: its system identifier is {new.system}, it was {old.system}"
    if old.timeline != new.timeline:
        return (
            f"the server is on timeline {new.timeline}, it was on {old.timeline}: a standby was promoted, "
            "or the server was restored to a point in time"
        )
    if (before.tables, before.store) != (found.tables, found.store):
        return "the tables of the outbox were made anew"
    return "the outbox is an earlier copy of itself" if is_behind else None
