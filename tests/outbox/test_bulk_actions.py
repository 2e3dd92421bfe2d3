"""Bulk actions beside what happens at the same moment: arrivals, settlements, other bulk actions."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from datetime import datetime
from pathlib import Path
from sqlite3 import Connection, OperationalError, connect
from typing import Any

import asyncpg
import pytest

from relay.core.admin import Action, BulkAction, Filter
from relay.core.model import Delivered, DocumentName, Draft, MessageId, TenantId
from relay.outbox import StoredOutbox, open_outbox
from relay.outbox import bulk as bulk_rules
from relay.outbox.sqlite import bulk, selection
from relay.outbox.sqlite.instants import parse_instant
from tests.contract.stores import park, retry, until
from tests.outbox.conftest import Opener
from tests.support.postgres import connected

ACME = TenantId("ACME_PRD")
ORDER = DocumentName("Sync.SalesOrder")

WAITING = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%relay_outbox%'
"""

# --- SQLite ---------------------------------------------------------------------------------------


async def test_an_action_applies_to_the_messages_that_are_there_when_it_begins(
    opened: Opener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many arrive while it advances, a chunk at a time."""
    outbox = await opened(tmp_path / "relay.db")
    await outbox.add([Draft(ACME, ORDER, b"x") for _ in range(3)])
    monkeypatch.setattr(bulk, "CHUNK", 1)
    monkeypatch.setattr(bulk, "apply_chunk", with_an_arrival(bulk.apply_chunk))
    async with asyncio.timeout(10):
        assert await park(outbox, Filter(tenant=ACME), "x") == 3
    count = (await outbox.counts())[ACME]
    assert (count.parked, count.pending > 0) == (3, True)


def with_an_arrival(chunk: Callable[..., bulk_rules.ChunkResult]) -> Callable[..., bulk_rules.ChunkResult]:
    def chunk_then_insert(connection: Connection, *arguments: Any) -> bulk_rules.ChunkResult:
        done = chunk(connection, *arguments)
        connection.execute(
            "INSERT INTO relay_outbox (tenant_id, document_name, payload) VALUES ('ACME_PRD', 'A', 'x')"
        )
        return done

    return chunk_then_insert


async def test_whatever_comes_after_a_moment_has_a_later_instant(opened: Opener, tmp_path: Path) -> None:
    """Though the clock has only milliseconds."""
    outbox = await opened(tmp_path / "relay.db")

    def read(connection: Connection) -> tuple[datetime, datetime]:
        then = selection.moment(connection)
        (now,) = connection.execute("SELECT strftime('%Y-%m-%dT%H:%M:%fZ', 'now')").fetchone()
        return then.at, parse_instant(now)

    for _ in range(20):
        then, now = await outbox._database.read(read)
        assert then < now


async def test_a_writer_holds_the_lock_from_its_first_read(opened: Opener, tmp_path: Path) -> None:
    """A reader that only then requests the lock fails at once if another one wrote between, whatever the time-out."""
    path = tmp_path / "relay.db"
    outbox = await opened(path)

    def read_then_write(connection: Connection) -> None:
        connection.execute("SELECT count(*) FROM relay_outbox").fetchone()
        with (
            contextlib.closing(connect(path, timeout=0)) as other,
            pytest.raises(OperationalError, match="locked"),
        ):
            other.execute("DELETE FROM relay_outbox")

    await outbox._database.write(read_then_write)


# --- PostgreSQL -----------------------------------------------------------------------------------


@pytest.fixture
async def outbox(url: str) -> AsyncIterator[StoredOutbox]:
    """It, with two messages."""
    outbox = await open_outbox(url)
    await outbox.add([Draft(ACME, ORDER, b"x", MessageId(name)) for name in ("a", "b")])
    yield outbox
    await outbox.close()


async def states(outbox: StoredOutbox) -> dict[str, str]:
    return {record.message_id: record.state for record in await outbox.find(Filter(), 10)}


@pytest.mark.parametrize("action", ["drop", "park", "retry"])
async def test_what_is_delivered_during_a_bulk_action_stays_delivered(
    url: str, outbox: StoredOutbox, action: Action
) -> None:
    """The action waits for the settlement's commit, checks again, and skips that message."""
    async with connected(url) as settling, connected(url) as watching:
        transaction = settling.transaction()
        await transaction.start()
        await settling.execute("UPDATE relay_outbox SET state = 'delivered' WHERE message_id = 'a'")
        acting = asyncio.ensure_future(outbox.decide(BulkAction(action, Filter(ACME), "ann@desk", "x")))
        await until(lambda: waiting(watching), lambda number: number == 1)
        await transaction.commit()
        assert await acting == 1
    assert await states(outbox) == {
        "a": "delivered",
        "b": {"drop": "dropped", "park": "parked", "retry": "pending"}[action],
    }
    (record,) = await outbox.show(MessageId("a"), ACME)
    assert record.history == ()


async def test_bulk_actions_and_settlements_of_the_same_rows_end_whoever_is_first(
    outbox: StoredOutbox,
) -> None:
    """Collisions are retried; in the end all messages are delivered."""
    await outbox.add([Draft(ACME, ORDER, b"x") for _ in range(300)])
    found = await outbox.due(ACME, {ORDER}, frozenset(), frozenset(), 1000, 100_000)
    pairs = [(message.key, Delivered()) for message in found]
    async with asyncio.timeout(30):
        await asyncio.gather(
            *(outbox.settle(pairs[::-1][start : start + 100]) for start in range(0, 302, 100)),
            *(park(outbox, Filter(ACME), "x") for _ in range(3)),
            *(retry(outbox, Filter(ACME)) for _ in range(3)),
        )
    assert set((await states(outbox)).values()) == {"delivered"}
    assert (await outbox.counts())[ACME].delivered == 302


async def waiting(connection: "asyncpg.Connection[asyncpg.Record]") -> int:
    """How many wait for a lock now."""
    return int(await connection.fetchval(WAITING))
