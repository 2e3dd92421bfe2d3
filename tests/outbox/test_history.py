"""A message's history is bounded, and is deleted with the message, on both stores."""

import asyncio

from relay.core.model import Delivered, Released
from relay.outbox import SqliteOutbox, StoredOutbox
from relay.outbox.values import HISTORY_KEPT
from tests.support.keys import key_of
from tests.support.pgstore import draft


async def test_a_message_that_waits_for_weeks_keeps_its_latest_entries(stored: StoredOutbox) -> None:
    (message_id,) = await stored.add([draft()])
    (record,) = await stored.show(message_id, None)
    await stored.settle([(key_of(record), Released(f"{i}")) for i in range(HISTORY_KEPT + 20)])
    (record,) = await stored.show(message_id, None)
    assert [detail for _, _, detail in record.history] == [f"{i}" for i in range(20, HISTORY_KEPT + 20)]


async def test_a_pruned_messages_history_is_deleted_with_it(stored: StoredOutbox) -> None:
    (message_id,) = await stored.add([draft()])
    (record,) = await stored.show(message_id, None)
    await stored.settle([(key_of(record), Released("HTTP 503"))])
    await stored.settle([(key_of(record), Delivered())])
    assert await count_history(stored) == 2
    async with asyncio.timeout(5):
        while not await stored.prune(0, 10):
            pass
    assert await count_history(stored) == 0


async def count_history(stored: StoredOutbox) -> int:
    """Of all messages, also of those that are gone."""
    statement = "SELECT count(*) FROM relay_history"
    if isinstance(stored, SqliteOutbox):
        (found,) = await stored._database.read(lambda connection: connection.execute(statement).fetchone())
        return int(found)
    return int(await stored._database.read(lambda session: session.fetchval(statement)))
