"""Several relay processes on one PostgreSQL: killed, frozen, stopped, added; the simulator's record is the truth."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import asyncpg
import pytest

from relay.core.model import TenantId
from relay.core.rendezvous import owner_of
from relay.sandbox import Sandbox, SandboxTenant
from tests.contract.stores import until
from tests.support.postgres import Cluster
from tests.support.process import RelayProcess, Station

LEASE = 3.0
DOCUMENT = "Sync.SalesOrder"
TENANTS = [f"T{number:02}_PRD" for number in range(12)]
ROUNDS = 20 if os.environ.get("RELAY_TEST_LONG") else 2


@pytest.fixture
async def outbox(postgres: Cluster) -> AsyncIterator[str]:
    """The URL of a database with an empty outbox."""
    async with postgres.outbox() as url:
        yield url


class Fleet:
    """The sandbox, the database, and the relays that share it."""

    def __init__(self, sandbox: Sandbox, station: Station, database: "asyncpg.Connection[asyncpg.Record]"):
        self.sandbox, self.station, self.database = sandbox, station, database
        self.enqueued: dict[str, list[str]] = {}
        """Message ids by tenant and key, in the order of their rows."""

    async def add(self) -> RelayProcess:
        relay = self.station.start()
        await self.station.event(relay, "relay.started")
        return relay

    async def enqueue(self, count: int) -> None:
        """So many messages a tenant, two keys in turn, in one transaction."""
        async with self.database.transaction():
            for tenant in TENANTS:
                for number in range(count):
                    key = f"K{number % 2}"
                    message_id = await self.database.fetchval(
                        "INSERT INTO relay_outbox (tenant_id, document_name, payload, ordering_key)"
                        " VALUES ($1, $2, convert_to('<order/>', 'UTF8'), $3) RETURNING message_id",
                        tenant,
                        DOCUMENT,
                        key,
                    )
                    self.enqueued.setdefault(f"{tenant} {key}", []).append(message_id)

    async def until_relays(self, values: list[object], key: str) -> None:
        """Until `relay status --json` has these values of the key for the relays."""

        async def shown() -> list[object]:
            done = await self.station.command("status", "--json")
            assert done.code == 0, done
            return [relay[key] for relay in done.json["relays"]]

        await until(shown, lambda found: found == values, 30)

    @property
    def total(self) -> int:
        return sum(len(ids) for ids in self.enqueued.values())

    async def until_taken(self, within: float = 40) -> None:
        """Until ION took every message."""
        await self.station.until(
            lambda: self.sandbox.record.count() == self.total,
            "every message to be taken",
            within,
            show=lambda: f"{self.sandbox.record.count()} of {self.total} taken",
        )

    async def until_acquainted(self) -> None:
        """Until every running relay has renewed its leases since the last one joined, and so knows of all others."""
        running = sum(relay.running for relay in self.station.relays)
        living = "SELECT count(*) FROM relay_holders WHERE until > clock_timestamp()"
        await until(lambda: self.database.fetchval(living), lambda found: found == running, 30)
        joined = await self.database.fetchval("SELECT max(until) FROM relay_holders")
        renewed = "SELECT min(until) FROM relay_holders WHERE until > clock_timestamp()"
        await until(lambda: self.database.fetchval(renewed), lambda found: found > joined, 30)

    async def until_settled(self) -> None:
        """Until the outbox says so too."""
        for _ in range(400):
            if (
                await self.database.fetchval("SELECT count(*) FROM relay_outbox WHERE state <> 'delivered'")
                == 0
            ):
                return
            await asyncio.sleep(0.05)
        raise AssertionError(self.station.report("not all of it was settled"))

    def is_in_order(self) -> bool:
        """By tenant and key, the first arrivals came in the order of the rows."""
        arrived = [message.message_id for message in self.sandbox.messages()]
        places = {message_id: place for place, message_id in enumerate(arrived)}
        return all(
            [places[i] for i in ids] == sorted(places[i] for i in ids) for ids in self.enqueued.values()
        )

    def twice(self) -> int:
        """How many messages ION took more than once."""
        return len(self.sandbox.record.sent_twice())

    def holders(self, relays: list[RelayProcess]) -> list[set[str]]:
        """The tenants that each relay took and neither released nor lost since."""
        held = []
        for relay in relays:
            mine: set[str] = set()
            for line in relay.events:
                match line.get("event"):
                    case "tenant.taken":
                        mine.add(line["tenant"])
                    case "tenant.released" | "tenant.lost":
                        mine.discard(line["tenant"])
                    case _:
                        pass
            held.append(mine)
        return held


@pytest.fixture
async def fleet(outbox: str, tmp_path: Path) -> AsyncIterator[Fleet]:
    """A sandbox for twelve tenants and a station whose relays share one database; no violation is reported."""
    tenants = [SandboxTenant(name, f"lid://{name.lower()}.orders.1", [DOCUMENT]) for name in TENANTS]
    async with Sandbox(tenants) as sandbox:
        station = Station(tmp_path)
        station.environment |= sandbox.environment(tmp_path)
        station.environment |= {"RELAY_OUTBOX__URL": outbox, "RELAY_LEASE_SECONDS": str(LEASE)}
        database = await asyncpg.connect(outbox)
        fleet = Fleet(sandbox, station, database)
        try:
            yield fleet
        finally:
            for relay in station.relays:
                if relay.running:
                    relay.kill()
            await database.close()
        assert sandbox.violations == []


async def test_three_relays_share_the_tenants_and_each_message_goes_once(fleet: Fleet) -> None:
    relays = [await fleet.add() for _ in range(3)]
    await fleet.until_acquainted()
    await fleet.enqueue(20)
    await fleet.until_taken()
    await fleet.until_settled()
    shares = fleet.holders(relays)
    assert sorted(tenant for share in shares for tenant in share) == TENANTS
    names = [relay.said("relay.started")[0]["relay"] for relay in relays]
    due = {owner_of(TenantId(tenant), names) for tenant in TENANTS}  # once in forty times not all three
    got = {name for name, share in zip(names, shares, strict=True) if share}
    assert got == due
    assert fleet.twice() == 0
    assert fleet.is_in_order()


async def test_a_killed_relays_tenants_go_on_after_its_lease(fleet: Fleet) -> None:
    fleet.sandbox.faults(call="post", delay=0.02)
    relays = [await fleet.add() for _ in range(2)]
    await fleet.until_acquainted()
    await fleet.enqueue(60)
    await fleet.station.until(lambda: fleet.sandbox.record.count() > 200, "200 messages to be taken")
    relays[0].kill()
    await fleet.until_taken()
    await fleet.until_settled()
    assert fleet.is_in_order()
    assert fleet.twice() <= 128 * len(TENANTS)


async def test_a_stopped_relay_releases_its_tenants_at_once_and_nothing_is_sent_twice(fleet: Fleet) -> None:
    fleet.sandbox.faults(call="post", delay=0.02)
    relays = [await fleet.add() for _ in range(2)]
    await fleet.until_acquainted()
    await fleet.enqueue(60)
    await fleet.station.until(lambda: fleet.sandbox.record.count() > 200, "200 messages to be taken")
    theirs = fleet.holders(relays)[0]
    relays[0].send(signal.SIGTERM)
    assert await fleet.station.ended(relays[0]) == 0
    await fleet.station.until(
        lambda: theirs <= fleet.holders(relays)[1], "the other relay to take them", LEASE * 0.8
    )
    await fleet.until_taken()
    await fleet.until_settled()
    assert fleet.twice() == 0
    assert fleet.is_in_order()


async def test_a_relay_that_joins_gets_its_share_and_no_post_is_cut(fleet: Fleet) -> None:
    fleet.sandbox.faults(call="post", delay=0.3)  # there is work until the new one has its share
    relays = [await fleet.add()]
    await fleet.enqueue(100)
    await fleet.station.until(lambda: fleet.sandbox.record.count() > 100, "100 messages to be taken")
    relays.append(await fleet.add())
    await fleet.station.until(lambda: bool(fleet.holders(relays)[1]), "the new relay to get its share")
    fleet.sandbox.clear_faults()
    await fleet.until_taken(60)
    await fleet.until_settled()
    assert fleet.twice() == 0
    assert fleet.is_in_order()


async def test_a_frozen_relay_neither_sends_nor_settles_what_it_lost(fleet: Fleet) -> None:
    """SIGSTOP beyond its lease, others take over, SIGCONT; again and again."""
    fleet.sandbox.faults(call="post", delay=0.3)  # there is work until the one that was frozen has its share
    frozen, other = await fleet.add(), await fleet.add()
    await fleet.until_acquainted()
    for number in range(ROUNDS):
        await fleet.enqueue(20)
        await fleet.station.until(partial(takes_part, fleet, frozen), "the relay to have its share in it")
        frozen.send(signal.SIGSTOP)
        await fleet.until_taken()
        await fleet.until_settled()
        posts, last = fleet.sandbox.record.taken, fleet.sandbox.requests(call="post")[-1].number
        lost = len(frozen.said("tenant.lost"))
        frozen.send(signal.SIGCONT)
        await fleet.station.until(partial(has_lost_more, frozen, lost), "the thawed relay to notice")
        await asyncio.sleep(LEASE / 3)  # long enough for a post that should not be
        assert fleet.sandbox.record.taken == posts, f"round {number}: it sent after the thaw"
        assert fleet.sandbox.requests(call="post")[-1].number == last
        assert other.running
        assert frozen.running
    assert "no answer to a heartbeat" not in frozen.text  # it slept through it: the database is not the cause
    assert fleet.is_in_order()


def takes_part(fleet: Fleet, relay: RelayProcess) -> bool:
    """Whether it holds tenants, and some of the newest messages were taken: who holds nothing loses nothing."""
    newest = fleet.total - 20 * len(TENANTS)
    return fleet.sandbox.record.count() > newest + 30 and bool(fleet.holders([relay])[0])


def has_lost_more(relay: RelayProcess, before: int) -> bool:
    """Whether it noticed since that tenants are not its own any more."""
    return len(relay.said("tenant.lost")) > before


async def test_relays_need_no_configuration_to_share_and_status_names_them(fleet: Fleet) -> None:
    for _ in range(2):
        await fleet.add()
    await fleet.until_relays([True, True], "alive")


async def test_how_a_relay_learns_of_messages_is_logged_and_shown(fleet: Fleet) -> None:
    """It begins by polling; once it receives notifications, the log and its status say so."""
    relay = await fleet.add()
    await fleet.station.event(relay, "outbox.watched", mode="notify")
    await fleet.until_relays(["notify"], "mode")  # written with the next heartbeat
    shown = await fleet.station.command("status")
    assert ", mode notify" in shown.out
