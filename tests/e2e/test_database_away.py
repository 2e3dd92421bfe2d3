"""The database of the outbox is down, full or replaced: one incident, the relay waits, nothing is lost."""

import asyncio
import shutil
import signal
import time
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from relay.outbox import upgrade
from relay.sandbox import Sandbox, SandboxTenant
from tests.support import disks
from tests.support.credentials import Credentials, asked_for_passwords
from tests.support.postgres import (
    UNPRIVILEGED,
    Server,
    connected,
    followed,
    own_server,
    promote,
    server_with_small_queue,
    standby,
    unprivileged_group,
)
from tests.support.process import RelayProcess, Station

DOCUMENT = "Sync.SalesOrder"
REPORTED_AGAIN = 2
"""One component may find the new server, and the incident is resolved, before another one notices the end of the old one."""
LONGER = 60.0
"""Seconds for what several servers and a relay do together on a busy machine; no measure of speed."""
TENANT = "ACME_PRD"
_INSERT = """
INSERT INTO relay_outbox (tenant_id, document_name, payload, ordering_key)
SELECT $1, $2, convert_to('<order/>', 'UTF8'), 'K' || n % 4 FROM generate_series(1, $3::int) n RETURNING message_id
"""

_INSERT_ONE_BY_ONE = """
DO $$ BEGIN
    FOR n IN 1..{1} LOOP
        INSERT INTO relay_outbox (tenant_id, document_name, payload) VALUES ('{0}', 'Sync.SalesOrder', '<order/>');
        COMMIT;
    END LOOP;
END $$
"""


@pytest.fixture
def server() -> Iterator[Server]:
    with own_server() as one:
        upgrade(one.url)
        yield one


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    """A simulator whose conformance checker reports nothing, whatever happens to the database."""
    async with Sandbox([SandboxTenant(TENANT, "lid://acme.orders.1", [DOCUMENT])]) as one:
        yield one
        assert one.violations == []


@pytest.fixture
async def station(server: Server, sandbox: Sandbox, tmp_path: Path) -> AsyncIterator[Station]:
    """A station on this server; no relay is left running."""
    one = Station(tmp_path)
    one.environment |= sandbox.environment(tmp_path)
    one.environment |= {
        "RELAY_OUTBOX__URL": server.url,
        "RELAY_STOP__GRACE_SECONDS": "4",
        "RELAY_LEASE_SECONDS": "3",
    }
    yield one
    for relay in one.relays:
        if relay.running:
            relay.kill()


async def enqueue(url: str, count: int) -> set[str]:
    """So many messages, in one transaction; their ids."""
    async with connected(url) as connection:
        return {row[0] for row in await connection.fetch(_INSERT, TENANT, DOCUMENT, count)}


async def undelivered(url: str) -> int:
    async with connected(url) as connection:
        count: int = await connection.fetchval("SELECT count(*) FROM relay_outbox WHERE state <> 'delivered'")
        return count


async def until_settled(url: str, within: float = 90.0) -> None:
    """Until the database says that all is delivered."""
    end = time.monotonic() + within
    while await undelivered(url):
        assert time.monotonic() < end, f"{await undelivered(url)} are not settled"
        await asyncio.sleep(0.05)


async def stopped(station: Station, relay: RelayProcess) -> tuple[int, float]:
    """Send SIGTERM: the exit code, and the seconds it took."""
    began = time.monotonic()
    relay.send(signal.SIGTERM)
    code = await station.ended(relay)
    return code, time.monotonic() - began


def database(server: Server, name: str) -> str:
    """The URL of another database of this server."""
    return server.url.removesuffix("/postgres") + f"/{name}"


def complaints(relay: RelayProcess) -> list[dict[str, object]]:
    return [line for line in relay.said("incident.opened") if line["kind"] == "outbox"]


# --- down at the start ------------------------------------------------------------------------------


