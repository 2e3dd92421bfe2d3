"""Incidents of the outbox's disk and file: reported once, waited out, and nothing is lost."""

import json
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from relay.sandbox import Sandbox
from tests.conftest import LONG
from tests.e2e.conftest import GLOBEX
from tests.support import disks
from tests.support.application import OutboxRow, order
from tests.support.process import RelayProcess, Station

STILL_SECONDS = 12.0 if LONG else 0.5
"""How long the disk stays full: in the long form the heartbeat meets it too."""


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 16 MB."""
    with disks.small(tmp_path / "disk", "16m") as folder:
        yield folder


def _opened_incidents(relay: RelayProcess) -> list[dict[str, object]]:
    return [line for line in relay.said("incident.opened") if line["kind"] == "outbox"]


async def _until_still(sandbox: Sandbox, station: Station) -> int:
    """Wait until nothing has arrived for a while; how many have arrived."""
    seen: list[tuple[float, int]] = [(time.monotonic(), -1)]

    def still() -> bool:
        count = sandbox.record.count()
        if count != seen[-1][1]:
            seen.append((time.monotonic(), count))
        return time.monotonic() - seen[-1][0] > STILL_SECONDS

    await station.until(still, "the arrivals to stop")
    return seen[-1][1]


async def test_a_disk_that_fills_while_messages_flow(
    sandbox: Sandbox, tmp_path: Path, small_disk: Path
) -> None:
    """Settlements wait in memory, one incident is logged; with space the relay resumes, nothing is lost or sent twice."""
    station = Station(tmp_path, outbox=small_disk / "outbox.db")
    station.environment |= sandbox.environment(tmp_path)
    ids = station.application.insert_all(OutboxRow(GLOBEX, order(n), key=f"k{n % 12}") for n in range(600))
    sandbox.faults(tenant=GLOBEX, call="post", late=0.02)
    async with station.relay() as relay:
        await station.until(lambda: sandbox.record.count() >= 60, "60 arrivals")
        ballast = disks.fill(small_disk)
        (opened,) = await station.until(lambda: _opened_incidents(relay), "the line about the disk")
        assert "disk is full" in str(opened["detail"])
        assert opened["hint"]
        arrived = await _until_still(sandbox, station)
        settled = station.application.delivered()
        assert arrived - settled <= 128, "no more unsettled posts than may come twice after a crash"
        ballast.unlink()
        await station.until_delivered()
        await station.event(relay, "incident.resolved", kinds=["outbox"])
        told = [
            line for line in relay.events if "disk is full" in json.dumps(line) and line["level"] != "info"
        ]
        assert len(told) <= 3, "said once; the tenant's reading and the process' settling may each say it"
        assert not relay.said("component.crashed")
    assert {taken.message_id for taken in sandbox.messages()} == set(ids)
    assert sandbox.record.sent_twice() == []


async def test_a_relay_that_starts_on_a_full_disk(sandbox: Sandbox, tmp_path: Path, small_disk: Path) -> None:
    """It may refuse to start with a clear sentence, or wait; with space, the next start delivers all."""
    station = Station(tmp_path, outbox=small_disk / "outbox.db")
    station.environment |= sandbox.environment(tmp_path)
    station.application.insert_all(OutboxRow(GLOBEX, order(n)) for n in range(50))
    ballast = disks.fill(small_disk)
    relay = station.start()
    try:
        await station.until(lambda: not relay.running or _opened_incidents(relay), "the disk to be named")
        assert "disk is full" in relay.text, relay.tail()
        assert "Traceback" not in relay.text
        ballast.unlink()
        if not relay.running:
            assert relay.process.returncode in {1, 2}
            relay = station.start("--until-empty")
        await station.until_delivered()
    finally:
        if relay.running:
            relay.process.terminate()
        relay.process.wait(10)
    assert sandbox.record.count() == 50


def _about_the_lock(relay: RelayProcess) -> list[dict[str, object]]:
    return [line for line in relay.events if "locked by another process" in json.dumps(line)]


async def test_a_file_locked_by_another_process_for_some_seconds(sandbox: Sandbox, station: Station) -> None:
    """A write transaction held open for 7 s by another program: the relay waits, and resumes automatically."""
    async with station.relay() as relay:
        station.application.insert(GLOBEX)
        await station.until_delivered()
        with closing(sqlite3.connect(station.application.path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            other.execute(
                "INSERT INTO relay_outbox (tenant_id, document_name, payload) VALUES (?, 'Sync.SalesOrder', 'x')",
                (GLOBEX,),
            )
            held = time.monotonic()
            await station.until(lambda: _about_the_lock(relay), "a line about the lock", watched=relay)
            assert time.monotonic() - held < 15
            other.execute("COMMIT")
        await station.until(lambda: station.application.delivered() == 2, "the held message delivered")
        station.application.insert_all(OutboxRow(GLOBEX, order(n)) for n in range(50))
        await station.until_delivered()
        assert not relay.said("component.crashed")
    assert sandbox.record.sent_twice() == []


async def test_settlements_wait_for_a_locked_file(sandbox: Sandbox, station: Station) -> None:
    """ION has answered and the file is locked: the deliveries are kept, written later, never sent again."""
    slow = sandbox.faults(tenant=GLOBEX, call="post", late=1.5)  # time to lock the file before the answer
    station.application.insert_all(OutboxRow(GLOBEX, order(n), key=f"k{n}") for n in range(3))
    async with station.relay() as relay:
        await station.until(lambda: slow.applied, "a post in flight")
        with closing(sqlite3.connect(station.application.path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            await station.event(relay, "incident.opened", kind="outbox")
            other.execute("ROLLBACK")
        await station.until_delivered()
        resolved = await station.event(relay, "incident.resolved", kinds=["outbox"])
        assert "locked" in resolved["last"]
        assert len(_opened_incidents(relay)) == 1
    assert sandbox.record.sent_twice() == []
    assert len(sandbox.requests(GLOBEX, "post")) == 3


async def test_an_outbox_that_is_moved_away_and_put_back(sandbox: Sandbox, station: Station) -> None:
    """Somebody renames the file under a running relay: said once, nothing written elsewhere, it goes on after."""
    path = station.application.path
    async with station.relay() as relay:
        station.application.insert(GLOBEX)
        await station.until_delivered()
        with station.application.connected() as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        beside = [p for p in path.parent.glob(f"{path.name}*") if not p.name.endswith(".lock")]
        for file in beside:
            file.rename(file.with_name(f"away-{file.name}"))
        await station.until(
            lambda: _opened_incidents(relay), "the line about the missing file", watched=relay
        )
        assert not path.exists(), "no new file in its place"
        for file in beside:
            away = file.with_name(f"away-{file.name}")
            if away.exists():
                away.rename(file)
        ids = station.application.insert_all(OutboxRow(GLOBEX, order(n)) for n in range(20))
        await station.until_delivered()
        assert not relay.said("component.crashed")
    assert {taken.message_id for taken in sandbox.messages()} >= set(ids)
    assert sandbox.record.sent_twice() == []
