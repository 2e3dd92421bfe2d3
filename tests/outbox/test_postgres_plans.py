"""The cost of operators' queries on PostgreSQL: however many rows there are, each uses an index."""

import re
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import asyncpg
import pytest

from relay.core.activity import MINUTES
from relay.core.admin import Action, BulkAction, Filter, MessageState
from relay.core.model import AuditId, DocumentName, MessageId, OrderingKey, RowId, TenantId
from relay.outbox.postgres import activity, admin_queries, audit, bulk, retention, selection
from relay.outbox.postgres.connection import StoreConnection
from relay.outbox.postgres.table_names import TableNames
from tests.support.postgres import Cluster, connected

ACME, RARE = TenantId("ACME_PRD"), TenantId("RARE")
ORDER = DocumentName("Sync.SalesOrder")

FILL = """
INSERT INTO relay_outbox (tenant_id, document_name, payload, ordering_key, state, settled_at)
SELECT CASE WHEN n % 10000 = 0 THEN 'RARE' ELSE 'ACME_PRD' END, 'Sync.SalesOrder', 'x',
       CASE WHEN n % 2 = 0 THEN 'k' || n % 20 END, $1, now()
FROM generate_series(1, $2) n
"""


class Explaining(StoreConnection):
    """Records the plan of each statement before it runs."""

    def __init__(self, connection: "asyncpg.Connection[asyncpg.Record]") -> None:
        super().__init__(connection, TableNames())
        self.plans = ""

    async def fetch(self, statement: str, *values: Any) -> list[asyncpg.Record]:
        plan = await super().fetch(f"EXPLAIN {statement}", *values)
        self.plans += "\n".join(line for (line,) in plan) + "\n"
        return await super().fetch(statement, *values)

    def taken(self) -> set[str]:
        """Which ways into the outbox's table, since the last time; `walk`: through all of it."""
        plans, self.plans = self.plans, ""
        ways = set(re.findall(r"\brelay_outbox_(lanes|keyed|aside|tenant|message|pkey|settled)\b", plans))
        return ways | ({"walk"} if "Seq Scan on relay_outbox" in plans else set())


@pytest.fixture(params=["analysed", "stale"])
async def session(request: pytest.FixtureRequest, postgres: Cluster) -> AsyncIterator[Explaining]:
    """Many delivered rows, few of all others. `stale`: the statistics are from when all were pending."""
    async with postgres.outbox() as url, connected(url) as connection:
        await connection.execute("ALTER TABLE relay_outbox SET (autovacuum_enabled = off)")
        await connection.execute(FILL, "pending", 40_000)
        if request.param == "stale":
            await connection.execute("ANALYZE relay_outbox")
        await connection.execute("UPDATE relay_outbox SET state = 'delivered'")
        for state in ("pending", "parked", "dropped"):
            await connection.execute(FILL, state, 300)
        await connection.execute(FILL.replace("n % 10000", "n % 1"), "pending", 3)
        await connection.execute("VACUUM relay_outbox")
        if request.param == "analysed":
            await connection.execute("ANALYZE relay_outbox")
        yield Explaining(connection)


PENDING: tuple[MessageState, ...] = ("pending",)
ASIDE: tuple[MessageState, ...] = ("parked", "dropped")
ALL: tuple[MessageState, ...] = (*PENDING, *ASIDE, "delivered")


async def test_what_a_filter_selects_is_found_along_an_index(session: Explaining) -> None:
    some = tuple(
        MessageId(name) for (name,) in await session.fetch("SELECT message_id FROM relay_outbox LIMIT 9")
    )
    session.taken()
    asked: list[tuple[Filter, tuple[MessageState, ...], int, set[str]]] = [
        (Filter(), PENDING, 303, {"lanes", "keyed"}),
        (Filter(ACME), PENDING, 300, {"lanes", "keyed"}),
        (Filter(RARE), PENDING, 3, {"lanes", "keyed"}),
        (Filter(document=DocumentName("Other")), PENDING, 0, {"lanes", "keyed"}),
        (Filter(), ASIDE, 500, {"aside"}),
        (Filter(RARE), ASIDE, 0, {"aside"}),
        (Filter(document=ORDER), ASIDE, 500, {"aside"}),
        (Filter(), PENDING + ASIDE, 500, {"lanes", "keyed", "aside"}),
        (Filter(ACME), ALL, 500, {"tenant"}),
        (Filter(RARE), ("delivered",), 4, {"tenant"}),
        (Filter(TenantId("NOBODY")), ALL, 0, {"tenant"}),
        (Filter(ids=some), ALL, 9, {"message"}),
        (Filter(ACME, ids=some), PENDING, 0, {"message"}),
        (Filter(), ALL, 500, {"pkey"}),
    ]
    for wanted, states, number, ways in asked:
        for after in (0, 1000):
            found = await selection.select(session, wanted, states, 500, after)
            plans = session.plans
            assert len(found) == number or after
            assert session.taken() == ways, f"{wanted} {states}\n{plans}"


