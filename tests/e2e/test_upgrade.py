"""An outbox of an earlier version is brought up to date while messages flow; the earlier relay is the released one.

On PostgreSQL both relays share the tenants meanwhile, and the simulator's record shows no effect.
"""

import asyncio
import contextlib
import itertools
import signal
import sqlite3
from collections import defaultdict
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import relay
from relay.sandbox import Request, Sandbox, SandboxTenant
from tests.contract.stores import until
from tests.support.postgres import Cluster, connected
from tests.support.process import RelayProcess, Station, released
from tests.support.senders import MARK, sender, spelling, together

DOCUMENT = "Sync.SalesOrder"
TENANTS = [f"T{number:02}_{MARK}" for number in range(24)]
"""So many that each relay gets some of them, whatever the relays are called."""

OLD = "0.1.0"
BEAT = 0.1
"""Seconds between two of the application's transactions; each brings a message to every tenant."""

_INSERT = (
    "INSERT INTO relay_outbox (tenant_id, document_name, payload, message_id, ordering_key)"
    " VALUES ($1, $2, convert_to('<order/>', 'UTF8'), $3, $4)"
)


@dataclass(slots=True)
class Upgrade:
    """The sandbox, the database, the relays of both versions."""

    sandbox: Sandbox
    station: Station
    outbox: str
    older: dict[str, str]
    enqueued: dict[tuple[str, str], list[str]] = field(default_factory=lambda: defaultdict(list))
    """Message ids by tenant and key, in the order of their rows."""

    async def begin(self, version: str = relay.__version__) -> int:
        """A relay of this version more, that spells the tenants its own way; its number, once it runs."""
        number = len(self.station.relays)
        mine = spelling(self.sandbox, TENANTS, number) | (self.older if version == OLD else {})
        started = self.station.start(environment=mine)
        await self.station.event(started, "relay.started", version=version)
        return number

    async def end(self, number: int) -> int:
        """Stop it with SIGTERM; its exit code."""
        self.relay(number).send(signal.SIGTERM)
        return await self.station.ended(self.relay(number), 30)

    def relay(self, number: int) -> RelayProcess:
        return self.station.relays[number]

    async def until_it_sends(self, number: int, many: int = 10) -> None:
        """So many posts more of this process."""
        before = self.sent(number)
        await self.station.until(
            lambda: self.sent(number) >= before + many, f"{many} posts more of relay {number}", 40
        )

    def sent(self, number: int) -> int:
        return sum(sender(post) == number for post in self.sandbox.requests(call="post"))

    async def pour(self, enough: asyncio.Event) -> None:
        """Enqueue messages continuously."""
        async with connected(self.outbox) as database:
            for key in itertools.cycle(("K0", "K1")):
                if enough.is_set():
                    return
                async with database.transaction():
                    for tenant in TENANTS:
                        ids = self.enqueued[tenant, key]
                        ids.append(f"{tenant}-{key}-{len(ids)}")
                        await database.execute(_INSERT, tenant, DOCUMENT, ids[-1], key)
                await asyncio.sleep(BEAT)

    async def until_over(self) -> None:
        """Until ION took every message, and the outbox says so too."""
        total = sum(map(len, self.enqueued.values()))
        await self.station.until(lambda: self.sandbox.record.count() == total, "all to be taken", 60)
        left = "SELECT count(*) FROM relay_outbox WHERE state <> 'delivered'"
        async with connected(self.outbox) as database:
            await until(lambda: database.fetchval(left), lambda found: found == 0, 30)

    async def version(self) -> int:
        async with connected(self.outbox) as database:
            found: int = await database.fetchval("SELECT max(version) FROM relay_schema")
            return found

    def out_of_order(self) -> list[tuple[str, str]]:
        places = {taken.message_id: taken.number for taken in self.sandbox.messages()}
        in_order = {lane: [places[i] for i in ids] for lane, ids in self.enqueued.items()}
        return [lane for lane, order in in_order.items() if order != sorted(order)]


