"""The outbox becomes another one under a running relay: nothing is called delivered that was never sent.

A standby that lags takes over, or a backup is restored: rows are lost, and new messages get their ids. The long form
(RELAY_TEST_LONG=1) is ten failovers and three restores for one relay each; `-s` prints the figures.
"""

import asyncio
import contextlib
import signal
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Self

import pytest

from relay.outbox import upgrade
from relay.sandbox import Sandbox, SandboxTenant
from tests.conftest import LONG
from tests.support.postgres import Server, connected, followed, own_server, promote, standby
from tests.support.process import RelayProcess, Station

TENANT = "ACME_PRD"
DOCUMENT = "Sync.SalesOrder"
FAILOVERS, RESTORES = (10, 3) if LONG else (1, 1)
LOST = 400
"""Messages of each round that the other store does not have; a sequence may jump over 32 ids."""
LONGER = 90.0

_INSERT = """
INSERT INTO relay_outbox (tenant_id, document_name, payload, ordering_key)
SELECT $1, $2, convert_to('<order/>', 'UTF8'), 'K' || n % 16 FROM generate_series(1, $3::int) n
RETURNING id, message_id
"""


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    """A simulator that answers slowly, so that much is in flight and read ahead whenever the store changes."""
    async with Sandbox([SandboxTenant(TENANT, "lid://acme.orders.1", [DOCUMENT])]) as one:
        one.faults(call="post", late=0.02)
        yield one
        assert one.violations == []


@pytest.fixture
def station(sandbox: Sandbox, tmp_path: Path) -> Iterator[Station]:
    """A station whose relays are ended for sure."""
    one = Station(tmp_path)
    one.environment |= sandbox.environment(tmp_path)
    one.environment |= {"RELAY_STOP__GRACE_SECONDS": "4"}
    yield one
    for relay in one.relays:
        if relay.running:
            relay.kill()


def taken_ids(sandbox: Sandbox) -> set[str]:
    return {taken.message_id for taken in sandbox.messages()}


async def more_arrive(sandbox: Sandbox, count: int) -> None:
    """The relay is at work."""
    enough = sandbox.record.count() + count
    await sandbox.until(lambda: sandbox.record.count() >= enough, within=LONGER)


def require_all_sent(what: str, lost: Mapping[int, str], now: Mapping[int, str], sandbox: Sandbox) -> None:
    """Of the rows `now`, all of which are delivered, those were sent too that got the ids of `lost` ones."""
    reused = [row for row in lost if now.get(row, lost[row]) != lost[row]]
    never_sent = set(now.values()) - taken_ids(sandbox)
    print(  # noqa: T201
        f"{what}: {len(lost)} rows lost, {len(reused)} ids given again, {len(never_sent)} never sent, "
        f"{len(sandbox.record.sent_twice())} sent twice so far"
    )
    assert len(reused) > LOST // 2, "hardly an id was given a second time: this shows nothing"
    assert never_sent == set()


# --- a standby that lags is promoted ----------------------------------------------------------------


class Cluster:
    """Two ports; on one of them a primary, on the other a standby that has stopped receiving."""

    def __init__(self, stack: contextlib.ExitStack) -> None:
        self._stack = stack
        self.primary = stack.enter_context(own_server())
        upgrade(self.primary.url)
        self.standby = stack.enter_context(standby(self.primary))

    @property
    def url(self) -> str:
        """Of both."""
        hosts = f"127.0.0.1:{self.primary.port},127.0.0.1:{self.standby.port}"
        return f"postgresql://postgres@{hosts}/postgres"

    def stop_receiving(self) -> None:
        """From now on the standby lags."""
        self.standby.settings["primary_conninfo"] = ""
        self.standby.restart()

    def kill_primary(self) -> None:
        self.primary.stop(signal.SIGQUIT)

    def follow_the_new_one(self) -> None:
        """A new standby at the port of the primary that was killed, a copy of the one that was promoted."""
        folder = self._stack.enter_context(TemporaryDirectory(prefix="relay-pg-", ignore_cleanup_errors=True))
        port, self.standby = self.standby.port, Server(Path(folder), copy_of=self.primary)
        self.standby.port = port
        self._stack.callback(self.standby.stop, signal.SIGQUIT)
        self.standby.start()


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with contextlib.ExitStack() as stack:
        yield Cluster(stack)


