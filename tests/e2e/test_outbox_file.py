"""The outbox as a file: its names, backup and restore around a real relay, its log, and where it lies."""

import asyncio
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from relay.outbox.sqlite.incidents import MAX_LOG_BYTES
from relay.sandbox import Sandbox
from tests.e2e.conftest import GLOBEX
from tests.e2e.test_disk import small_disk  # noqa: F401  # a fixture
from tests.support.application import OutboxRow, order
from tests.support.process import RelayProcess, Station

IN_FLIGHT = 128
"""Messages of a tenant that a kill leaves in flight or unsettled, at most."""


def posts(sandbox: Sandbox) -> int:
    """How many posts arrived, repeated ones too."""
    return sum(1 + len(taken.redeliveries or ()) for taken in sandbox.messages())


def symlink(path: Path) -> Path:
    link = path.with_name("link.db")
    link.symlink_to(path)
    return link


def hard_link(path: Path) -> Path:
    link = path.with_name("hard.db")
    link.hardlink_to(path)
    return link


def without_lock_file(path: Path) -> Path:
    path.with_name(path.name + ".lock").unlink()
    return path


@pytest.mark.parametrize("other_name", [symlink, hard_link, without_lock_file])
async def test_a_second_relay_ends_by_whatever_name_it_opens_the_file(
    sandbox: Sandbox, station: Station, other_name: Callable[[Path], Path]
) -> None:
    async with station.relay():
        other = other_name(station.application.path)
        second = station.start(environment={"RELAY_OUTBOX__URL": f"sqlite:///{other}"})
        assert await station.ended(second) == 1
        assert "another relay" in second.text
        assert "Traceback" not in second.text
        station.application.insert_all([OutboxRow(GLOBEX, order(number)) for number in range(6)])
        await station.until_delivered()
    assert sandbox.record.count() == 6
    assert posts(sandbox) == 6


# --- backup and restore ---------------------------------------------------------------------------

MESSAGES = 1000


async def deliver_until_killed(sandbox: Sandbox, station: Station, least: int) -> Path:
    """A backup while the relay runs and ION is down; then some hundred deliveries, and `kill -9`."""
    backup = station.folder / "backup.db"
    station.environment[f"RELAY_TENANTS__{GLOBEX}__MAX_IN_FLIGHT"] = "32"
    station.application.insert_all([OutboxRow(GLOBEX, order(number)) for number in range(MESSAGES)])
    down = sandbox.faults(call="ping", status=503)
    async with station.relay() as relay:
        made = await station.command("outbox", "backup", str(backup), "--json")
        assert (made.code, made.err) == (0, f"outbox: {station.folder / 'outbox.db'}\n")
        assert made.json["pending"] == MESSAGES
        sandbox.remove_fault(down)
        await station.until(lambda: station.application.delivered() >= least, "so many deliveries")
        relay.kill()
    return backup


async def sent_twice(sandbox: Sandbox, station: Station) -> int:
    await station.until_delivered()
    assert sandbox.record.count() == MESSAGES
    assert not [taken for taken in sandbox.messages() if taken.changed]
    return posts(sandbox) - MESSAGES


async def restored_line(station: Station, relay: RelayProcess) -> dict[str, object]:
    line = await station.event(relay, "outbox.restored", level="warning", code="RELAY-149")
    assert not relay.said("relay.recovered")
    return line


async def test_a_restored_backup_says_how_many_go_again(sandbox: Sandbox, station: Station) -> None:
    """By the command: nothing lost, the same ids, and as many twice as it and the next start say."""
    backup = await deliver_until_killed(sandbox, station, 400)
    done = await station.command("outbox", "restore", str(backup), "--json")
    assert (done.code, done.err) == (0, f"outbox: {station.folder / 'outbox.db'}\n")
    said = done.json["sent_again"]
    assert said >= 400
    async with station.relay() as relay:
        line = await restored_line(station, relay)
        assert line["sent_again"] == said
        assert f"{said} messages that were delivered since" in str(line["detail"])
        twice = await sent_twice(sandbox, station)
    assert said <= twice <= said + IN_FLIGHT
    async with station.relay() as relay:
        assert not relay.said("outbox.restored")


async def test_a_backup_put_back_by_hand_says_at_least_how_many(sandbox: Sandbox, station: Station) -> None:
    """With its log removed, as it must be: from what the killed relay recorded beside the file."""
    backup = await deliver_until_killed(sandbox, station, 100)
    async with station.relay() as relay:  # it delivers the rest, and ends regularly
        await station.until_delivered()
        assert relay.said("relay.recovered")
    before = posts(sandbox)
    for suffix in ("-wal", "-shm"):
        station.application.path.with_name(station.application.path.name + suffix).unlink(missing_ok=True)
    shutil.copy(backup, station.application.path)
    waiting = station.application.states()["pending"]
    async with station.relay() as relay:
        line = await restored_line(station, relay)
        assert line["sent_again"] == waiting
        assert f"at least {waiting} messages" in str(line["detail"])
        await station.until_delivered()
    assert posts(sandbox) - before == waiting


