"""This file is what operators meet on PostgreSQL beyond the contract: settlements in the very same moment."""

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest

from relay.core.admin import Action, BulkAction, Filter
from relay.core.model import Delivered, DocumentName, Draft, MessageId, TenantId
from relay.outbox import StoredOutbox, open_outbox
from tests.contract.stores import park, retry, until
from tests.support.postgres import Cluster, connected

ACME = TenantId("ACME_PRD")
ORDER = DocumentName("Sync.SalesOrder")

WAITING = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%relay_outbox%'
"""


@pytest.fixture
async def url(postgres: Cluster) -> AsyncIterator[str]:
    """A fresh outbox."""
    async with postgres.outbox() as url:
        yield url


@pytest.fixture
async def outbox(url: str) -> AsyncIterator[StoredOutbox]:
    """It, with two messages."""
    outbox = await open_outbox(url)
    await outbox.add([Draft(ACME, ORDER, b"x", MessageId(name)) for name in ("a", "b")])
    yield outbox
    await outbox.close()


async def states(outbox: StoredOutbox) -> dict[str, str]:
    return {record.message_id: record.state for record in await outbox.find(Filter(), 10)}


@pytest.mark.parametrize("decision", ["drop", "park", "retry"])
async def test_what_is_delivered_while_a_person_decides_stays_delivered(
    url: str, outbox: StoredOutbox, decision: Action
) -> None:
    """The decision waits for the settlement's commit, looks again, and leaves that message alone."""
    async with connected(url) as settling, connected(url) as looking:
        transaction = settling.transaction()
        await transaction.start()
        await settling.execute("UPDATE relay_outbox SET state = 'delivered' WHERE message_id = 'a'")
        deciding = asyncio.ensure_future(outbox.decide(BulkAction(decision, Filter(ACME), "ann@desk", "x")))
        await until(lambda: waiting(looking), lambda number: number == 1)
        await transaction.commit()
        assert await deciding == 1
    assert await states(outbox) == {
        "a": "delivered",
        "b": {"drop": "dropped", "park": "parked", "retry": "pending"}[decision],
    }
    (record,) = await outbox.show(MessageId("a"), ACME)
    assert record.history == ()


async def test_decisions_and_settlements_of_the_same_rows_end_whoever_is_first(outbox: StoredOutbox) -> None:
    """What collides is tried again; and the truth is that they are delivered."""
    await outbox.add([Draft(ACME, ORDER, b"x") for _ in range(300)])
    found = await outbox.due(ACME, {ORDER}, frozenset(), frozenset(), 1000, 100_000)
    pairs = [(message.row, Delivered()) for message in found]
    async with asyncio.timeout(30):
        await asyncio.gather(
            *(outbox.settle(pairs[::-1][start : start + 100]) for start in range(0, 302, 100)),
            *(park(outbox, Filter(ACME), "x") for _ in range(3)),
            *(retry(outbox, Filter(ACME)) for _ in range(3)),
        )
    assert set((await states(outbox)).values()) == {"delivered"}
    assert (await outbox.counts())[ACME].delivered == 302


async def waiting(connection: "asyncpg.Connection[asyncpg.Record]") -> int:
    """How many wait for a lock just now."""
    return int(await connection.fetchval(WAITING))
