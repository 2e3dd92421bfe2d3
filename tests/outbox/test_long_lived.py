"""A long-lived outbox: a million delivered rows must cost nothing, on both stores."""

import contextlib
import json
import re
import sqlite3
from collections.abc import AsyncIterator, Iterator
from typing import Any

import asyncpg
import pytest

from relay.core.admin import Filter
from relay.core.model import (
    Delivered,
    DocumentName,
    Message,
    MessageKey,
    Parked,
    Released,
    Settlement,
    TenantId,
)
from relay.outbox import upgrade
from relay.outbox.postgres import admin_queries as pg_queries
from relay.outbox.postgres import due as pg_due
from relay.outbox.postgres import retention as pg_retention
from relay.outbox.postgres import settle as pg_settle
from relay.outbox.postgres import table_names
from relay.outbox.postgres import tenants as pg_tenants
from relay.outbox.postgres.connection import StoreConnection
from relay.outbox.sqlite import admin_queries, due, retention, settle, tenants
from relay.outbox.values import PendingFilter
from tests.support.costs import steps
from tests.support.postgres import Cluster, connected

ACME, ORDER = TenantId("ACME"), DocumentName("Sync.SalesOrder")
DELIVERED, PENDING, GROUP = 1_000_000, 1_000, 128


def group(messages: list[Message]) -> list[tuple[MessageKey, Settlement]]:
    """One of everything a worker settles, and deliveries."""
    first, second, *rest = messages
    others: list[tuple[MessageKey, Settlement]] = [
        (first.key, Parked("no")),
        (second.key, Released("503", wait=1.0)),
    ]
    return [*others, *((message.key, Delivered()) for message in rest)]


# --- SQLite: the virtual machine's steps --------------------------------------------------------------


FILL_FILE = """
WITH RECURSIVE numbers(n) AS (SELECT ?1 UNION ALL SELECT n + 1 FROM numbers WHERE n + 1 < ?1 + ?2)
INSERT INTO relay_outbox (tenant_id, document_name, message_id, to_logical_id, ordering_key, parameters, state,
                          attempts, created_at, queued_at, settled_at, payload)
SELECT 'ACME', 'Sync.SalesOrder', printf('m%08d', n), 'lid://default', CASE WHEN n % 2 THEN 'k' || n % 20 END,
       '{}', ?3, 0, ?4, ?4, CASE WHEN ?3 = 'delivered' THEN ?4 END, x'00'
FROM numbers
"""


@pytest.fixture(scope="module", params=["as it is", "analysed"])
def file(request: pytest.FixtureRequest, long_lived: sqlite3.Connection) -> sqlite3.Connection:
    """Without statistics, as the relay leaves it; then with those that somebody's ANALYZE made."""
    if request.param == "analysed":
        long_lived.execute("ANALYZE")
    return long_lived


@pytest.fixture(scope="module")
def long_lived(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sqlite3.Connection]:
    """Filled in seconds: nothing is checked or counted row by row, and the indexes are built at the end."""
    path = tmp_path_factory.mktemp("long-lived") / "relay.db"
    upgrade(f"sqlite:///{path}")
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for setting in ("synchronous = OFF", "cache_size = -100000", "ignore_check_constraints = ON"):
            connection.execute(f"PRAGMA {setting}")
        made = connection.execute(
            "SELECT type, name, sql FROM sqlite_master WHERE type IN ('trigger', 'index') AND sql IS NOT NULL"
        ).fetchall()
        (now,) = connection.execute("SELECT strftime('%Y-%m-%dT%H:%M:%fZ', 'now')").fetchone()
        connection.execute("BEGIN")
        for kind, name, _ in made:
            connection.execute(f"DROP {kind} {name}")
        connection.execute(FILL_FILE, (0, DELIVERED, "delivered", now))
        connection.execute(FILL_FILE, (DELIVERED, PENDING, "pending", now))
        connection.execute(
            "INSERT INTO relay_counts (tenant_id, pending, delivered) VALUES ('ACME', ?, ?)",
            (PENDING, DELIVERED),
        )
        for _, _, sql in made:
            connection.execute(sql)
        connection.execute("COMMIT")
        connection.execute("PRAGMA ignore_check_constraints = OFF")
        yield connection


@contextlib.contextmanager
def at_most(hundreds: int, connection: sqlite3.Connection) -> Iterator[None]:
    """So many hundred steps of SQLite's virtual machine; a million rows would be more than ten thousand."""
    with steps(connection) as count:
        yield
    assert count[0] <= hundreds


def test_a_worker_steps_over_a_million_delivered_rows_in_a_file(file: sqlite3.Connection) -> None:
    with at_most(10, file):
        assert tenants.notification(file).pending == {ACME}
        assert due.documents(file, ACME) == {ORDER}
    with at_most(200, file):
        found = due.due(file, ACME, {ORDER}, PendingFilter(frozenset(), frozenset(), GROUP), 1 << 20)
    assert len(found) == GROUP
    file.execute("BEGIN")
    try:
        with at_most(600, file):
            settle.settle(file, group(list(found)))
        with at_most(10, file):
            assert retention.settled_long_ago(file, None, 86400, 1000) == []
    finally:
        file.execute("ROLLBACK")


def test_an_operator_sees_past_a_million_delivered_rows_in_a_file(file: sqlite3.Connection) -> None:
    with at_most(20, file):
        counted = admin_queries.counts(file)[ACME]
        assert (counted.pending, counted.delivered) == (PENDING, DELIVERED)
        assert admin_queries.find(file, Filter(state="parked"), 100) == []
    with at_most(150, file):
        assert len(admin_queries.find(file, Filter(ACME, state="pending"), 100)) == 100


