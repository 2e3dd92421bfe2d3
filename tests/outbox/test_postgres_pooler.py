"""The outbox through PgBouncer in transaction mode: no call relies on the session of the one before."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from relay.core.admin import Count, Filter
from relay.core.model import Delivered, DocumentName, Draft, MessageId, Parked, Released, Settlement, TenantId
from relay.outbox import StoredOutbox, open_outbox
from relay.outbox.postgres import PostgresOutbox
from relay.outbox.postgres.connection import StoreConnection
from tests.contract.stores import park, retry
from tests.support.pooler import pooled
from tests.support.postgres import Cluster

ORDER = DocumentName("Sync.SalesOrder")
TENANTS = [TenantId(f"TENANT_{number}") for number in range(6)]
EACH = 30


@pytest.fixture
async def relays(postgres: Cluster) -> AsyncIterator[list[StoredOutbox]]:
    """Six relays on two connections to the server: each call may get another one."""
    async with postgres.outbox() as url:
        with pooled(url, size=2) as through:
            made = [await open_outbox(through, notify=False, lease_seconds=15.0) for _ in TENANTS]
            yield made
            for outbox in made:
                await outbox.close()


async def deliver_all(outbox: StoredOutbox, tenant: TenantId) -> None:
    """All that a relay does with its messages, call by call."""
    leases = outbox.leases
    assert leases is not None
    await outbox.beat(f"relay of {tenant}", {"version": "1"})
    await leases.renew()
    assert await leases.acquire([tenant]) == {tenant}
    drafts = [Draft(tenant, ORDER, f"{tenant} {i}".encode(), MessageId(f"{i}")) for i in range(EACH)]
    for draft in drafts:
        await outbox.add([draft])
    assert await outbox.documents(tenant) == {ORDER}
    fates: list[Settlement] = [Delivered(), Released("HTTP 500", True, 60.0), Parked("HTTP 400")]
    for i in range(EACH):
        found = await outbox.due(tenant, {ORDER}, frozenset(), frozenset(), EACH, 100_000)
        (message,) = [message for message in found if message.message_id == f"{i}"]
        assert message.payload == f"{tenant} {i}".encode()
        await outbox.settle([(message.key, fates[i % 3])])
    await leases.renew()
    await leases.release([tenant])
    await outbox.leave(f"relay of {tenant}")


async def test_relays_that_share_a_few_connections_do_not_get_in_each_others_way(
    relays: list[StoredOutbox],
) -> None:
    async with asyncio.timeout(60):
        await asyncio.gather(*map(deliver_all, relays, TENANTS))
    counts = await relays[0].counts()
    assert set(counts) == set(TENANTS)
    for count in counts.values():
        assert (count.delivered, count.pending, count.parked) == (EACH // 3, EACH // 3, EACH // 3)


async def test_operators_work_through_it_too(relays: list[StoredOutbox]) -> None:
    async def decide(outbox: StoredOutbox, tenant: TenantId) -> None:
        await outbox.add([Draft(tenant, ORDER, b"x", MessageId(f"{tenant} {i}")) for i in range(EACH)])
        assert await park(outbox, Filter(tenant), "later") == EACH
        assert len(await outbox.find(Filter(tenant, state="parked"), 100)) == EACH
        assert await retry(outbox, Filter(tenant)) == EACH
        (record,) = await outbox.show(MessageId(f"{tenant} 7"), tenant)
        assert [what for _, what, _ in record.history] == ["parked", "retried"]
        await outbox.pause(tenant, "holidays")
        assert (await outbox.notification()).controls[tenant].paused == "holidays"

    async with asyncio.timeout(60):
        await asyncio.gather(*map(decide, relays, TENANTS))
    counts = await relays[0].counts()
    assert {tenant: count.pending for tenant, count in counts.items()} == dict.fromkeys(TENANTS, EACH)
    assert counts[TENANTS[0]] != Count()


async def test_changes_are_found_by_polling(relays: list[StoredOutbox]) -> None:
    await relays[0].arrivals(0)
    waiting = asyncio.create_task(relays[0].arrivals(60))
    await relays[1].add([Draft(TENANTS[0], ORDER, b"x")])
    async with asyncio.timeout(10):
        assert (await waiting).pending == {TENANTS[0]}


async def test_statements_are_kept_straight_on_the_server_and_nowhere_behind_a_pooler(
    postgres: Cluster,
) -> None:
    async def after_some_calls(url: str) -> list[str]:
        """What the one session of the server keeps."""
        outbox = await open_outbox(url, notify=False)
        assert isinstance(outbox, PostgresOutbox)
        for _ in range(3):
            assert await outbox.due(TENANTS[0], {ORDER}, frozenset(), frozenset(), 1, 1) == []
        rows = await outbox._database.read(
            lambda session: session.connection.fetch(
                "SELECT statement, generic_plans FROM pg_prepared_statements"
            )
        )
        await outbox.close()
        assert not any(row["generic_plans"] for row in rows)
        return [row["statement"] for row in rows if "relay_outbox" in row["statement"]]

    async with postgres.outbox() as url:
        kept = await after_some_calls(url)
        assert len(kept) == len(set(kept)) > 0
        with pooled(url, size=1) as through:
            assert await after_some_calls(through) == []


async def test_a_statement_that_was_lost_costs_one_more_try_and_then_none_is_kept(postgres: Cluster) -> None:
    """A pooler that shares connections and repeats the server's own number could be taken for the server."""
    async with postgres.outbox() as url:
        outbox = await open_outbox(url, notify=False)
        assert isinstance(outbox, PostgresOutbox)

        async def kept(sql: str = "") -> tuple[int, int]:
            """By which session, and how many."""

            async def ask(session: StoreConnection) -> tuple[int, int]:
                if sql:
                    await session.connection.execute(sql)
                count = await session.fetchval("SELECT count(*) FROM pg_prepared_statements")
                return session.connection.get_server_pid(), count

            return await outbox._database.read(ask)

        await outbox.documents(TENANTS[0])
        first, before = await kept()
        assert before > 0
        await kept("DEALLOCATE ALL")
        for _ in range(3):
            assert await outbox.documents(TENANTS[0]) == frozenset()
        assert await kept() == (first, 0)
        await outbox.close()