async def test_a_relay_that_starts_before_its_database_waits_for_it(
    server: Server, sandbox: Sandbox, station: Station
) -> None:
    ids = await enqueue(server.url, 5)
    server.stop()
    relay = station.start()
    await station.event(relay, "incident.opened", kind="outbox")
    assert relay.running
    assert relay.said("relay.started") == []
    server.start()
    await station.event(relay, "relay.started")
    await sandbox.until(lambda: sandbox.record.count() == len(ids), within=LONGER)
    assert len(complaints(relay)) == 1
    assert len(relay.said("incident.resolved")) == 1


async def test_a_relay_that_waits_for_its_database_stops_at_once(server: Server, station: Station) -> None:
    server.stop()
    relay = station.start()
    await station.event(relay, "incident.opened", kind="outbox")
    code, took = await stopped(station, relay)
    assert code == 0
    assert took < 3
    assert relay.said("relay.ended")


async def test_until_empty_waits_no_longer_than_within(server: Server, station: Station) -> None:
    server.stop()
    relay = station.start("--until-empty", "--within", "1")
    assert await station.ended(relay) == 1
    assert "outbox" in relay.text


async def test_a_database_that_does_not_exist_yet_is_waited_for(
    server: Server, sandbox: Sandbox, station: Station
) -> None:
    url = database(server, "later")
    relay = station.start(environment={"RELAY_OUTBOX__URL": url})
    opened = await station.event(relay, "incident.opened", kind="outbox")
    assert "no such database" in opened["detail"]
    async with connected(server.url) as connection:
        await connection.execute("CREATE DATABASE being_made")
    await asyncio.to_thread(upgrade, database(server, "being_made"))
    ids = await enqueue(database(server, "being_made"), 5)
    async with connected(server.url) as connection:
        await connection.execute("ALTER DATABASE being_made RENAME TO later")
    await station.event(relay, "relay.started", within=LONGER)
    await until_settled(url)
    assert {taken.message_id for taken in sandbox.messages()} == ids
    assert len(complaints(relay)) == 1


# --- its credentials -----------------------------------------------------------------------------------


@pytest.fixture
async def credentials(server: Server, station: Station) -> Credentials:
    return await asked_for_passwords(server, station)


async def test_a_password_that_is_refused_at_the_start_is_waited_for_and_commands_say_so_at_once(
    server: Server, sandbox: Sandbox, station: Station, credentials: Credentials
) -> None:
    ids = await enqueue(server.url, 5)
    credentials.write("wrong")
    relay = station.start()
    opened = await station.event(relay, "incident.opened", kind="outbox")
    assert "it refused the password" in opened["detail"]
    assert "wrong" not in relay.text
    status = await station.command("status")
    assert status.code == 1
    assert "it refused the password; correct it in RELAY_OUTBOX__URL" in status.err
    checked = await station.command("check")
    assert checked.code == 1
    assert "it refused the password" in checked.out
    await credentials.set_password("right")
    credentials.write("right")
    await station.event(relay, "incident.resolved", within=LONGER)
    await until_settled(server.url)
    assert {taken.message_id for taken in sandbox.messages()} == ids
    assert len(complaints(relay)) == 1


async def test_a_password_that_is_refused_later_is_one_incident_and_nothing_is_lost(
    server: Server, sandbox: Sandbox, station: Station, credentials: Credentials
) -> None:
    """The server's password changes, its connections end, and the file follows late."""
    await credentials.set_password("first")
    credentials.write("first")
    sandbox.faults(call="post", delay=0.05)
    ids = await enqueue(server.url, 200)
    relay = station.start(environment={"RELAY_LOG__SUMMARY_SECONDS": "2"})
    await sandbox.until(lambda: sandbox.record.count() >= 20, within=LONGER)
    await credentials.set_password("second")
    await credentials.end_sessions()
    await station.until(lambda: "it refused the password" in relay.text, "the refusal", LONGER)
    credentials.write("second")
    await until_settled(server.url)
    assert {taken.message_id for taken in sandbox.messages()} == ids
    assert len(sandbox.record.sent_twice()) <= 128
    assert relay.running