# --- PostgreSQL: its plans, and the blocks they touched -----------------------------------------------

FILL_TABLE = """
INSERT INTO relay_outbox (tenant_id, document_name, message_id, ordering_key, state, settled_at, payload)
SELECT 'ACME', 'Sync.SalesOrder', $1 || n, CASE WHEN n % 2 = 1 THEN 'k' || n % 20 END, $1,
       CASE WHEN $1 = 'delivered' THEN now() END, 'x'
FROM generate_series(1, $2) n
"""

CHECKS = "SELECT conname FROM pg_constraint WHERE contype = 'c' AND conrelid = 'relay_outbox'::regclass"

INDEXES = """
SELECT indexname, indexdef FROM pg_indexes WHERE tablename = 'relay_outbox' AND indexname <> 'relay_outbox_pkey'
"""


class Measuring(StoreConnection):
    """Runs each statement twice, the first time to explain it (and to take back what it changed)."""

    def __init__(self, connection: "asyncpg.Connection[asyncpg.Record]") -> None:
        super().__init__(connection, table_names.TableNames())
        self.plans: list[tuple[str, int]] = []

    async def fetch(self, statement: str, *values: Any) -> list[asyncpg.Record]:
        await self._explain(statement, values)
        return await super().fetch(statement, *values)

    async def fetchrow(self, statement: str, *values: Any) -> asyncpg.Record | None:
        await self._explain(statement, values)
        return await super().fetchrow(statement, *values)

    async def execute(self, statement: str, *values: Any) -> int:
        await self._explain(statement, values)
        return await super().execute(statement, *values)

    async def _explain(self, statement: str, values: tuple[Any, ...]) -> None:
        undone = self.connection.transaction()
        await undone.start()
        text = await super().fetchval(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}", *values)
        await undone.rollback()
        (plan,) = json.loads(text)
        blocks = plan["Plan"]["Shared Hit Blocks"] + plan["Plan"]["Shared Read Blocks"]
        self.plans.append((text, blocks))

    def require_at_most(self, blocks: int) -> None:
        """Since the last time: no scan of the outbox, and so many blocks; it has tens of thousands."""
        plans, self.plans = self.plans, []
        assert plans
        for text, _ in plans:
            walks = r'"Node Type": "Seq Scan",[^{}]*?"Relation Name": "relay_outbox"'
            assert not re.search(walks, text), text
        assert sum(touched for _, touched in plans) <= blocks, plans


@contextlib.asynccontextmanager
async def long_lived_table(url: str) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    """Filled in seconds, as above; the statistics are from when all rows were pending."""
    async with connected(url) as connection:
        await connection.execute("ALTER TABLE relay_outbox SET (autovacuum_enabled = off), SET UNLOGGED")
        for (name,) in await connection.fetch(CHECKS):
            await connection.execute(f"ALTER TABLE relay_outbox DROP CONSTRAINT {name}")
        await connection.execute(FILL_TABLE, "pending", PENDING)
        await connection.execute("ANALYZE relay_outbox")
        made = await connection.fetch(INDEXES)
        async with connection.transaction():
            for name, _ in made:
                await connection.execute(f"DROP INDEX {name}")
            await connection.execute("ALTER TABLE relay_outbox DISABLE TRIGGER relay_outbox_inserted")
            await connection.execute(FILL_TABLE, "delivered", DELIVERED)
            await connection.execute("ALTER TABLE relay_outbox ENABLE TRIGGER relay_outbox_inserted")
            await connection.execute("INSERT INTO relay_counts VALUES ('ACME', 0, $1, 0, 0)", DELIVERED)
            for _, sql in made:
                await connection.execute(sql)
        yield connection


async def test_a_million_delivered_rows_in_a_table_cost_nobody_anything(postgres: Cluster) -> None:
    """Whether the statistics know of them or not."""
    async with postgres.outbox() as url, long_lived_table(url) as connection:
        for known in (False, True):
            if known:
                await connection.execute("VACUUM ANALYZE relay_outbox")
            session = Measuring(connection)
            undone = connection.transaction()
            await undone.start()
            await read_and_settle(session)
            await undone.rollback()


async def read_and_settle(session: Measuring) -> None:
    """What a worker does, then an operator's queries."""
    assert (await pg_tenants.notification(session)).pending == {ACME}
    assert await pg_due.documents(session, ACME) == {ORDER}
    session.require_at_most(50)
    span = PendingFilter(frozenset(), frozenset(), GROUP)
    found = await pg_due.due(session, ACME, {ORDER}, span, 1 << 20)
    assert len(found) == GROUP
    session.require_at_most(1500)  # 14 reads 5 % more than 18 does
    await pg_settle.settle(session, group(list(found)), None, {})
    session.require_at_most(10_000)
    assert await pg_retention.settled_long_ago(session, None, 86400.0, 1000) == []
    session.require_at_most(10)
    counted = (await pg_queries.counts(session))[ACME]
    assert (counted.pending, counted.delivered) == (PENDING - GROUP + 1, DELIVERED + GROUP - 2)
    assert len(await pg_queries.find(session, Filter(ACME, state="pending"), 100)) == 100
    assert len(await pg_queries.find(session, Filter(state="parked"), 100)) == 1
    session.require_at_most(500)
