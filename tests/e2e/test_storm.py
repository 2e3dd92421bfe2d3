"""Relays on one PostgreSQL, killed and restarted at random while messages come; the database is restarted too.

The long form (RELAY_TEST_LONG=1) is four relays, 200 tenants and 20,000 messages in a minute; `-s` prints the
figures.
"""

import asyncio
import os
import random
import signal
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import asyncpg
import pytest

from relay.sandbox import Request, Sandbox, SandboxTenant
from tests.conftest import LONG
from tests.support.postgres import Cluster, Server, connected, own_server
from tests.support.process import RelayProcess, Station
from tests.support.senders import MARK, sender, spelled, spelling, together

DOCUMENT = "Sync.SalesOrder"
KEYS = 4
MOST_TWICE = 128
"""A tenant's messages that may go out again after one crash: in flight and unsettled together."""

SEED = int(os.environ.get("STORM_SEED", "11"))
_INSERT = (
    "INSERT INTO relay_outbox (tenant_id, document_name, payload, message_id, ordering_key)"
    " VALUES ($1, $2, convert_to('<order/>', 'UTF8'), $3, $4)"
)


class Size(NamedTuple):
    """How much of a storm. `seconds`: how long messages come and relays go."""

    relays: int
    tenants: int
    messages: int
    seconds: float
    strikes: int
    database_restarts: int


SIZE = Size(4, 200, 20_000, 60, 20, 2) if LONG else Size(2, 20, 1_000, 5, 3, 1)


@dataclass(slots=True)
class Storm:
    """The enqueued messages and the faults injected into the relays; the slots hold the running processes."""

    size: Size
    sandbox: Sandbox
    station: Station
    server: Server
    outbox: str
    chance: random.Random
    slots: list[RelayProcess] = field(default_factory=list[RelayProcess])
    enqueued: dict[tuple[str, str], list[str]] = field(default_factory=lambda: defaultdict(list))
    """Message ids by tenant and key, in the order of their rows."""
    kills: list[tuple[float, int]] = field(default_factory=list[tuple[float, int]])
    """The epoch's seconds, and the number of the process."""
    stops: list[int] = field(default_factory=list[int])
    """What the relays that were asked to end ended with."""

    @property
    def tenants(self) -> list[str]:
        """Their ids."""
        return [tenant.tenant_id for tenant in self.sandbox.tenants]

    def begin(self) -> RelayProcess:
        """A relay more, with a spelling of the tenants of its own."""
        mine = spelling(self.sandbox, self.tenants, len(self.station.relays))
        return self.station.start(environment=mine)

    async def pour(self) -> None:
        """Enqueue messages continuously; restart the database between two transactions."""
        size, restarts = self.size, 0
        began, numbers = time.monotonic(), iter(range(size.messages))
        batches = int(size.seconds * 10)
        for batch in range(batches):
            count = size.messages * (batch + 1) // batches - size.messages * batch // batches
            async with connected(self.outbox) as database, database.transaction():
                await database.executemany(_INSERT, [self._row(next(numbers)) for _ in range(count)])
            if (batch + 1) * (size.database_restarts + 1) // batches > restarts < size.database_restarts:
                restarts += 1
                await asyncio.to_thread(self.server.restart)
            await asyncio.sleep(began + (batch + 1) / 10 - time.monotonic())

    def _row(self, number: int) -> tuple[str, str, str, str]:
        """A tenth of all is the first tenant's, so that a kill finds much of one tenant's."""
        tenant = self.tenants[0] if number % 10 == 0 else self.chance.choice(self.tenants)
        key, message_id = f"K{self.chance.randrange(KEYS)}", f"m-{number}"
        self.enqueued[tenant, key].append(message_id)
        return tenant, DOCUMENT, message_id, key

    async def inject(self) -> None:
        """Kill a relay or stop one kindly, and start another in its place; each is struck in turn and again."""
        pause = self.size.seconds / (self.size.strikes + 1)
        for number in range(self.size.strikes):
            await asyncio.sleep(pause * self.chance.uniform(0.6, 1.4))
            slot = number if number < len(self.slots) else self.chance.randrange(len(self.slots))
            relay = self.slots[slot]
            if number % 3 == 2:
                await self.station.event(relay, "relay.started")  # before it, SIGTERM simply ends a process
                relay.send(signal.SIGTERM)
                self.stops.append(await self.station.ended(relay, 30))
            else:
                relay.kill()
                self.kills.append((time.time(), self.station.relays.index(relay)))
            self.slots[slot] = self.begin()

    async def until_over(self) -> None:
        """Until ION took every message, and the outbox says so too."""
        record = self.sandbox.record
        await self.station.until(
            lambda: record.count() == self.size.messages,
            "every message to be taken",
            60,
            show=lambda: f"{record.count()} of {self.size.messages} taken",
        )
        async with connected(self.outbox) as database:
            await _settled(database)

    # --- what the record says ---------------------------------------------------------------------------

    def out_of_order(self) -> list[tuple[str, str]]:
        """The tenants and keys whose messages' first arrivals were not in the order of the rows."""
        places = {taken.message_id: taken.number for taken in self.sandbox.messages()}
        in_order = {lane: [places[i] for i in ids] for lane, ids in self.enqueued.items()}
        return [lane for lane, order in in_order.items() if order != sorted(order)]

    def repeats(self) -> Counter[tuple[int, str]]:
        """How many messages came again, by the last kill before (0: none yet) and by tenant."""
        found: Counter[tuple[int, str]] = Counter()
        for taken in self.sandbox.record.sent_twice():
            for again in taken.redeliveries or ():
                found[sum(at <= again.at for at, _ in self.kills), taken.tenant_id] += 1
        return found


