"""All tenants' posts together are capped, and shared: one tenant's backlog never starves another's one message."""

import asyncio
import random
from collections.abc import Callable
from typing import Self

import pytest

from relay.core.admin import Filter
from relay.core.fair_share import FairShare, TenantShare
from relay.core.model import Draft, TenantId
from relay.core.retry import Schedule
from relay.daemon.supervisor import Supervisor
from relay.daemon.workers import Assignment, Workers
from relay.delivery.context import TenantContext, TenantRules
from relay.delivery.prefetch import OutboxRetry
from relay.delivery.settler import Settler
from relay.delivery.worker import Worker
from relay.observability.liveness import Liveness
from relay.observability.logs import Incidents, Tally, logger
from relay.observability.metrics import Meters
from tests.contract.stores import drop
from tests.simulation.harness import EPOCH, FINE, ORDER
from tests.support.memory import MemoryOutbox
from tests.support.scripted import ScriptedEndpoint
from tests.support.virtual import run

LATENCY = 1.0
"""A post takes so long; all else takes no time at all."""

SCHEDULE = Schedule(1.0, 300.0)


class _Counting(ScriptedEndpoint):
    """An ION that counts the posts under way at all tenants' together."""

    def count_in(self, house: "House") -> None:
        self.house = house

    async def post(self, parcel, traceparent=None):
        self.house.under_way += 1
        self.house.most = max(self.house.most, self.house.under_way)
        try:
            return await super().post(parcel, traceparent)
        finally:
            self.house.under_way -= 1


class House:
    """One relay with many tenants, in virtual time."""

    def __init__(self, tenants: int, cap: int) -> None:
        loop = asyncio.get_running_loop()
        self.now, self.under_way, self.most = loop.time, 0, 0
        self.outbox = MemoryOutbox(lambda: EPOCH + loop.time())
        self.shares = FairShare(cap)
        self.log, self.chance = logger(), random.Random(0).random
        self.incidents = Incidents(self.log, None, loop.time, 60.0, loop.call_later)
        self.meters = Meters()
        self.settler = Settler(self.outbox, self.incidents, SCHEDULE, self.chance, self.meters)
        self.supervisor = Supervisor(self.log, self.incidents, SCHEDULE, self.chance, Liveness())
        self.workers = Workers(self.outbox, self.settler, self.supervisor, self.log, Liveness())
        self.tenants = [TenantId(f"T{number}") for number in range(tenants)]

    async def __aenter__(self) -> Self:
        self.supervisor.supervise("settler", self.settler.run)
        self.supervisor.supervise("arrivals", self.workers.listen)
        await self.workers.assign({tenant: self._post(tenant) for tenant in self.tenants})
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.workers.stop(25.0)

    def _post(self, tenant: TenantId) -> Assignment:
        loop = asyncio.get_running_loop()

        def build(control):
            ion = _Counting(
                answer=lambda call, *_: FINE[call],
                delay=lambda call, *_: LATENCY if call == "post" else 0.0,
            )
            ion.count_in(self)
            stopping = asyncio.Event()
            context = TenantContext(
                outbox=self.outbox,
                ion=ion,
                settler=self.settler,
                shares=self.shares,
                outbox_retry=OutboxRetry(self.incidents, SCHEDULE, self.chance, stopping),
                incidents=self.incidents,
                tally=Tally(self.log, 60.0, loop.call_later),
                meter=self.meters.of(tenant),
                log=self.log,
                chance=self.chance,
                holds=lambda: True,
                report=lambda *_: None,
                stopping=stopping,
            )
            return Worker(
                TenantRules(tenant, ordering="none", max_in_flight=64, schedule=SCHEDULE), context, control
            )

        return Assignment(tenant, build)

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
        """Wait, in virtual time, until it is so."""
        end = self.now() + 3600.0
        while not fact():
            assert self.now() < end, "it starves"
            await asyncio.sleep(step)


def delay(tenants: int, cap: int, backlog: int) -> tuple[float, list[int], int]:
    """The last tenant's delay while the others drain a backlog; what they sent meanwhile; the most at once."""

    async def work() -> tuple[float, list[int], int]:
        async with House(tenants, cap) as house:
            *others, last = house.tenants
            for tenant in others:
                house.insert(tenant, backlog)
            await asyncio.sleep(20.5 * LATENCY)
            took = await house.delay_of_one(last)
            sent = [backlog - house.left(tenant) for tenant in others]
            assert not others or min(map(house.left, others)) > 0, "they were at work all the time"
            return took, sent, house.most

    return run(work())


@pytest.mark.parametrize("cap", [2, 8, 32])
def test_beside_a_backlog_of_another_tenant_one_message_takes_no_longer_than_alone(cap: int) -> None:
    alone, _, _ = delay(1, cap, 0)
    beside, (sent,), most = delay(2, cap, 3000)
    assert beside <= alone + 0.1
    assert most <= cap
    assert sent > 10 * max(cap - cap // 4 - 1, 1), "and the backlog had nearly all places meanwhile"


def test_among_100_tenants_with_16_places_each_has_its_turn() -> None:
    alone, _, _ = delay(1, 16, 0)
    beside, sent, most = delay(100, 16, 20)
    assert beside <= alone + (100 / 16 + 1) * LATENCY
    assert most == 16
    assert max(sent) - min(sent) <= 13, "no more than what the first had while the others pinged"


def test_when_the_others_want_no_more_one_has_all_but_the_kept_places_again() -> None:
    async def work() -> None:
        async with House(4, 16) as house:
            for tenant in house.tenants:
                house.insert(tenant, 40 if tenant == "T0" else 8)
            await house.until(lambda: not any(map(house.left, house.tenants[1:])), LATENCY)
            house.insert(house.tenants[0], 400)
            await asyncio.sleep(10 * LATENCY)
            assert house.under_way == 12
            house.shares.resize(64)
            await asyncio.sleep(2 * LATENCY)
            assert house.under_way == 48

    run(work())


def test_a_place_for_a_message_that_was_dropped_meanwhile_is_not_lost() -> None:
    async def work() -> None:
        async with House(2, 1) as house:
            first, second = house.tenants
            house.insert(first, 20)
            await asyncio.sleep(1.5 * LATENCY)
            house.insert(second, 1)
            await asyncio.sleep(0.25 * LATENCY)
            assert await drop(house.outbox, Filter(second), "not needed any more") == 1
            await house.until(lambda: not house.left(first), LATENCY)

    run(work())


def test_a_tenant_that_is_taken_away_leaves_its_places_to_the_others() -> None:
    async def work() -> None:
        async with House(2, 2) as house:
            first, second = house.tenants
            house.insert(first, 100)
            house.insert(second, 100)
            await asyncio.sleep(5.5 * LATENCY)
            posts = {second: house._post(second)}
            before = 100 - house.left(second)
            await house.workers.assign(posts)
            await asyncio.sleep(20 * LATENCY)
            assert house.under_way == 1
            assert 100 - house.left(second) >= before + 19
            assert house.shares.begin(TenantShare(lambda: None)), "the place of the one that went is free"

    run(work())
