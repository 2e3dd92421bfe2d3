"""This file is what the outbox on PostgreSQL promises beyond the contract: applications, news, plans, leases."""

import asyncio
import re

import pytest

from relay.core.model import Delivered, Parked, RowId
from relay.core.ports import Notification
from relay.outbox.postgres import change_watch, due, settle, tenants
from relay.outbox.postgres.connection import StoreConnection
from relay.outbox.postgres.leases import ReadFences
from relay.outbox.values import WINDOW
from tests.contract.stores import until
from tests.support.pgstore import (
    ACME,
    ORDER,
    PATIENCE,
    TERMINATE,
    Open,
    draft,
    in_the_end,
    leases_of,
    listening,
    messages,
    mode_of,
    texts,
)
from tests.support.postgres import Cluster, connected

# --- applications ---------------------------------------------------------------------------------


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
        await outbox.settle([(early.row, Delivered())])
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
    await outbox.settle([(message.row, Delivered()) for message in (await messages(outbox))[:4]])
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


# --- news -----------------------------------------------------------------------------------------


async def test_an_insert_notifies_once_a_transaction_and_not_at_all_where_it_is_switched_off(
    postgres: Cluster, url: str
) -> None:
    heard: list[str] = []
    statement = "INSERT INTO relay_outbox (tenant_id, document_name, payload) VALUES ('ACME_PRD', 'D', 'x'), ('B', 'D', 'x')"
    async with connected(url) as listener, connected(url) as producer:
        await listener.add_listener("relay_outbox", lambda *about: heard.append(about[3]))
        async with producer.transaction():
            await producer.execute("SET LOCAL relay.notify = off")
            await producer.execute(statement)
        async with producer.transaction():
            await producer.execute(statement)
            await producer.execute(statement)
        await producer.execute("NOTIFY relay_outbox, 'end'")
        async with asyncio.timeout(PATIENCE):
            while "end" not in heard:
                await listener.execute("SELECT 1")
    assert heard == ["", "end"]