async def test_counts_and_the_head_of_a_lane_are_found_along_an_index(session: Explaining) -> None:
    counts = await admin_queries.counts(session)
    assert counts[RARE].pending == 3
    assert session.taken() == {"lanes", "keyed"}
    (record,) = await admin_queries.find(session, Filter(RARE), 1)
    session.taken()
    for key in (None, OrderingKey("k2")):
        behind = replace(record, tenant_id=ACME, row=RowId(100_000), ordering_key=key)
        assert len(await selection.lane_before(session, behind, (), 1)) == 1
        assert session.taken() == {"lanes"}


async def test_the_ages_of_the_queue_are_found_along_an_index_and_bounded(session: Explaining) -> None:
    queues = await admin_queries.queue_ages(session, None, 100)
    assert [(queue.tenant, sum(queue.counts), queue.more) for queue in queues] == [
        (ACME, 100, True), (RARE, 3, False),
    ]  # fmt: skip
    assert session.taken() == {"lanes", "keyed"}


async def test_a_preview_uses_the_indexes_of_the_action(session: Explaining) -> None:
    """Rows that are known by their ids are found by any index that has those."""
    assert (await admin_queries.preview(session, "park", Filter(RARE), 5)).total == 3
    assert {"lanes", "keyed"} <= (ways := session.taken())
    assert "walk" not in ways
    assert (await admin_queries.preview(session, "drop", Filter(ACME, state="parked"), 5)).total == 300
    assert "aside" in (ways := session.taken())
    assert "walk" not in ways


async def test_payloads_are_purged_along_the_settled_ones(session: Explaining) -> None:
    found = await retention.settled_long_ago(session, None, -3600.0, 500)
    assert len(found) == 500
    await retention.purge(session, [row for _, row in found])
    assert session.taken() == {"settled"}
    await retention.settled_long_ago(session, found[-1], 3600.0, 500)
    assert session.taken() == {"settled"}


@pytest.mark.parametrize("tenant", [None, ACME, TenantId("NOBODY")])
async def test_the_audit_is_read_along_an_index(session: Explaining, tenant: TenantId | None) -> None:
    await session.execute("""
        INSERT INTO relay_audit (who, what, tenant_id, selection, reason, outcome)
        SELECT 'ann@desk', 'pause', CASE WHEN n % 1000 > 0 THEN 'ACME_PRD' END, '', '', 'done'
        FROM generate_series(1, 20000) n""")
    await session.execute("ANALYZE relay_audit")
    found = await audit.newest(session, 10, tenant)
    assert len(found) == 10
    assert "Seq Scan" not in session.plans
    assert "Sort" not in session.plans or tenant is not None


async def test_a_bulk_action_changes_its_rows_by_their_ids(session: Explaining) -> None:
    decisions: tuple[Action, ...] = ("park", "retry", "drop")
    for what in decisions:
        await bulk.apply_chunk(session, BulkAction(what, Filter(RARE), "ann@desk", "x"), RowId(0), AuditId(7))
        assert "walk" not in (ways := session.taken())
        assert "pkey" in ways


async def test_counts_by_time_are_read_and_deleted_along_their_key(session: Explaining) -> None:
    await session.execute("""
        INSERT INTO relay_activity (span, start, tenant_id, source, delivered)
        SELECT 60, 60 * minute, 'T' || tenant, 'a', 1
        FROM generate_series(1, 120) minute, generate_series(1, 200) tenant""")
    await session.execute("ANALYZE relay_activity")
    starts, tenants = [60 * minute for minute in range(1, 61)], [TenantId("T7"), TenantId("T8")]
    session.taken()
    assert len(await activity.activity(session, MINUTES, starts, tenants)) == 120
    assert len(await activity.deliveries(session, MINUTES, starts, tenants)) == 2
    (plan,) = await session.connection.fetch(
        "EXPLAIN (FORMAT JSON) " + session.names.within(activity.PRUNE.format(beyond="<")), 60, 100, 10
    )
    plans = session.plans + plan[0]
    assert "relay_activity_pkey" in plans
    assert "Seq Scan" not in plans
