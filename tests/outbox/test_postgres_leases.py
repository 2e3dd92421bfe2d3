"""Leases on PostgreSQL beyond the contract: fencing against a stale holder, races of renewal and takeover."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from relay.core.model import Delivered, MessageId, MessageKey, Parked, RowId, TenantId
from relay.core.ports import NotSettled
from relay.outbox.postgres.late_holders import AheadHolder, LateHolders
from relay.outbox.postgres.leases import ReadFences
from tests.contract.stores import until
from tests.support.pgstore import ACME, PATIENCE, Open, draft, leases_of, messages, texts
from tests.support.postgres import connected


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


# --- the database's clock goes back -----------------------------------------------------------------


async def _clock_goes_back(url: str) -> None:
    """For whoever compares, all that was written lies an hour farther ahead than when it was written."""
    async with connected(url) as connection:
        await connection.execute("UPDATE relay_holders SET until = until + interval '1 hour'")


async def test_the_clock_goes_back_and_a_dead_holder_is_taken_over(url: str, opened_there: Open) -> None:
    """Not an hour later: once it has not renewed for as long as its lease lasts."""
    dead, heir = await opened_there(url, lease_seconds=0.2), await opened_there(url)
    await leases_of(dead).renew()
    await leases_of(dead).acquire([ACME])
    await _clock_goes_back(url)

    async def taken() -> tuple[frozenset[TenantId], int]:
        alive = (await leases_of(heir).renew()).relays
        return await leases_of(heir).acquire([ACME]), len(alive)

    assert await until(taken, lambda found: found[0] == {ACME}, PATIENCE) == (frozenset({ACME}), 1)
    assert (await leases_of(dead).renew()).held == frozenset()


async def test_the_clock_goes_back_and_a_holder_that_renews_keeps_all(url: str, opened_there: Open) -> None:
    holder, other = await opened_there(url, lease_seconds=0.2), await opened_there(url)
    await leases_of(holder).renew()
    await leases_of(holder).acquire([ACME])
    await leases_of(other).renew()
    await _clock_goes_back(url)
    assert len((await leases_of(other).renew()).relays) == 2
    assert await leases_of(other).acquire([ACME]) == frozenset()
    assert (await leases_of(holder).renew()).held == {ACME}


async def test_an_ended_holder_that_renews_before_it_is_taken_over_keeps_all(
    url: str, opened_there: Open
) -> None:
    """It was slow, not dead: who takes over looks again, under a lock."""
    slow, heir = await opened_there(url, lease_seconds=0.1), await opened_there(url)
    await leases_of(slow).renew()
    await leases_of(slow).acquire([ACME])
    await _clock_goes_back(url)

    async def relays() -> int:
        return len((await leases_of(heir).renew()).relays)

    await until(relays, lambda alive: alive == 1, PATIENCE)
    async with connected(url) as connection:
        renewed = "UPDATE relay_holders SET until = clock_timestamp() + interval '1 hour' WHERE seconds < 1"
        await connection.execute(renewed)
    assert await leases_of(heir).acquire([ACME]) == frozenset()


LONG_AGO = datetime(2026, 11, 24, tzinfo=UTC)


def test_a_holder_has_ended_when_it_did_not_renew_for_as_long_as_its_lease_lasts() -> None:
    """The time of a question counts from after its first answer, and to before its last one."""
    now = 100.0
    late = LateHolders(lambda: now)
    one, other = AheadHolder("t1", "a", LONG_AGO, 15.0), AheadHolder("t2", "b", LONG_AGO, 30.0)
    asked, now = late.asked(), 101.0
    late.seen([one, other], asked)
    now = 115.9
    late.seen([one, other], late.asked())
    assert late.ended == frozenset()
    asked, now = 116.0, 140.0
    late.seen([one, other], asked)
    assert late.ended == {one}
    renewed = replace(one, until=LONG_AGO + timedelta(seconds=1))
    late.seen([renewed, other], late.asked())
    assert late.ended == {other}, "who renewed is alive"
    late.seen([], late.asked())
    assert late.ended == frozenset()


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