async def test_without_notify_it_looks_by_itself(
    url: str, opened_there: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(change_watch, "POLL_SECONDS", 0.02)
    outbox = await opened_there(url, notify=False)
    await outbox.arrivals(0)
    async with connected(url) as connection:
        await connection.execute(
            "INSERT INTO relay_outbox (tenant_id, document_name, payload) VALUES ('ACME_PRD', 'D', 'x')"
        )
    async with asyncio.timeout(PATIENCE):
        assert (await outbox.arrivals(3600)).pending == {ACME}
    assert outbox.mode == "poll"


async def test_where_notifications_are_switched_off_in_the_database_it_does_not_wait_for_any(
    url: str, opened_there: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It listens, hears nothing of its own either, and goes on looking often."""
    monkeypatch.setattr(change_watch, "ANSWER_SECONDS", 0.2)
    monkeypatch.setattr(change_watch, "_REST_SECONDS", 0.01)
    async with connected(url) as connection:
        name = await connection.fetchval("SELECT quote_ident(current_database())")
        await connection.execute(f"ALTER DATABASE {name} SET relay.notify = off")
        outbox = await opened_there(url)
        await outbox.arrivals(0.5)
        assert outbox.mode == "poll"
        await connection.execute(f"ALTER DATABASE {name} RESET relay.notify")
        await connection.execute(TERMINATE)
    await in_the_end(lambda: listening(outbox))


@pytest.mark.parametrize(("slow", "rests"), [("one", False), ("all", True)])
async def test_after_a_look_none_for_a_few_times_as_long_as_looks_take_by_themselves(
    url: str, opened_there: Open, monkeypatch: pytest.MonkeyPatch, slow: str, rests: bool
) -> None:
    """One that waited for this process' own loop puts off nothing; where all take 0.2 s, it rests for a second."""
    outbox, now = await opened_there(url), asyncio.get_running_loop().time
    usual = tenants.notification

    async def slowly(session: StoreConnection) -> Notification:
        await asyncio.sleep(0.2)
        return await usual(session)

    if slow == "one":
        await outbox.notification()
    monkeypatch.setattr(tenants, "notification", slowly)
    await outbox.notification()
    monkeypatch.setattr(tenants, "notification", usual)
    began = now()
    await outbox.arrivals(30)  # the first one comes back as soon as it may look
    assert (now() - began >= 0.9) == rests


async def test_after_the_listening_connection_was_lost_it_listens_again_and_looks_first(
    url: str, opened_there: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(change_watch, "_REST_SECONDS", 0.01)
    outbox = await opened_there(url)
    await listening(outbox)
    async with connected(url) as connection:
        await connection.execute(TERMINATE)
    await until(mode_of(outbox), lambda mode: mode == "poll", PATIENCE)
    await in_the_end(lambda: listening(outbox))


# --- plans ----------------------------------------------------------------------------------------


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
        rows = [message.row for message in await messages(outbox)]
        nothing: list[object] = [[], False, [], 0, 128, WINDOW + 128]
        asked: list[tuple[str, list[object], set[str]]] = [
            (due._IDS, [ACME, [ORDER], *nothing], {"relay_outbox_lanes", "relay_outbox_keyed"}),
            (due._IN_LANES, [ACME, ORDER, ["k2", "k4"], [], 0, 128], {"relay_outbox_lanes"}),
            (due._LANES, [ACME, ORDER, 100], {"relay_outbox_lanes"}),
            (due._DOCUMENTS, [ACME], {"relay_outbox_lanes"}),
            (due._MESSAGES, [rows, 1 << 20], {"relay_outbox_pkey"}),
            (tenants._NOTIFICATION, [0], {"relay_outbox_lanes"}),
            (settle._DELIVERED, [rows, [None] * len(rows), None], {"relay_outbox_pkey"}),
            (settle._PRUNE, [3600.0, 100], {"relay_outbox_settled", "relay_outbox_pkey"}),
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
        values = [[message.row], [None], None, ["HTTP 500"], [True], [60.0]]
        await connection.execute(settle._RELEASED, *values)
        hot = "SELECT pg_stat_get_xact_tuples_hot_updated('relay_outbox'::regclass)"
        assert await connection.fetchval(hot) == 1


# --- leases ---------------------------------------------------------------------------------------


async def test_a_stale_holder_settles_nothing_and_its_successor_does(url: str, opened_there: Open) -> None:
    """The stale one has not noticed yet: it asks nothing between what it read and what it settles."""
    stale, next_one = await opened_there(url, lease_seconds=0.2), await opened_there(url)
    await stale.add([draft("a"), draft("b")])
    await leases_of(stale).renew()
    await leases_of(stale).acquire([ACME])
    first, second = await messages(stale)
    await leases_of(next_one).renew()
    await until(lambda: leases_of(next_one).acquire([ACME]), lambda taken: taken == {ACME}, PATIENCE)
    await stale.settle([(first.row, Delivered()), (second.row, Parked("no"))])
    assert await texts(next_one) == ["a", "b"]
    await next_one.settle([(message.row, Delivered()) for message in await messages(next_one)])
    assert await texts(next_one) == []
    assert (await leases_of(stale).renew()).held == frozenset()


async def test_a_holder_that_renews_while_another_takes_over_either_keeps_all_or_has_lost_it(
    url: str, opened_there: Open
) -> None:
    """The takeover locks the dead holder's row: its renewal waits for the outcome, then tells the truth."""
    sleeper, taker = await opened_there(url, lease_seconds=0.05), await opened_there(url)
    await leases_of(sleeper).renew()
    await leases_of(sleeper).acquire([ACME])
    await leases_of(taker).renew()
    for _ in range(30):
        await asyncio.sleep(0.06)
        standing, taken = await asyncio.gather(leases_of(sleeper).renew(), leases_of(taker).acquire([ACME]))
        assert (ACME in standing.held) != (ACME in taken)
        if taken:
            return


async def test_settlements_of_rows_that_are_gone_do_nothing_under_leases(
    url: str, opened_there: Open
) -> None:
    outbox = await opened_there(url)
    await leases_of(outbox).renew()
    await outbox.settle([(RowId(99), Delivered()), (RowId(98), Parked("x"))])


def test_of_what_was_read_only_what_may_still_be_settled_is_remembered() -> None:
    """A tenant that is read a million times costs no more than its flight."""
    read_fences = ReadFences()
    read_fences.note(ACME, frozenset(), [RowId(1), RowId(2), RowId(3)], 7)
    read_fences.note(ACME, frozenset({RowId(2)}), [RowId(4)], 8)
    assert read_fences.of([RowId(row) for row in range(9)]) == {2: 7, 4: 8}
    read_fences.note(ACME, frozenset(), [], 9)
    assert read_fences.of([RowId(2), RowId(4)]) == {}
