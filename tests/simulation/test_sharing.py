"""Several relays on one outbox, in virtual time: each tenant is owned by one at a time, and none waits for a dead one."""

import asyncio
import random
from dataclasses import dataclass
from functools import partial

import pytest

from relay.core.model import Draft, Message, OrderingKey, TenantId
from relay.core.ports import Control, StoreError
from relay.core.replies import Answer
from relay.core.retry import Schedule
from relay.daemon.leases import LeaseHolder
from relay.delivery.worker import Worker
from tests.simulation.harness import EPOCH, FINE, ORDER, Process, rules_of
from tests.support.memory import MemoryOutbox, Shelf
from tests.support.scripted import Call, ScriptedIon
from tests.support.virtual import run

LEASE = 15.0
TENANTS = [TenantId(f"T{number:02}_PRD") for number in range(20)]
SCHEDULE = Schedule(0.5, 5.0)


@dataclass
class Posted:
    """One post at ION: by which relay, of which tenant, from when to when (infinite: it was cancelled)."""

    relay: str
    message: Message
    began: float
    ended: float = float("inf")


class _Recording(ScriptedIon):
    relay = ""
    posted: list[Posted]

    async def _ask(self, call: Call, message: Message | None, fine: Answer) -> Answer:
        if message is None:
            return await super()._ask(call, message, fine)
        one = Posted(self.relay, message, asyncio.get_running_loop().time())
        self.posted.append(one)
        try:
            return await super()._ask(call, message, fine)
        finally:
            one.ended = asyncio.get_running_loop().time()


class Replica:
    """One relay process on the shared shelf."""

    def __init__(
        self, name: str, shelf: Shelf, posted: list[Posted], latency: float, tenants: list[TenantId]
    ) -> None:
        loop = asyncio.get_running_loop()
        self.name, self.posted, self.latency, self.tenants = name, posted, latency, tenants
        self.outbox = MemoryOutbox(lambda: EPOCH + loop.time(), shelf, LEASE)
        assert self.outbox.leases is not None
        self.leases = self.outbox.leases
        self.suspended = 0.0
        """Seconds that the loop's clock has missed."""
        lease_holder = LeaseHolder(self.leases, name, lambda: loop.time() + self.suspended)
        self._process = Process(self.outbox, SCHEDULE, random.Random(name).random, lease_holder)
        self.supervisor, self.workers = self._process.supervisor, self._process.workers

    async def start(self) -> None:
        await self.outbox.beat(self.name, {})
        await self._process.start({tenant: partial(self._worker, tenant) for tenant in self.tenants})

    def _worker(self, tenant: TenantId, control: Control) -> Worker:
        ion = _Recording(
            answer=lambda call, _, __: FINE[call],
            delay=lambda call, *_: self.latency if call == "post" else 0.02,
        )
        ion.relay, ion.posted = self.name, self.posted
        context = self._process.context(tenant, ion)
        return Worker(rules_of(tenant, schedule=SCHEDULE), context, control)

    async def kill(self) -> None:
        """As kill -9: nothing is released, nothing more is settled."""
        await self.supervisor.cancel()

    def disconnect(self) -> None:
        """The database is unreachable from now on."""
        self.outbox.broken = self.leases.broken = StoreError("no route to the database")

    def reconnect(self) -> None:
        """The database is reachable again."""
        self.outbox.broken = self.leases.broken = None


