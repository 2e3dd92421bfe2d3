"""An outbox that answers slowly delays a message by its own time only, in virtual time."""

import asyncio
from contextlib import suppress

from relay.core.model import Draft, TenantId
from tests.simulation.harness import ORDER, World, constant
from tests.support.virtual import run

READING = 1.0
"""Seconds of a read."""


async def notify_constantly(world: World) -> None:
    """Another tenant's messages arrive all the time: ten notifications during each read."""
    while True:
        world.outbox.insert(Draft(TenantId("OTHER"), ORDER, b"x"))
        await asyncio.sleep(READING / 10)


def test_notifications_for_others_do_not_delay_the_slow_start() -> None:
    """During slow start posts begin between two reads, and each notification asks for another read."""

    async def scene() -> None:
        world = World(constant())
        world.outbox.reading_lag = READING
        await world.start()
        storm = asyncio.create_task(notify_constantly(world))
        world.insert(*"abcd")
        await world.until(lambda: len(world.arrived()) == 4, within=4 * READING)
        storm.cancel()
        with suppress(asyncio.CancelledError):
            await storm
        await world.stop()

    run(scene())


def test_a_message_that_was_read_does_not_wait_for_the_second_query() -> None:
    """The names of the waiting documents are queried after it."""

    async def scene() -> None:
        world = World(constant())
        await world.start()
        world.insert(*"abcdefghijklmnop")
        await world.all_settled()
        world.outbox.naming_lag = 30.0
        world.insert("z")
        await world.until(lambda: len(world.arrived()) == 17, within=5.0)
        await world.stop()

    run(scene())