async def test_a_backup_over_a_killed_relays_file_is_refused_and_restored(
    sandbox: Sandbox, station: Station
) -> None:
    """The old log remains beside it: the relay does not start on both, and the command puts it right."""
    path, backup = station.application.path, station.folder / "backup.db"
    station.application.insert_all([OutboxRow(GLOBEX, order(number, 3000)) for number in range(100)])
    async with station.relay() as relay:
        await station.until_delivered()
        assert (await station.command("outbox", "backup", str(backup))).code == 0
        for _ in range(400):  # more than SQLite keeps in a log before it begins it anew
            station.application.insert(GLOBEX, order(1, 9000))
        relay.kill()
    shutil.copy(backup, path)
    refused = station.start()
    assert await station.ended(refused) == 2
    assert "do not belong together" in refused.text
    assert "relay outbox restore BACKUP" in refused.text
    assert path.read_bytes() == backup.read_bytes(), "it is left as it is"
    done = await station.command("outbox", "restore", str(backup))
    assert done.code == 0, done.err
    assert "is unknown" in done.out
    station.application.insert(GLOBEX)
    async with station.relay() as relay:
        await restored_line(station, relay)
        await station.until_delivered()
    assert station.application.ask("PRAGMA integrity_check") == [{"integrity_check": "ok"}]


async def test_restore_refuses_while_a_relay_or_an_application_uses_the_outbox(
    sandbox: Sandbox, station: Station
) -> None:
    station.application.insert(GLOBEX)
    backup = str(station.folder / "backup.db")
    assert (await station.command("outbox", "backup", backup)).code == 0
    async with station.relay() as relay:
        refused = await station.command("outbox", "restore", backup)
        assert refused.code == 1
        assert f"another relay (process {relay.pid})" in refused.err
        await station.until_delivered()
    with station.application.connected() as connection:
        connection.execute("SELECT count(*) FROM relay_outbox").fetchone()
        refused = await station.command("outbox", "restore", backup)
        assert refused.code == 1
        assert f"is open in process {os.getpid()} " in refused.err
    assert station.application.is_all_delivered()


# --- the log, and where the file lies ---------------------------------------------------------------


async def test_a_log_under_a_long_reader_is_an_incident_in_log_status_and_metrics(
    sandbox: Sandbox, station: Station
) -> None:
    """It names the reader, and is resolved soon after the reader's end."""
    path = station.application.path
    station.application.insert(GLOBEX)
    reading = (
        "import sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None); c.execute('BEGIN');"
        "c.execute('SELECT count(*) FROM relay_outbox').fetchall(); print('reads', flush=True); sys.stdin.read()"
    )
    async with station.relay() as relay:
        reader = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", reading, str(path)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        assert reader.stdout is not None
        assert await reader.stdout.readline() == b"reads\n"
        os.truncate(path.with_name(path.name + "-wal"), MAX_LOG_BYTES + 2**20)  # sparse, as if committed
        opened = await station.event(relay, "incident.opened", within=60, kind="log-grown", code="RELAY-147")
        assert f"process {reader.pid} (python" in opened["detail"]
        assert "129 MiB" in opened["detail"]
        status = await station.command("status", "--json")
        assert status.json["outbox"]["write_ahead_log_bytes"] > MAX_LOG_BYTES
        assert [warning["code"] for warning in status.json["warnings"]] == ["RELAY-147"]
        assert "(RELAY-147)" in (await station.command("status")).out
        reader.kill()
        await reader.wait()
        await station.event(relay, "incident.resolved", within=60, kinds=["log-grown"])
        assert path.with_name(path.name + "-wal").stat().st_size < MAX_LOG_BYTES


async def test_a_place_of_risk_is_reported_at_the_start_and_by_the_check(
    sandbox: Sandbox,
    small_disk: Path,  # noqa: F811
) -> None:
    station = Station(small_disk)
    station.environment |= sandbox.environment(small_disk)
    async with station.relay() as relay:
        line = await station.event(relay, "outbox.endangered", level="warning", code="RELAY-148")
        assert "in memory (tmpfs)" in line["reason"]
        assert "volume" in line["hint"]
    checked = await station.command("check", "--json")
    (step,) = [step for step in checked.json["steps"] if step["code"] == "RELAY-148"]
    assert (step["ok"], step["step"], checked.code) == (True, "outbox", 0)
    shown = (await station.command("check")).out
    assert [line for line in shown.splitlines() if line.startswith("warning") and "tmpfs" in line]
    assert "hint: outbox: put the outbox on a volume" in shown