async def test_rotations_under_load_are_no_incident_and_nothing_is_lost_or_sent_twice(
    server: Server, sandbox: Sandbox, station: Station, credentials: Credentials
) -> None:
    await credentials.set_password("0")
    credentials.write("0")
    ids: set[str] = set()
    relay = station.start()
    await station.event(relay, "relay.started", within=LONGER)
    for number in range(1, 21):
        ids |= await enqueue(server.url, 50)
        credentials.write(f"{number}")
        await credentials.set_password(f"{number}")
        await sandbox.until(partial(has_taken, sandbox, len(ids) - 25), within=LONGER)
    await until_settled(server.url)
    assert {taken.message_id for taken in sandbox.messages()} == ids
    assert sandbox.record.sent_twice() == []
    assert relay.said("incident.opened") == []
    assert relay.said("component.crashed") == []


# --- down later ----------------------------------------------------------------------------------------


async def test_sigterm_with_the_database_down_and_nothing_unsettled_ends_within_the_grace(
    server: Server, sandbox: Sandbox, station: Station
) -> None:
    ids = await enqueue(server.url, 3)
    relay = station.start()
    await sandbox.until(lambda: sandbox.record.count() == len(ids), within=LONGER)
    await until_settled(server.url)
    server.stop()
    await station.event(relay, "incident.opened", kind="outbox")
    code, took = await stopped(station, relay)
    assert code == 0
    assert took < 8


async def test_deliveries_that_could_not_be_settled_go_again_under_the_same_ids_and_no_others(
    server: Server, sandbox: Sandbox, station: Station
) -> None:
    """The database stops while posts are in flight: they complete, cannot be settled, and the relay is stopped."""
    sandbox.faults(call="post", delay=0.1)
    ids = await enqueue(server.url, 60)
    relay = station.start()
    await sandbox.until(lambda: sandbox.record.count() >= 10, within=LONGER)
    server.stop()
    await station.event(relay, "incident.opened", kind="outbox")
    code, took = await stopped(station, relay)
    assert code == 1
    assert took < 8
    assert "settlements could not be written" in relay.said("relay.ended")[0]["reason"]
    server.start()
    left = await undelivered(server.url)
    sandbox.clear_faults()
    again = station.start()
    await until_settled(server.url)
    assert {taken.message_id for taken in sandbox.messages()} == ids
    assert len(sandbox.record.sent_twice()) <= min(left, 128)
    assert again.running


async def test_what_was_delivered_while_the_database_was_away_is_settled_and_not_sent_again(
    server: Server, sandbox: Sandbox, station: Station
) -> None:
    """The relay lives through it: what it knows to be delivered is written once that is possible."""
    sandbox.faults(call="post", delay=0.1)
    ids = await enqueue(server.url, 60)
    relay = station.start()
    await sandbox.until(lambda: sandbox.record.count() >= 10, within=LONGER)
    server.restart(signal.SIGQUIT)  # as in a crash, in the middle of settlements
    await until_settled(server.url)
    assert {taken.message_id for taken in sandbox.messages()} == ids
    assert sandbox.record.sent_twice() == []
    assert len(complaints(relay)) <= REPORTED_AGAIN


