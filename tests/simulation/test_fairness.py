"""All tenants' posts together are capped, and shared: one tenant's backlog never starves another's one message."""

import asyncio
import random
from collections.abc import Callable
from functools import partial
from typing import Self

import pytest

from relay.core.admin import Filter
from relay.core.fair_share import FairShare, TenantShare
from relay.core.model import Draft, TenantId
from relay.core.ports import Control
from relay.core.retry import Schedule
from relay.daemon.workers import Assignment
from relay.delivery.worker import Worker
from tests.contract.stores import drop
from tests.simulation.harness import EPOCH, FINE, ORDER, Process, rules_of
from tests.support.memory import MemoryOutbox
from tests.support.scripted import ScriptedIon
from tests.support.virtual import run

LATENCY = 1.0
"""A post takes so long; all else takes no time at all."""

SCHEDULE = Schedule(1.0, 300.0)


class _CountingIon(ScriptedIon):
    """An ION that counts the posts in flight at all tenants' together."""

    def count_in(self, relay: "ManyTenants") -> None:
        self.relay = relay

    async def post(self, encoded, traceparent=None):
        self.relay.in_flight += 1
        self.relay.most = max(self.relay.most, self.relay.in_flight)
        try:
            return await super().post(encoded, traceparent)
        finally:
            self.relay.in_flight -= 1


class ManyTenants:
    """One relay with many tenants, in virtual time."""

    def __init__(self, tenants: int, limit: int) -> None:
        loop = asyncio.get_running_loop()
        self.now, self.in_flight, self.most = loop.time, 0, 0
        self.outbox = MemoryOutbox(lambda: EPOCH + loop.time())
        self.fair_share = FairShare(limit)
        self._process = Process(self.outbox, SCHEDULE, random.Random(0).random)
        self.workers = self._process.workers
        self.tenants = [TenantId(f"T{number}") for number in range(tenants)]

    async def __aenter__(self) -> Self:
        await self._process.start({tenant: partial(self._worker, tenant) for tenant in self.tenants})
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.workers.stop(25.0)

    async def keep_only(self, tenant: TenantId) -> None:
        """All others are taken away."""
        await self.workers.assign({tenant: Assignment(tenant, partial(self._worker, tenant))})

    def _worker(self, tenant: TenantId, control: Control) -> Worker:
        ion = _CountingIon(
            answer=lambda call, *_: FINE[call],
            delay=lambda call, *_: LATENCY if call == "post" else 0.0,
        )
        ion.count_in(self)
        context = self._process.context(tenant, ion, self.fair_share)
        return Worker(rules_of(tenant, ordering="none", max_in_flight=64), context, control)

    def insert(self, tenant: TenantId, count: int) -> None:
        for _ in range(count):
            self.outbox.insert(Draft(tenant, ORDER, b"<doc/>"))

    def left(self, tenant: TenantId) -> int:
        return sum(1 for row in self.outbox.rows if row.tenant_id == tenant and row.state == "pending")

    async def delay_of_one(self, tenant: TenantId) -> float:
        """How long one message of this tenant takes, from its insertion until it is settled."""
        began = self.now()
        self.insert(tenant, 1)
        await self.until(lambda: not self.left(tenant), 0.05)
        return self.now() - began

    async def until(self, fact: Callable[[], bool], step: float) -> None:
        """Wait, in virtual time, until the fact holds."""
        end = self.now() + 3600.0
        while not fact():
            assert self.now() < end, "starved"
            await asyncio.sleep(step)


def delay(tenants: int, limit: int, backlog: int) -> tuple[float, list[int], int]:
    """The last tenant's delay while the others drain a backlog; what they sent meanwhile; the most at once."""

    async def work() -> tuple[float, list[int], int]:
        async with ManyTenants(tenants, limit) as relay:
            *others, last = relay.tenants
            for tenant in others:
                relay.insert(tenant, backlog)
            await asyncio.sleep(20.5 * LATENCY)
            took = await relay.delay_of_one(last)
            sent = [backlog - relay.left(tenant) for tenant in others]
            assert not others or min(map(relay.left, others)) > 0, "they were at work all the time"
            return took, sent, relay.most

    return run(work())


@pytest.mark.parametrize("limit", [2, 8, 32])
def test_beside_a_backlog_of_another_tenant_one_message_takes_no_longer_than_alone(limit: int) -> None:
    alone, _, _ = delay(1, limit, 0)
    beside, (sent,), most = delay(2, limit, 3000)
    assert beside <= alone + 0.1
    assert most <= limit
    assert sent > 10 * max(limit - limit // 4 - 1, 1), "and the backlog had nearly all places meanwhile"


def test_among_100_tenants_with_16_places_each_has_its_turn() -> None:
    alone, _, _ = delay(1, 16, 0)
    beside, sent, most = delay(100, 16, 20)
    assert beside <= alone + (100 / 16 + 1) * LATENCY
    assert most == 16
    assert max(sent) - min(sent) <= 13, "no more than what the first had while the others pinged"


def test_when_the_others_want_no_more_one_has_all_but_the_kept_places_again() -> None:
    async def work() -> None:
        async with ManyTenants(4, 16) as relay:
            for tenant in relay.tenants:
                relay.insert(tenant, 40 if tenant == "T0" else 8)
            await relay.until(lambda: not any(map(relay.left, relay.tenants[1:])), LATENCY)
            relay.insert(relay.tenants[0], 400)
            await asyncio.sleep(10 * LATENCY)
            assert relay.in_flight == 12
            relay.fair_share.resize(64)
            await asyncio.sleep(2 * LATENCY)
            assert relay.in_flight == 48

    run(work())


def test_a_place_for_a_message_that_was_dropped_meanwhile_is_not_lost() -> None:
    async def work() -> None:
        async with ManyTenants(2, 1) as relay:
            first, second = relay.tenants
            relay.insert(first, 20)
            await asyncio.sleep(1.5 * LATENCY)
            relay.insert(second, 1)
            await asyncio.sleep(0.25 * LATENCY)
            assert await drop(relay.outbox, Filter(second), "not needed any more") == 1
            await relay.until(lambda: not relay.left(first), LATENCY)

    run(work())


def test_a_tenant_that_is_taken_away_leaves_its_places_to_the_others() -> None:
    async def work() -> None:
        async with ManyTenants(2, 2) as relay:
            first, second = relay.tenants
            relay.insert(first, 100)
            relay.insert(second, 100)
            await asyncio.sleep(5.5 * LATENCY)
            before = 100 - relay.left(second)
            await relay.keep_only(second)
            await asyncio.sleep(20 * LATENCY)
            assert relay.in_flight == 1
            assert 100 - relay.left(second) >= before + 19
            assert relay.fair_share.begin(TenantShare(lambda: None)), "the place of the one that went is free"

    run(work())