@pytest.fixture
async def house(postgres: Cluster, tmp_path: Path) -> AsyncIterator[Upgrade]:
    """A database with an outbox that the released relay made."""
    tenants = [SandboxTenant(name, f"lid://{name[:3].lower()}.orders.1", [DOCUMENT]) for name in TENANTS]
    name = await postgres.create()
    async with Sandbox(tenants, request_limit=1_000_000) as sandbox:
        station = Station(tmp_path / "station")
        station.environment |= sandbox.environment(tmp_path)
        station.environment |= {"RELAY_OUTBOX__URL": postgres.url_of(name), "RELAY_LEASE_SECONDS": "5"}
        built = Upgrade(sandbox, station, postgres.url_of(name), released(tmp_path / "released"))
        made = await station.command("outbox", "upgrade", environment=built.older)
        assert made.code == 0, made.err
        try:
            yield built
        finally:
            for each in station.relays:
                if each.running:
                    each.kill()
            await postgres.drop(name)


async def test_an_outbox_is_upgraded_and_its_relays_are_replaced_while_messages_flow(house: Upgrade) -> None:
    """0 lost, none twice, order per key kept, never two relays at a time for one tenant, no violation."""
    assert await house.version() == 1
    olds = [await house.begin(OLD), await house.begin(OLD)]
    enough = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(house.pour(enough))
        for number in olds:
            await house.until_it_sends(number)

        upgraded = await house.station.command("outbox", "upgrade")
        assert (upgraded.code, await house.version()) == (0, 4), upgraded.err
        for number in olds:
            await house.until_it_sends(number)

        news, ends = [], []
        for number in olds:
            news.append(await house.begin())
            await house.until_it_sends(news[-1])
            ends.append(await house.end(number))
        for number in news:
            await house.until_it_sends(number)

        back = await house.begin(OLD)  # put back, as after a release that went wrong
        await house.until_it_sends(back)
        ends.append(await house.end(back))
        enough.set()
    await house.until_over()
    ends += [await house.end(number) for number in news]

    posts: dict[str, list[Request]] = defaultdict(list)
    for request in house.sandbox.requests(call="post"):
        posts[request.tenant_id or ""].append(request)
    overlaps = [pair for each in posts.values() for pair in together(each)]
    twice = house.sandbox.record.sent_twice()
    by_relay = [house.sent(number) for number in range(len(house.station.relays))]
    print(  # noqa: T201
        f"\nupgrade: {house.sandbox.record.count():,} messages, by relay {by_relay} (old, old, new, new, old);"
        f" 0 lost, {len(twice)} twice, {len(house.out_of_order())} keys out of order, {len(overlaps)} times two"
        f" relays at once, {len(house.sandbox.violations)} violations"
    )
    assert overlaps == []
    assert twice == []
    assert house.out_of_order() == []
    assert ends == [0] * 5
    assert house.sandbox.violations == []


async def test_a_relay_refuses_an_outbox_that_is_older_than_it_needs(house: Upgrade) -> None:
    for command in (("run",), ("status",), ("messages", "list")):
        ran = await house.station.command(*command)
        assert ran.code == 2
        assert "has schema version 1, this relay needs 4" in ran.err
        assert "bring it up to date with: relay outbox upgrade" in ran.err
    assert await house.version() == 1


async def test_a_file_is_brought_up_to_date_when_it_is_opened_and_its_messages_with_it(
    tmp_path: Path,
) -> None:
    """And the released relay refuses it from then on, and says why."""
    older, path = released(tmp_path / "released"), tmp_path / "relay.db"
    station = Station(tmp_path / "station")
    station.environment["RELAY_OUTBOX__URL"] = f"sqlite:///{path}"
    assert (await station.command("outbox", "upgrade", environment=older)).code == 0
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(
            "INSERT INTO relay_outbox (tenant_id, document_name, payload, message_id)"
            " VALUES ('ACME', 'Sync.SalesOrder', 'x', 'm1')"
        )
    listed = await station.command("messages", "list", "--json")
    assert [message["message_id"] for message in listed.json] == ["m1"]
    assert (await station.command("messages", "park", "m1")).out == "1 message parked\n"
    assert [entry["what"] for entry in (await station.command("audit", "--json")).json] == ["park"]
    refused = await station.command("messages", "list", environment=older)
    assert refused.code == 2
    assert "was made by a newer relay (schema version 4, this one knows up to 1)" in refused.err