async def enqueue(url: str, count: int) -> dict[int, str]:
    """So many messages, in one transaction: their message ids by row."""
    async with connected(url) as connection:
        rows = await connection.fetch(_INSERT, TENANT, DOCUMENT, count)
    return {row["id"]: row["message_id"] for row in rows}


async def until_all_delivered(url: str) -> dict[int, str]:
    """The message ids by row, once all are delivered."""
    end = time.monotonic() + LONGER
    while True:
        async with connected(url) as connection:
            rows = await connection.fetch("SELECT id, message_id, state FROM relay_outbox")
        waiting = sum(1 for row in rows if row["state"] != "delivered")
        if not waiting:
            return {row["id"]: row["message_id"] for row in rows}
        assert time.monotonic() < end, f"{waiting} of {len(rows)} are not delivered"
        await asyncio.sleep(0.05)


async def test_a_failover_to_a_standby_that_lags_calls_nothing_delivered_that_was_not_sent(
    cluster: Cluster, sandbox: Sandbox, station: Station
) -> None:
    """While the relay has posts in flight, settlements to write and messages read ahead from the old primary."""
    await enqueue(cluster.primary.url, 50)
    relay = station.start(environment={"RELAY_OUTBOX__URL": cluster.url})
    for number in range(1, FAILOVERS + 1):
        await until_all_delivered(cluster.primary.url)
        lost = await _fail_over(cluster, sandbox, relay)
        require_all_sent(f"failover {number}", lost, await until_all_delivered(cluster.primary.url), sandbox)
        assert len(relay.said("outbox.changed", code="RELAY-143")) == number
        if number < FAILOVERS:
            await asyncio.to_thread(cluster.follow_the_new_one)


async def _fail_over(cluster: Cluster, sandbox: Sandbox, relay: RelayProcess) -> Mapping[int, str]:
    """The rows that the new primary does not have; their ids are given again before the relay reaches it.

    The relay does not run meanwhile: what it had in flight, read ahead and not settled meets the new rows.
    """
    await followed(cluster.primary)
    await asyncio.to_thread(cluster.stop_receiving)
    lost = await enqueue(cluster.primary.url, LOST)
    await more_arrive(sandbox, 30)
    relay.send(signal.SIGSTOP)
    await asyncio.to_thread(cluster.kill_primary)
    await promote(cluster.standby)
    cluster.primary, cluster.standby = cluster.standby, cluster.primary
    async with connected(cluster.primary.url) as connection:
        known = await connection.fetchval("SELECT count(*) FROM relay_outbox WHERE id = ANY ($1)", list(lost))
    assert known == 0
    await enqueue(cluster.primary.url, LOST)
    relay.send(signal.SIGCONT)
    return lost


SHARED = [f"T{number}_PRD" for number in range(6)]
_INSERT_SHARED = """
INSERT INTO relay_outbox (tenant_id, document_name, payload, ordering_key)
SELECT tenant, $2, convert_to('<order/>', 'UTF8'), 'the only lane'
FROM generate_series(1, $3::int) n CROSS JOIN unnest($1::text[]) tenant ORDER BY n
"""


@pytest.fixture
async def shared_sandbox() -> AsyncIterator[Sandbox]:
    """A slower simulator for the tenants of two relays."""
    tenants = [SandboxTenant(name, f"lid://{name.lower()}.orders.1", [DOCUMENT]) for name in SHARED]
    async with Sandbox(tenants, request_limit=1_000_000) as one:
        one.faults(call="post", late=0.05)
        yield one
        assert one.violations == []


