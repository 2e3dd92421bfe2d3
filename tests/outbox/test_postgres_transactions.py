"""Transactions on PostgreSQL beyond the contract: late commits, concurrent producers, counters, plans of a worker."""

import re
from datetime import UTC, datetime

from relay.core.model import Delivered
from relay.outbox.postgres import due, retention, settle, tenants
from relay.outbox.values import WINDOW
from tests.support.pgstore import (
    ACME,
    ORDER,
    Open,
    draft,
    messages,
    texts,
)
from tests.support.postgres import connected

NEVER = datetime.min.replace(tzinfo=UTC)


async def test_a_transaction_that_commits_late_is_not_skipped(url: str, opened_there: Open) -> None:
    """Its id is lower than what was delivered meanwhile; order is by id among what is visible."""
    outbox = await opened_there(url)
    async with connected(url) as connection:
        late = connection.transaction()
        await late.start()
        await connection.execute(
            "INSERT INTO relay_outbox (tenant_id, document_name, ordering_key, payload) "
            "VALUES ('ACME_PRD', 'Sync.SalesOrder', 'k', 'late')"
        )
        await outbox.add([draft("early", "k"), draft("behind", "k")])
        early, behind = await messages(outbox)
        await outbox.settle([(early.key, Delivered())])
        await late.commit()
    late_one, same = await messages(outbox)
    assert late_one.payload == b"late"
    assert late_one.row < early.row < same.row == behind.row


async def test_producers_do_not_wait_for_each_other(url: str) -> None:
    """Counting is appending: no row of the outbox is shared by two transactions."""
    statement = "INSERT INTO relay_outbox (tenant_id, document_name, payload) VALUES ('ACME_PRD', 'D', 'x')"
    async with connected(url) as first, connected(url) as second:
        open_one = first.transaction()
        await open_one.start()
        await first.execute(statement)
        await second.execute(f"SET statement_timeout = '5s'; {statement}")
        await open_one.rollback()


async def test_counts_stay_right_however_they_are_folded(url: str, opened_there: Open) -> None:
    outbox = await opened_there(url)
    for i in range(6):
        await outbox.add([draft(f"{i}")])
    await outbox.settle([(message.key, Delivered()) for message in (await messages(outbox))[:4]])
    async with connected(url) as connection:
        assert await connection.fetchval("SELECT count(*) FROM relay_counts") > 1
        before = await outbox.counts()
        await outbox.beat("relay-1", {})
        assert await connection.fetchval("SELECT count(*) FROM relay_counts") == 1
        after = await outbox.counts()
        assert (after[ACME].pending, after[ACME].delivered) == (2, 4)
        assert (before[ACME].pending, before[ACME].delivered) == (2, 4)
        await connection.execute("TRUNCATE relay_outbox")
        assert await outbox.counts() == {}


async def test_many_delivered_rows_cost_a_worker_nothing_even_with_stale_statistics(
    url: str, opened_there: Open
) -> None:
    """1,000 pending rows behind many delivered ones, analysed when all of them were pending still."""
    outbox = await opened_there(url)
    async with connected(url) as connection:
        await connection.execute("ALTER TABLE relay_outbox SET (autovacuum_enabled = off)")
        await connection.execute(
            "INSERT INTO relay_outbox (tenant_id, document_name, payload, ordering_key) "
            "SELECT 'ACME_PRD', 'Sync.SalesOrder', 'x', CASE WHEN n % 2 = 0 THEN 'k' || n % 20 END "
            "FROM generate_series(1, 60000) n"
        )
        await connection.execute("ANALYZE relay_outbox")
        await connection.execute(
            "UPDATE relay_outbox SET state = 'delivered', settled_at = now() WHERE id <= 59000"
        )
        await texts(outbox)  # whoever reads first marks the dead entries of the index
        found = await messages(outbox)
        rows, ids = [message.row for message in found], [message.message_id for message in found]
        tenants_, fences = [ACME] * len(rows), [None] * len(rows)
        released = [fences, ["HTTP 500"] * len(rows), [True] * len(rows), [1.0] * len(rows)]
        nothing: list[object] = [[], False, [], 0, 128, WINDOW + 128]
        asked: list[tuple[str, list[object], set[str]]] = [
            (due._IDS, [ACME, [ORDER], *nothing], {"relay_outbox_lanes", "relay_outbox_keyed"}),
            (due._IN_LANES, [ACME, ORDER, ["k2", "k4"], [], 0, 128], {"relay_outbox_lanes"}),
            (due._LANES, [ACME, ORDER, 100], {"relay_outbox_lanes"}),
            (due._DOCUMENTS, [ACME], {"relay_outbox_lanes"}),
            (due._MESSAGES, [rows, 1 << 20, 1 << 20], {"relay_outbox_pkey"}),
            (tenants._NOTIFICATION, [0], {"relay_outbox_lanes"}),
            (settle._DELIVERED, [rows, ids, tenants_, fences, None], {"relay_outbox_pkey"}),
            (settle._RELEASED, [rows, ids, tenants_, fences, None, *released], {"relay_outbox_pkey"}),
            (retention._SETTLED, [NEVER, 0, 3600.0, 100], {"relay_outbox_settled"}),
            (retention._DELETE, [rows], {"relay_outbox_pkey"}),
            (retention._PURGE, [rows], {"relay_outbox_pkey"}),
        ]
        for statement, values, indexes in asked:
            plan = await connection.fetch(f"EXPLAIN {statement}", *values)
            text = "\n".join(line for (line,) in plan)
            assert "Seq Scan on relay_outbox" not in text, text
            assert indexes_in(text) == indexes, text


def indexes_in(plan: str) -> set[str]:
    """Of the outbox itself."""
    return set(re.findall(r"Scan (?:Backward )?(?:using|on) (relay_outbox_[a-z]+)", plan))


async def test_a_release_is_rewritten_in_place(url: str, opened_there: Open) -> None:
    """No index has an entry for what a release changes."""
    outbox = await opened_there(url)
    await outbox.add([draft()])
    (message,) = await messages(outbox)
    async with connected(url) as connection, connection.transaction():
        values = [[message.row], [message.message_id], [ACME], [None], None]
        values += [[None], ["HTTP 500"], [True], [60.0]]
        await connection.execute(settle._RELEASED, *values)
        hot = "SELECT pg_stat_get_xact_tuples_hot_updated('relay_outbox'::regclass)"
        assert await connection.fetchval(hot) == 1