# --- its disk is full ---------------------------------------------------------------------------------


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A disk of 32 MB for the server; only root may mount one.

    Not in pytest's folder: each new run of pytest on the machine closes that to the server's account.
    """
    with (
        TemporaryDirectory(prefix="relay-disk-") as name,
        disks.small(Path(name, "disk"), "32m") as folder,
    ):
        Path(name).chmod(0o755)
        folder.chmod(0o755)
        (folder / "space").mkdir()
        shutil.chown(folder / "space", UNPRIVILEGED, unprivileged_group())
        yield folder


async def test_a_full_disk_under_the_database_is_said_once_and_waited_out(
    server: Server, sandbox: Sandbox, station: Station, small_disk: Path
) -> None:
    """The outbox' tablespace is full: settlements fail with PostgreSQL's 53100 until there is space again."""
    async with connected(server.url) as connection:
        await connection.execute(f"CREATE TABLESPACE small LOCATION '{small_disk / 'space'}'")
        await connection.execute("CREATE DATABASE small TABLESPACE small")
    url = database(server, "small")
    await asyncio.to_thread(upgrade, url)
    sandbox.faults(call="post", delay=0.05)
    ids = await enqueue(url, 2_000)
    relay = station.start(environment={"RELAY_OUTBOX__URL": url})
    await sandbox.until(lambda: sandbox.record.count() >= 50, within=LONGER)
    ballast = disks.fill(small_disk)
    await station.event(relay, "incident.opened", kind="outbox", within=90)
    assert "its disk is full" in str(complaints(relay)[0]["detail"])
    before = sandbox.record.count()
    await asyncio.sleep(1)
    assert sandbox.record.count() <= before + 128  # in flight and unsettled together
    ballast.unlink()
    sandbox.clear_faults()
    await until_settled(url, within=90)
    assert {taken.message_id for taken in sandbox.messages()} == ids
    assert sandbox.record.sent_twice() == []
    assert relay.running


# --- another server takes its place -------------------------------------------------------------------


def has_taken(sandbox: Sandbox, count: int) -> bool:
    return sandbox.record.count() >= count


def both(first: Server, second: Server) -> str:
    """As docs/postgres.md says: all hosts of the cluster."""
    hosts = f"127.0.0.1:{first.port},127.0.0.1:{second.port}"
    return f"postgresql://postgres@{hosts}/postgres?target_session_attrs=read-write"


async def until_asked(server: Server, times: int = 1, within: float = 60.0) -> None:
    """Until the relay has logged in there so often; a server with `log_connections` tells."""
    end = time.monotonic() + within
    while server.log.count("application_name=ion-relay") < times:
        assert time.monotonic() < end, "the relay did not ask there"
        await asyncio.sleep(0.02)


async def test_after_a_failover_the_relay_goes_on_with_the_standby_that_was_promoted(
    server: Server, sandbox: Sandbox, station: Station
) -> None:
    """Two hosts in the URL; the primary is killed, the standby is read-only for a while, then promoted."""
    with standby(server, log_connections="on") as second:
        sandbox.faults(call="post", delay=0.05)
        ids = await enqueue(server.url, 100)
        await followed(server)
        relay = station.start(environment={"RELAY_OUTBOX__URL": both(server, second)})
        await sandbox.until(lambda: sandbox.record.count() >= 20, within=LONGER)
        server.stop(signal.SIGQUIT)
        await station.event(relay, "incident.opened", kind="outbox")
        await until_asked(second, times=2)  # it refuses, being read-only; the relay asks again
        assert relay.running
        await promote(second)
        ids |= await enqueue(second.url, 10)
        await until_settled(second.url)
        assert {taken.message_id for taken in sandbox.messages()} == ids
        assert len(complaints(relay)) <= REPORTED_AGAIN
        assert len(sandbox.record.sent_twice()) <= 128  # what was settled but had not reached the standby


async def test_over_a_switch_in_good_order_and_back_nothing_is_sent_twice(
    server: Server, sandbox: Sandbox, station: Station
) -> None:
    """The old primary becomes the standby of the new one, then again the primary: no settlement is lost on the way."""
    with standby(server) as second:
        sandbox.faults(call="post", delay=0.05)
        ids = await enqueue(server.url, 100)
        relay = station.start(environment={"RELAY_OUTBOX__URL": both(server, second)})
        old, new = server, second
        for seen in (20, 130):
            await sandbox.until(partial(has_taken, sandbox, seen), within=LONGER)
            await followed(old)
            old.stop()
            await promote(new)
            old.follow(new)
            old.start()
            ids |= await enqueue(new.url, 100)
            old, new = new, old
        await until_settled(server.url)
        assert {taken.message_id for taken in sandbox.messages()} == ids
        assert sandbox.record.sent_twice() == []
        assert len(complaints(relay)) <= 2 * REPORTED_AGAIN  # for each switch


async def test_a_primary_that_becomes_read_only_under_the_relay_is_waited_out(
    server: Server, sandbox: Sandbox, station: Station
) -> None:
    """Its connections stay and can be read from; what was delivered is settled once it can be written to again."""
    sandbox.faults(call="post", delay=0.05)
    ids = await enqueue(server.url, 400)
    relay = station.start()
    await sandbox.until(lambda: sandbox.record.count() >= 20, within=LONGER)
    async with connected(server.url) as connection:
        await connection.execute("ALTER SYSTEM SET default_transaction_read_only = on")
        await connection.execute("SELECT pg_reload_conf()")
        await station.event(relay, "incident.opened", kind="outbox")
        settled = 400 - await undelivered(server.url)
        assert "read-only" in str(complaints(relay)[0]["detail"])
        assert sandbox.record.count() <= settled + 128  # in flight and unsettled together
        await connection.execute("SET default_transaction_read_only = off")
        await connection.execute("ALTER SYSTEM RESET ALL")
        await connection.execute("SELECT pg_reload_conf()")
    await until_settled(server.url)
    assert {taken.message_id for taken in sandbox.messages()} == ids
    assert sandbox.record.sent_twice() == []
    assert len(complaints(relay)) <= REPORTED_AGAIN


# --- its sequences are behind ---------------------------------------------------------------------------


async def test_a_sequence_that_lags_behind_is_one_incident_until_an_upgrade_corrects_it(
    server: Server, sandbox: Sandbox, station: Station
) -> None:
    """As after a restore by logical replication; the relay runs all the time and delivers what is there."""
    ids = await enqueue(server.url, 5)
    async with connected(server.url) as connection:
        await connection.execute("ALTER TABLE relay_outbox ALTER COLUMN id RESTART")
    relay = station.start()
    opened = await station.event(relay, "incident.opened", kind="sequence")
    assert opened["code"] == "RELAY-159"
    enqueued = ("enqueue", "--tenant", TENANT, "--document", DOCUMENT, "-")
    refused = await station.command(*enqueued, stdin=b"<order/>")
    assert refused.code == 1
    assert "relay outbox upgrade" in refused.err
    corrected = await station.command("outbox", "upgrade")
    assert "the next id of relay_outbox would be" in corrected.out
    await station.event(relay, "incident.resolved", within=LONGER, kinds=["sequence"])
    ids |= await enqueue(server.url, 5)
    await until_settled(server.url)
    assert {taken.message_id for taken in sandbox.messages()} == ids
    assert len(relay.said("incident.opened", kind="sequence")) == 1


# --- the relay itself is frozen --------------------------------------------------------------------------


@pytest.fixture
def small_queue() -> Iterator[Server]:
    with server_with_small_queue() as one:
        yield one


async def test_20_000_inserts_go_through_while_the_relay_is_frozen(
    small_queue: Server, sandbox: Sandbox, station: Station
) -> None:
    """The queue of notifications holds 16,000, and the frozen relay reads none of them."""
    address = f"postgresql://postgres@/postgres?host={small_queue.folder}&port={small_queue.port}"
    relay = station.start(environment={"RELAY_OUTBOX__URL": address})
    await station.event(relay, "outbox.watched", mode="notify", within=LONGER)
    relay.send(signal.SIGSTOP)
    try:
        async with connected(small_queue.url) as connection:
            for tenant, count in (("ANOTHER", 20_000), (TENANT, 20)):
                await connection.execute(_INSERT_ONE_BY_ONE.format(tenant, count))
    finally:
        relay.send(signal.SIGCONT)
    await sandbox.until(lambda: sandbox.record.count() == 20, within=LONGER)
    assert relay.running