async def test_after_a_failover_no_tenant_is_posted_by_two_relays_at_a_time(
    cluster: Cluster, shared_sandbox: Sandbox, tmp_path: Path
) -> None:
    """The standby names a former holder: it does not know that the second relay joined, and took tenants over.

    The second one cannot reach the new primary; it posts what it has read until its leases end by its own clock.
    """
    station = Station(tmp_path)
    station.environment |= shared_sandbox.environment(tmp_path)
    station.environment |= {"RELAY_LEASE_SECONDS": "3", "RELAY_OUTBOX__URL": cluster.url}
    async with station.relay() as first, connected(cluster.primary.url) as connection:
        await connection.execute(_INSERT_SHARED, SHARED, DOCUMENT, 2)
        await until_all_delivered(cluster.primary.url)
        await followed(cluster.primary)
        await asyncio.to_thread(cluster.stop_receiving)
        old_primary_only = {"RELAY_OUTBOX__URL": cluster.primary.url}
        async with station.relay(environment=old_primary_only) as second:
            await connection.execute(_INSERT_SHARED, SHARED, DOCUMENT, 120)
            await station.event(second, "tenant.taken", within=LONGER)
            await more_arrive(shared_sandbox, 30)
            await asyncio.to_thread(cluster.kill_primary)
            await promote(cluster.standby)
            async with connected(cluster.standby.url) as there:
                await there.execute(_INSERT_SHARED, SHARED, DOCUMENT, 40)
            await until_all_delivered(cluster.standby.url)
            assert second.said("tenant.lost", reason="no heartbeat reached the outbox in time")
            assert len(first.said("outbox.changed")) == 1
    for tenant in SHARED:
        posts = sorted(
            (one.began, one.began + (one.seconds or 0.0))
            for one in shared_sandbox.record.find_requests(tenant, "post")
        )
        assert len(posts) >= 40
        assert [one for one, following in pairwise(posts) if following[0] < one[1]] == []


# --- a backup is restored ---------------------------------------------------------------------------


class Producer:
    """An application that enqueues all the time, each message in a transaction of its own."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.enqueued = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        with contextlib.closing(sqlite3.connect(self._path, timeout=30, isolation_level=None)) as connection:
            while not self._stopping.wait(0.001):
                connection.execute(
                    "INSERT INTO relay_outbox (tenant_id, document_name, payload, ordering_key) VALUES (?, ?, ?, ?)",
                    (TENANT, DOCUMENT, b"<order/>", f"K{self.enqueued % 16}"),
                )
                self.enqueued += 1


def copy(path: Path, to: Path) -> None:
    """As `.backup` and `.restore` of SQLite's shell: all pages in one transaction of the target."""
    with (
        contextlib.closing(sqlite3.connect(path)) as source,
        contextlib.closing(sqlite3.connect(to, timeout=30)) as target,
    ):
        source.backup(target)


async def stop_between_writes(relay: RelayProcess, path: Path) -> None:
    """Stop the process where it does not keep others from writing: posts are in flight, or not settled yet."""
    while True:
        relay.send(signal.SIGSTOP)
        with contextlib.closing(sqlite3.connect(path, timeout=1, isolation_level=None)) as connection:
            try:
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError:
                relay.send(signal.SIGCONT)
                await asyncio.sleep(0.01)
            else:
                return


def ids_by_row(path: Path) -> dict[int, str]:
    with contextlib.closing(sqlite3.connect(path, timeout=30)) as connection:
        return dict(connection.execute("SELECT id, message_id FROM relay_outbox").fetchall())


async def test_a_restored_backup_calls_nothing_delivered_that_was_not_sent(
    sandbox: Sandbox, station: Station
) -> None:
    """Under load: an application enqueues all the time, and gets the ids of rows that the backup does not have."""
    path, backup = station.application.path, station.folder / "backup.db"
    async with station.relay() as relay:
        for number in range(1, RESTORES + 1):
            with Producer(path) as producer:
                await _enqueued(station, producer, 100)
                await asyncio.to_thread(copy, path, backup)
                await _enqueued(station, producer, LOST)
                await more_arrive(sandbox, 30)
                await stop_between_writes(relay, path)
                lost = {
                    row: message_id
                    for row, message_id in ids_by_row(path).items()
                    if row not in ids_by_row(backup)
                }
                await asyncio.to_thread(copy, backup, path)
                await _enqueued(station, producer, LOST)
                relay.send(signal.SIGCONT)
            await station.until_delivered(within=LONGER)
            require_all_sent(f"restore {number}", lost, ids_by_row(path), sandbox)
            assert len(relay.said("outbox.changed", code="RELAY-143")) == number


async def _enqueued(station: Station, producer: Producer, more: int) -> None:
    enough = producer.enqueued + more
    await station.until(lambda: producer.enqueued >= enough, f"{more} more to be enqueued", LONGER)
