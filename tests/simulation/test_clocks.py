"""The store's clock is set forward or back, in virtual time: what is due goes, nothing is deleted too early."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from relay.config.settings import Settings
from relay.core.model import Delivered, Draft, MessageId
from relay.core.retry import Schedule
from relay.daemon.clock_watch import JUMP_SECONDS, STEADY_SECONDS, ClockWatch
from relay.daemon.maintenance import Maintenance
from relay.daemon.wiring import maintenance_rules_of
from relay.observability.liveness import Liveness
from relay.observability.logs import logger
from tests.simulation.harness import ACME, EPOCH, ORDER, World, constant, rules_of
from tests.support.memory import MemoryOutbox
from tests.support.virtual import run

HOUR = 3600.0
KEPT = 2 * HOUR
"""What was delivered is kept for so long."""
SOON = 10.0
"""Within which a jump is noticed, and what is due because of it is sent."""


def watch_of(world: World) -> ClockWatch:
    return ClockWatch(world.outbox, logger(), world.now, world.workers.reread, Liveness())


async def until_cancelled(work: Callable[[], Awaitable[None]], scene: Awaitable[None]) -> None:
    """The scene, with this beside it."""
    beside = asyncio.ensure_future(work())
    try:
        await scene
    finally:
        beside.cancel()
        await asyncio.wait({beside})


def row_of(world: World, message_id: str, attempts: int, seconds: float) -> None:
    """The message's row has so many attempts, and may go in so many seconds by the store's clock."""
    (row,) = [row for row in world.outbox.rows if row.message_id == message_id]
    row.attempts, row.not_before = attempts, EPOCH + world.now() + seconds


# --- what is due --------------------------------------------------------------------------------------


@pytest.mark.parametrize("attempts", [0, 3])
def test_what_is_due_by_a_clock_that_went_forward_goes_at_once(attempts: int) -> None:
    """Whether the application asked for that time, or the message backs off: the relay has read it before."""

    async def scene(world: World) -> None:
        (waiting, _) = world.insert("a", "b")
        row_of(world, waiting, attempts, 0.5 * HOUR)
        await world.start()
        await world.until(lambda: len(world.arrived()) == 1, within=60)
        await asyncio.sleep(60)
        world.shift = HOUR
        await world.until(lambda: len(world.arrived()) == 2, within=SOON)
        await world.stop()

    async def within_watch() -> None:
        world = World(constant(), rules_of(ACME, schedule=Schedule(1, HOUR)))
        await until_cancelled(watch_of(world).run, scene(world))

    run(within_watch())


def test_a_clock_that_went_back_while_no_relay_ran_makes_no_pause_longer_than_the_longest() -> None:
    """The back-off was written by the other time; what an application asked for stays what it is."""

    async def scene() -> None:
        world = World(constant(), rules_of(ACME, schedule=Schedule(1, 300)))
        backing_off, asked_for, short = world.insert("a", "b", "c")
        row_of(world, backing_off, 3, HOUR + 200)
        row_of(world, asked_for, 0, HOUR + 200)
        row_of(world, short, 3, 200)
        await world.start()
        await world.until(lambda: backing_off in world.arrived(), within=SOON)
        await world.until(lambda: short in world.arrived(), within=210)
        assert world.now() >= 190
        assert asked_for not in world.arrived()
        await world.until(lambda: asked_for in world.arrived(), within=2 * HOUR)
        await world.stop()

    run(scene())


# --- what is old --------------------------------------------------------------------------------------


class Kept:
    """A relay's retention, and messages that were delivered just now."""

    def __init__(self) -> None:
        loop, self.shift = asyncio.get_running_loop(), 0.0
        self.outbox = MemoryOutbox(lambda: EPOCH + loop.time() + self.shift)
        self.watch = ClockWatch(self.outbox, logger(), loop.time, lambda: None, Liveness())
        rules = replace(maintenance_rules_of(Settings()), delivered_kept=KEPT)
        self._maintenance = Maintenance(self.outbox, logger(), rules, self.watch.is_steady)
        self._stopping = asyncio.Event()

    async def deliver(self) -> None:
        await self.outbox.add([Draft(ACME, ORDER, b"x", MessageId(f"m{len(self.outbox.rows)}"))])
        (message,) = await self.outbox.due(ACME, {ORDER}, frozenset(), frozenset(), 1, 100)
        await self.outbox.settle([(message.key, Delivered())])

    async def run(self) -> None:
        await asyncio.gather(self._maintenance.run(self._stopping), self.watch.run())

    @property
    def rows(self) -> int:
        return len(self.outbox.rows)


@pytest.mark.parametrize("before", [0.0, 2 * STEADY_SECONDS])
@pytest.mark.parametrize("shift", [1.1 * KEPT, -1.1 * KEPT])
def test_a_clock_that_is_wrong_for_a_minute_deletes_nothing(shift: float, before: float) -> None:
    """Also right after the start: the relay cannot know yet which of two times is the right one."""

    async def scene(kept: Kept) -> None:
        await asyncio.sleep(before)
        await kept.deliver()
        await asyncio.sleep(60)
        kept.shift = shift
        await asyncio.sleep(60)
        kept.shift = 0.0
        await asyncio.sleep(KEPT / 2)
        assert kept.rows == 1
        await asyncio.sleep(KEPT)
        assert kept.rows == 0

    async def beside() -> None:
        kept = Kept()
        await until_cancelled(kept.run, scene(kept))

    run(beside())


def test_a_clock_that_was_set_right_counts_once_it_was_steady() -> None:
    """It was behind: what is old by the right time goes ten minutes later."""

    async def scene(kept: Kept) -> None:
        await kept.deliver()
        await asyncio.sleep(2 * STEADY_SECONDS)
        kept.shift = 1.1 * KEPT
        await asyncio.sleep(STEADY_SECONDS - 1)
        assert kept.rows == 1
        await asyncio.sleep(120)
        assert kept.rows == 0

    async def beside() -> None:
        kept = Kept()
        await until_cancelled(kept.run, scene(kept))

    run(beside())


# --- what is said -------------------------------------------------------------------------------------


def test_a_jump_is_said_once_with_its_seconds() -> None:
    async def scene(kept: Kept) -> None:
        await asyncio.sleep(60)
        for shift in (JUMP_SECONDS - 1, HOUR, 0.0):
            kept.shift = shift
            await asyncio.sleep(60)

    async def beside() -> None:
        kept = Kept()
        with capture_logs() as lines:
            await until_cancelled(kept.run, scene(kept))
        jumps = [line for line in lines if line["event"] == "clock.jumped"]
        assert [round(line["seconds"]) for line in jumps] == [3591, -3600]
        assert all(line["hint"] and line["log_level"] == "warning" for line in jumps)

    run(beside())