class Fleet:
    """All replicas, the shelf, and ION's record."""

    def __init__(self, latency: float = 0.05) -> None:
        loop = asyncio.get_running_loop()
        self.now, self.latency = loop.time, latency
        self.shelf = Shelf(lambda: EPOCH + loop.time())
        self.application = MemoryOutbox(lambda: EPOCH + loop.time(), self.shelf)
        self.posted: list[Posted] = []
        self.replicas: dict[str, Replica] = {}

    async def add(self, name: str, tenants: list[TenantId] = TENANTS) -> Replica:
        replica = Replica(name, self.shelf, self.posted, self.latency, tenants)
        self.replicas[name] = replica
        await replica.start()
        return replica

    def insert(self, count: int = 1) -> None:
        """So many messages for each tenant, two keys in turn."""
        for number in range(count):
            for tenant in TENANTS:
                key = OrderingKey("ab"[number % 2])
                self.application.insert(Draft(tenant, ORDER, b"<doc/>", ordering_key=key))

    def pending(self) -> int:
        return sum(row.state == "pending" for row in self.application.rows)

    async def until(self, fact, within: float) -> None:
        end = self.now() + within
        while not fact():
            assert self.now() < end, f"not within {within} s; {self.pending()} pending"
            await asyncio.sleep(0.05)

    async def stop(self) -> None:
        for replica in self.replicas.values():
            await replica.kill()

    def owners(self, since: float) -> dict[TenantId, set[str]]:
        """Who posted for whom since then."""
        found: dict[TenantId, set[str]] = {}
        for one in self.posted:
            if one.began >= since:
                found.setdefault(one.message.tenant_id, set()).add(one.relay)
        return found

    def clashes(self) -> list[str]:
        """Posts of one tenant by two relays at the same time."""
        found = []
        for tenant in TENANTS:
            posts = sorted((p for p in self.posted if p.message.tenant_id == tenant), key=lambda p: p.began)
            for at, one in enumerate(posts):
                found += [
                    f"{tenant}: {one.relay} until {one.ended}, {later.relay} from {later.began}"
                    for later in posts[at + 1 :]
                    if later.relay != one.relay and later.began < one.ended
                ]
        return found

    def is_in_order(self) -> bool:
        """By key, the first posts went in the order of the rows."""
        for tenant in TENANTS:
            for key in "ab":
                rows = [
                    p.message.row
                    for p in self.posted
                    if p.message.tenant_id == tenant and p.message.ordering_key == key
                ]
                firsts = list(dict.fromkeys(rows))
                if firsts != sorted(firsts):
                    return False
        return True


def test_three_relays_share_the_tenants_and_none_has_two_owners():
    async def work():
        fleet = Fleet()
        for name in ("one", "two", "three"):
            await fleet.add(name)
        await asyncio.sleep(20)
        at = fleet.now()
        fleet.insert(10)
        await fleet.until(lambda: fleet.pending() == 0, 30)
        owners = fleet.owners(at)
        assert set(owners) == set(TENANTS)
        assert all(len(relays) == 1 for relays in owners.values())
        assert {next(iter(relays)) for relays in owners.values()} == {"one", "two", "three"}
        assert fleet.clashes() == []
        assert fleet.is_in_order()
        await fleet.stop()

    run(work())


def test_a_dead_relays_tenants_are_taken_over_when_its_leases_ran_out():
    async def work():
        fleet = Fleet()
        await fleet.add("one")
        two = await fleet.add("two")
        await asyncio.sleep(20)
        fleet.insert(50)
        await fleet.until(lambda: fleet.pending() < 700, 30)
        await two.kill()
        at = fleet.now()
        await fleet.until(lambda: fleet.pending() == 0, 60)
        assert fleet.owners(at + 0.1) != {}
        assert all(relays == {"one"} for relays in fleet.owners(at + 0.1).values())
        assert fleet.now() - at < 2 * LEASE + 10
        assert fleet.is_in_order()
        await fleet.stop()

    run(work())


def test_a_relay_that_cannot_reach_the_database_stops_before_another_begins():
    async def work():
        fleet = Fleet(latency=2.0)
        await fleet.add("one")
        two = await fleet.add("two")
        await asyncio.sleep(20)
        fleet.insert(30)
        await fleet.until(lambda: fleet.pending() < 560, 30)
        two.disconnect()
        at = fleet.now()
        await asyncio.sleep(60)
        assert any(one.relay == "two" and one.began < at for one in fleet.posted)
        assert not any(one.relay == "two" and one.began > at + LEASE for one in fleet.posted)
        two.reconnect()
        await fleet.until(lambda: fleet.pending() == 0, 600)
        assert fleet.clashes() == []
        assert fleet.is_in_order()
        await fleet.stop()

    run(work())


def test_posts_in_flight_are_cancelled_when_the_leases_end():
    async def work():
        fleet = Fleet(latency=40.0)
        one = await fleet.add("one")
        fleet.insert(1)
        await fleet.until(lambda: len(fleet.posted) == len(TENANTS), 30)
        at = fleet.now()
        one.disconnect()
        await asyncio.sleep(60)
        assert max(post.ended for post in fleet.posted) <= at + LEASE
        await fleet.stop()

    run(work())


def test_a_machine_that_was_suspended_posts_nothing_before_its_leases_are_confirmed():
    """Its timers did not run meanwhile, those that end leases neither: what was in flight is cut on its return."""

    async def work():
        fleet = Fleet(latency=2.0)
        one = await fleet.add("one")
        fleet.insert(30)
        await fleet.until(lambda: fleet.pending() < 560, 30)
        at = fleet.now()
        one.leases.broken = StoreError("the network is not up yet")
        one.suspended = 3600.0
        await asyncio.sleep(8)
        assert any(post.began < at < post.ended for post in fleet.posted), "some were in flight"
        assert max(post.began for post in fleet.posted) <= at
        assert max(post.ended for post in fleet.posted) <= at + 1.1
        one.reconnect()
        await fleet.until(lambda: fleet.pending() == 0, 600)
        assert fleet.is_in_order()
        await fleet.stop()

    run(work())


