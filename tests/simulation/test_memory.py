"""All tenants' messages share one budget of bytes: never exceeded, nobody is stuck, small ones are not delayed."""

import asyncio
import random
from collections.abc import Callable, Set
from functools import partial
from typing import Self

import pytest

from relay.core.byte_budget import BODY_COPIES, ByteBudget
from relay.core.model import Draft, Message, MessageId, RowId, TenantId
from relay.core.ports import Control, EncodedPost
from relay.core.replies import Reply
from relay.core.retry import Schedule
from relay.delivery.worker import Worker
from tests.simulation.harness import EPOCH, FINE, ORDER, Process, rules_of
from tests.support.memory import MemoryOutbox
from tests.support.scripted import ScriptedIon, ScriptedPost
from tests.support.virtual import run

MIB = 2**20
BUDGET = 64 * MIB
LATENCY = 1.0
"""A post takes so long; all else takes no time at all."""


class _Ion(ScriptedIon):
    """Its bodies are as large as the payloads."""

    async def encode(self, message: Message) -> EncodedPost:
        assert len(message.payload) == message.size, "a body needs the payload"
        return ScriptedPost("", message.payload, message)


class Relay:
    """Tenants that share a budget, in virtual time."""

    def __init__(self, *tenants: str, down: Set[str] = frozenset()) -> None:
        """`down`: tenants whose ION fails at each post."""
        loop = asyncio.get_running_loop()
        self.now, self._down = loop.time, down
        self.ions: dict[str, _Ion] = {}
        self.outbox = MemoryOutbox(lambda: EPOCH + loop.time())
        self.memory = ByteBudget(BUDGET)
        self._process = Process(
            self.outbox, Schedule(1.0, 300.0), random.Random(0).random, memory=self.memory
        )
        self._tenants = [TenantId(tenant) for tenant in tenants]
        self.most = 0

    async def __aenter__(self) -> Self:
        await self._process.start({tenant: partial(self._worker, tenant) for tenant in self._tenants})
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._process.workers.stop(25.0)
        assert self.memory.taken == 0, "all of it is free again"

    def _worker(self, tenant: TenantId, control: Control) -> Worker:
        self.ions[tenant] = ion = _Ion(
            answer=lambda call, *_: Reply(503) if call == "post" and tenant in self._down else FINE[call],
            delay=lambda call, *_: LATENCY if call == "post" else 0.0,
        )
        rules = rules_of(tenant, ordering="none", max_message_bytes=100 * MIB)
        return Worker(rules, self._process.context(tenant, ion), control)

    def insert(self, tenant: str, size: int, count: int = 1) -> None:
        for _ in range(count):
            self.outbox.insert(Draft(TenantId(tenant), ORDER, bytes(size)))

    def left(self, *tenants: str) -> int:
        return sum(row.tenant_id in tenants and row.state == "pending" for row in self.outbox.rows)

    async def until(self, fact: Callable[[], bool], within: float, step: float = 0.02) -> float:
        """Wait, in virtual time, until the fact holds; how long it took. The budget is watched meanwhile."""
        began = self.now()
        while not fact():
            assert self.now() < began + within, "too late, or stuck"
            self.most = max(self.most, self.memory.taken)
            await asyncio.sleep(step)
        return self.now() - began


LARGE = [f"L{number}" for number in range(10)]


def test_beside_ten_tenants_of_large_messages_small_ones_take_no_longer_than_alone() -> None:
    async def work() -> None:
        async with Relay(*LARGE, "SMALL") as relay:
            for tenant in LARGE:
                relay.insert(tenant, 5 * MIB, 15)
            await relay.until(lambda: relay.memory.taken > BUDGET // 3, 10.0)
            for _ in range(10):
                relay.insert("SMALL", 2000)
                assert await relay.until(lambda: not relay.left("SMALL"), 5.0) <= LATENCY + 0.2
            assert relay.left(*LARGE), "they were at work all the time"
            await relay.until(lambda: not relay.left(*LARGE), 3600.0, 1.0)
            assert BUDGET // 3 < relay.most <= BUDGET

    run(work())


def test_the_large_ones_share_the_budget_evenly() -> None:
    async def work() -> None:
        async with Relay(*LARGE) as relay:
            for tenant in LARGE:
                relay.insert(tenant, 2 * MIB, 20)
            await relay.until(lambda: relay.left(*LARGE) <= 100, 3600.0, 0.5)
            left = [relay.left(tenant) for tenant in LARGE]
            assert max(left) - min(left) <= 8, "no more than what is in flight of one"

    run(work())


def test_a_message_larger_than_the_whole_budget_has_its_turn_alone() -> None:
    async def work() -> None:
        async with Relay("HUGE", "OTHER") as relay:
            relay.insert("OTHER", 1 * MIB, 40)
            relay.insert("HUGE", 80 * MIB, 3)
            await relay.until(lambda: not relay.left("HUGE"), 60.0)
            await relay.until(lambda: not relay.left("OTHER"), 60.0)
            assert relay.most <= BODY_COPIES * 80 * MIB + BUDGET // 4

    run(work())


@pytest.mark.parametrize("size", [60_000, 70_000])
def test_more_tenants_than_the_budget_has_room_for_all_have_their_turn(size: int) -> None:
    """Each with a backlog of messages just below and just above what is prefetched."""

    async def work() -> None:
        tenants = [f"T{number:03}" for number in range(150)]
        async with Relay(*tenants) as relay:
            for tenant in tenants:
                relay.insert(tenant, size, 3)
            await relay.until(lambda: not relay.left(*tenants), 300.0, 1.0)
            assert relay.most <= BUDGET

    run(work())


def test_what_tenants_prefetched_before_an_outage_is_left_to_the_others() -> None:
    """They hold as much as they may, and wait for ION: that is a cache, not a claim."""
    down = {"A", "B", "C", "D"}

    async def work() -> None:
        async with Relay(*sorted(down), "LATE", down=down) as relay:
            for tenant in down:
                relay.insert(tenant, 60_000, 128)
            await relay.until(lambda: relay.memory.prefetch.taken > BUDGET // 8, 10.0)
            relay.insert("LATE", 60_000, 300)
            assert await relay.until(lambda: not relay.left("LATE"), 300.0) <= 300 / 8 * LATENCY + 5.0
            down.clear()
            await relay.until(lambda: not relay.left("A", "B", "C", "D"), 3600.0)

    run(work())


def test_a_message_that_changed_since_it_was_read_ahead_is_read_again() -> None:
    """The row holds another message now, as after a restore: its payload must not go out under the old id."""

    async def work() -> None:
        async with Relay("A") as relay:
            row = relay.outbox.insert(Draft(TenantId("A"), ORDER, bytes(MIB)))
            original = relay.outbox.message

            async def changed(row: RowId, max_bytes: int) -> Message | None:
                relay.outbox.message = original  # type: ignore[method-assign]
                found = relay.outbox.shelf.rows[row]
                found.message_id, found.payload = MessageId("another"), bytes(MIB - 1)
                return await original(row, max_bytes)

            relay.outbox.message = changed  # type: ignore[method-assign]
            await relay.until(lambda: not relay.left("A"), 60.0)
            assert [(one.message_id, one.size) for one in relay.ions["A"].taken] == [("another", MIB - 1)]
            assert relay.outbox.shelf.rows[row].attempts == 0

    run(work())