async def _settled(database: "asyncpg.Connection[asyncpg.Record]") -> None:
    for _ in range(600):
        if not await database.fetchval("SELECT count(*) FROM relay_outbox WHERE state <> 'delivered'"):
            return
        await asyncio.sleep(0.05)
    raise AssertionError("not all of it was settled")


def test_two_senders_at_once_would_be_seen() -> None:
    """The measure itself: of a long post of process 5 and two of process 6, one of which begins too early."""

    def post(number: int, began: float, seconds: float) -> Request:
        path = f"/{spelled('T000_' + MARK, number)}/IONSERVICES/"
        return Request(0, "post", "POST", path, began, began, "T000_" + MARK, seconds=seconds)

    long, short, early, later = post(5, 1, 10), post(5, 2, 1), post(6, 10, 3), post(6, 12, 1)
    assert (sender(long), sender(later)) == (5, 6)
    assert together([later, long, short, early]) == [(long, early)]
    assert together([long, short, later]) == []


@pytest.fixture
async def storm(tmp_path: Path) -> AsyncIterator[Storm]:
    """The sandbox, a PostgreSQL of its own, and the relays that share it."""
    tenants = [
        SandboxTenant(f"T{number:03}_{MARK}", f"lid://t{number:03}.orders.1", [DOCUMENT])
        for number in range(SIZE.tenants)
    ]
    with own_server() as server:
        async with Sandbox(tenants, request_limit=1_000_000) as sandbox:
            station = Station(tmp_path)
            async with Cluster(server.url, server).outbox() as outbox:
                station.environment |= sandbox.environment(tmp_path)
                station.environment |= {"RELAY_OUTBOX__URL": outbox, "RELAY_LEASE_SECONDS": "3"}
                storm = Storm(SIZE, sandbox, station, server, outbox, random.Random(SEED))
                try:
                    yield storm
                finally:
                    for relay in station.relays:
                        if relay.running:
                            relay.kill()


async def test_no_storm_loses_a_message_or_lets_two_relays_send_for_one_tenant(storm: Storm) -> None:
    """0 lost, order kept per key, at most 128 sent twice for a kill and tenant, one sender at a time, no violation."""
    storm.sandbox.faults(call="post", late=0.01)  # so that a kill meets posts that are taken, not answered
    storm.slots += [storm.begin() for _ in range(SIZE.relays)]
    for relay in storm.slots:
        await storm.station.event(relay, "relay.started")
    began = time.monotonic()
    async with asyncio.TaskGroup() as group:
        group.create_task(storm.pour())
        group.create_task(storm.inject())
    await storm.until_over()

    posts: dict[str, list[Request]] = defaultdict(list)
    for request in storm.sandbox.requests(call="post"):
        posts[request.tenant_id or ""].append(request)
    overlaps = [pair for each in posts.values() for pair in together(each)]
    repeats = storm.repeats()
    _print(storm, time.monotonic() - began, repeats, posts, len(overlaps))
    assert overlaps == []
    assert storm.out_of_order() == []
    assert max(repeats.values(), default=0) <= MOST_TWICE
    assert not [where for where in repeats if where[0] == 0], "sent twice before any kill"
    assert not [taken for taken in storm.sandbox.messages() if taken.changed]
    assert storm.sandbox.violations == []
    assert set(storm.stops) <= {0}
    assert sum(len({sender(post) for post in each}) > 1 for each in posts.values()) > SIZE.tenants // 4


def _print(
    storm: Storm,
    seconds: float,
    repeats: Counter[tuple[int, str]],
    posts: dict[str, list[Request]],
    overlaps: int,
) -> None:
    size, lost = storm.size, storm.size.messages - storm.sandbox.record.count()
    senders = [len({sender(post) for post in each}) for each in posts.values()]
    print(  # noqa: T201
        f"\nstorm: {size.relays} relays, {size.tenants} tenants, {size.messages:,} messages in {seconds:.1f} s"
        f" (seed {SEED}); {len(storm.kills)} kills, {len(storm.stops)} stops, {size.database_restarts} restarts of"
        f" the database: {lost} lost, {len(storm.out_of_order())} keys out of order, {sum(repeats.values())} sent"
        f" twice, at most {max(repeats.values(), default=0)} a kill and tenant ({MOST_TWICE} allowed), {overlaps}"
        f" times two relays at once, senders a tenant {min(senders)} to {max(senders)},"
        f" {len(storm.sandbox.violations)} violations"
    )