def taken_over(fleet, tenants, since):
    """Whether another relay owns every one of these since then."""
    return all("one" in fleet.owners(since).get(tenant, ()) for tenant in tenants)


def test_a_relay_that_joins_gets_its_share_within_seconds_and_no_post_is_cancelled():
    async def work():
        fleet = Fleet(latency=0.5)
        await fleet.add("one")
        fleet.insert(200)
        await asyncio.sleep(10)
        at = fleet.now()
        await fleet.add("two")
        await fleet.until(lambda: any(one.relay == "two" for one in fleet.posted), LEASE)
        await asyncio.sleep(LEASE)
        later = fleet.owners(at + LEASE)
        assert {name for relays in later.values() for name in relays} == {"one", "two"}
        assert all(one.ended != float("inf") or one.began > fleet.now() - 1 for one in fleet.posted)
        assert len({one.message.row for one in fleet.posted}) == len(fleet.posted), "a message was sent twice"
        assert fleet.clashes() == []
        await fleet.stop()

    run(work())


def test_a_relay_that_leaves_releases_its_tenants_at_once_and_nothing_is_sent_twice():
    async def work():
        fleet = Fleet(latency=0.2)
        await fleet.add("one")
        two = await fleet.add("two")
        await asyncio.sleep(20)
        fleet.insert(100)
        await asyncio.sleep(5)
        at = fleet.now()
        assert await two.workers.stop(25.0) == 0
        await two.outbox.leave("two")
        left = fleet.now()
        assert left - at < 2
        theirs = {one.message.tenant_id for one in fleet.posted if one.relay == "two"}
        await fleet.until(lambda: taken_over(fleet, theirs, left), 3)
        await fleet.until(lambda: fleet.pending() == 0, 200)
        assert len({one.message.row for one in fleet.posted}) == len(fleet.posted), "a message was sent twice"
        assert fleet.clashes() == []
        assert fleet.is_in_order()
        await fleet.stop()

    run(work())


def test_relays_with_different_tenants_leave_none_without_an_owner():
    """A tenant assigned to a relay that does not have it is adopted by one that has it, and kept."""

    async def work():
        fleet = Fleet()
        await fleet.add("one", TENANTS[:12])
        await fleet.add("two", TENANTS[8:])
        fleet.insert(30)
        await fleet.until(lambda: fleet.pending() == 0, 3 * LEASE)
        at = fleet.now()
        fleet.insert(30)
        await fleet.until(lambda: fleet.pending() == 0, LEASE)
        owners = fleet.owners(at)
        assert all(owners[tenant] == {"one"} for tenant in TENANTS[:8])
        assert all(owners[tenant] == {"two"} for tenant in TENANTS[12:])
        assert all(len(relays) == 1 for relays in owners.values())
        assert fleet.clashes() == []
        assert fleet.is_in_order()
        await fleet.stop()

    run(work())


@pytest.mark.parametrize("seed", range(6))
def test_relays_that_come_and_go_at_random_lose_nothing_and_never_clash(seed):
    async def work():
        chance = random.Random(seed)
        fleet = Fleet(latency=0.3)
        for name in ("r0", "r1", "r2"):
            await fleet.add(name)
        number = 3
        for _ in range(25):
            fleet.insert(2)
            name = chance.choice(list(fleet.replicas))
            replica = fleet.replicas[name]
            match chance.choice(["kill", "stop", "disconnect", "reconnect", "add", "wait"]):
                case "kill" if len(fleet.replicas) > 1:
                    await fleet.replicas.pop(name).kill()
                case "stop" if len(fleet.replicas) > 1 and replica.outbox.broken is None:
                    await replica.workers.stop(25.0)
                    await fleet.replicas.pop(name).outbox.leave(name)
                case "disconnect":
                    replica.disconnect()
                case "reconnect":
                    replica.reconnect()
                case "add" if len(fleet.replicas) < 5:
                    number += 1
                    await fleet.add(f"r{number}")
                case _:
                    pass
            await asyncio.sleep(chance.uniform(0.5, 12))
        for replica in fleet.replicas.values():
            replica.reconnect()
        await fleet.until(lambda: fleet.pending() == 0, 300)
        assert fleet.clashes() == []
        assert fleet.is_in_order()
        await fleet.stop()

    run(work())
