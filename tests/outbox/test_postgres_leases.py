"""Leases on PostgreSQL beyond the contract: fencing against a stale holder, races of renewal and takeover."""

import asyncio

from relay.core.model import Delivered, MessageId, MessageKey, Parked, RowId
from relay.core.ports import NotSettled
from relay.outbox.postgres.leases import ReadFences
from tests.contract.stores import until
from tests.support.pgstore import ACME, PATIENCE, Open, draft, leases_of, messages, texts


async def test_a_stale_holder_settles_nothing_and_its_successor_does(url: str, opened_there: Open) -> None:
    """The stale one has not noticed yet: it calls nothing between reading and settling."""
    stale, next_one = await opened_there(url, lease_seconds=0.2), await opened_there(url)
    await stale.add([draft("a"), draft("b")])
    await leases_of(stale).renew()
    await leases_of(stale).acquire([ACME])
    first, second = await messages(stale)
    await leases_of(next_one).renew()
    await until(lambda: leases_of(next_one).acquire([ACME]), lambda taken: taken == {ACME}, PATIENCE)
    await stale.settle([(first.key, Delivered()), (second.key, Parked("no"))])
    assert await texts(next_one) == ["a", "b"]
    await next_one.settle([(message.key, Delivered()) for message in await messages(next_one)])
    assert await texts(next_one) == []
    assert (await leases_of(stale).renew()).held == frozenset()


async def test_a_holder_that_renews_while_another_takes_over_either_keeps_all_or_has_lost_it(
    url: str, opened_there: Open
) -> None:
    """The takeover locks the dead holder's row: its renewal waits for the outcome, then reports it."""
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
    keys = [MessageKey(RowId(row), ACME, MessageId("m")) for row in (99, 98)]
    assert await outbox.settle([(keys[0], Delivered()), (keys[1], Parked("x"))]) == NotSettled()


def test_of_what_was_read_only_what_may_still_be_settled_is_remembered() -> None:
    """A tenant that is read a million times costs no more than its messages in flight."""
    read_fences = ReadFences()
    read_fences.note(ACME, frozenset(), [RowId(1), RowId(2), RowId(3)], 7)
    read_fences.note(ACME, frozenset({RowId(2)}), [RowId(4)], 8)
    assert read_fences.of([RowId(row) for row in range(9)]) == {2: 7, 4: 8}
    read_fences.note(ACME, frozenset(), [], 9)
    assert read_fences.of([RowId(2), RowId(4)]) == {}
