"""Stop and reload of a running relay: signals to the real process."""

import asyncio
import os
import signal
import sqlite3
import subprocess
import time
from contextlib import closing
from pathlib import Path

from relay.sandbox import Sandbox, SandboxTenant
from tests.e2e.conftest import ACME, GLOBEX
from tests.support.application import ORDER, OutboxRow, order
from tests.support.process import COMMAND, RelayProcess, Station, end

# --- stopping ---------------------------------------------------------------------------------------------


async def test_sigterm_completes_posts_in_flight_and_starts_no_more(
    sandbox: Sandbox, station: Station
) -> None:
    """Posts in flight are answered and settled, the others wait for the next relay; exit code 0."""
    slow = sandbox.faults(
        tenant=GLOBEX, call="post", late=1.5, skip=1
    )  # one is sent alone, then the number in flight grows
    ids = station.application.insert_all(OutboxRow(GLOBEX, order(n), key=f"k{n}") for n in range(30))
    async with station.relay() as relay:
        await station.until(lambda: slow.applied >= 2, "posts in flight")
        posts_before, asked = len(sandbox.requests(GLOBEX, "post")), time.monotonic()
        relay.send(signal.SIGTERM)
        assert await station.ended(relay) == 0
        assert time.monotonic() - asked < 25, "longer than the grace"
    posts = sandbox.requests(GLOBEX, "post")
    assert len(posts) == posts_before
    assert {post.status for post in posts} == {202}
    assert station.application.states() == {"delivered": len(posts), "pending": 30 - len(posts)}
    assert relay.events[-1]["event"] == "relay.ended"
    sandbox.clear_faults()
    async with station.relay() as after:
        await station.until_delivered(GLOBEX)
        assert not after.said("relay.recovered")
    assert {taken.message_id for taken in sandbox.messages()} == set(ids)
    assert sandbox.record.sent_twice() == []


async def test_sigterm_waits_no_longer_than_the_grace(sandbox: Sandbox, station: Station) -> None:
    """A post that is never answered is cut at its end; the message waits for the next relay, no attempt counted."""
    station.environment["RELAY_STOP__GRACE_SECONDS"] = "1"
    station.environment["RELAY_HTTP__TOTAL_SECONDS"] = station.environment["RELAY_HTTP__READ_SECONDS"] = "60"
    hole = sandbox.faults(tenant=GLOBEX, call="post", delay=3600)
    message_id = station.application.insert(GLOBEX)
    async with station.relay() as relay:
        await station.until(lambda: hole.applied, "a request to hang")
        asked = time.monotonic()
        relay.send(signal.SIGTERM)
        code = await station.ended(relay)
        assert 1.0 <= time.monotonic() - asked < 15, "the post itself would have been given up after 60 s"
    assert code == 0
    row = station.application.row(message_id)
    assert (row["state"], row["attempts"]) == ("pending", 0)


async def test_a_second_sigterm_ends_at_once(sandbox: Sandbox, station: Station) -> None:
    """Exit code 1, and the message waits."""
    hole = sandbox.faults(tenant=GLOBEX, call="post", delay=3600)
    message_id = station.application.insert(GLOBEX)
    station.environment["RELAY_HTTP__TOTAL_SECONDS"] = station.environment["RELAY_HTTP__READ_SECONDS"] = "60"
    async with station.relay() as relay:
        await station.until(lambda: hole.applied, "a request to hang")
        relay.send(signal.SIGTERM)
        await station.until(lambda: has_received(relay, signal.SIGTERM), "the first signal to be delivered")
        assert relay.running
        relay.send(signal.SIGTERM)
        assert await station.ended(relay, within=15) == 1
    assert relay.said("relay.ended")
    assert station.application.row(message_id)["state"] == "pending"


def has_received(relay: RelayProcess, number: signal.Signals) -> bool:
    """Whether the process has no such signal pending: two that are pending at a time are delivered as one."""
    status = Path(f"/proc/{relay.pid}/status").read_text()
    pending = (
        int(line.split()[1], 16) for line in status.splitlines() if line.startswith(("SigPnd", "ShdPnd"))
    )
    return not any(mask >> (number - 1) & 1 for mask in pending)


async def test_sigterm_ends_a_long_pause_at_once(sandbox: Sandbox, station: Station) -> None:
    """During an outage, minutes before the next try; a ping that hangs is cut as well."""
    station.environment["RELAY_RETRY__INITIAL_SECONDS"] = station.environment["RELAY_RETRY__MAX_SECONDS"] = (
        "200"
    )
    station.environment["RELAY_HTTP__TOTAL_SECONDS"] = station.environment["RELAY_HTTP__READ_SECONDS"] = "60"
    sandbox.faults(tenant=GLOBEX, call="ping", status=503)
    hole = sandbox.faults(tenant=ACME, call="ping", delay=3600)
    station.application.insert_all([OutboxRow(GLOBEX, b"a"), OutboxRow(ACME, b"b")])
    async with station.relay() as relay:
        await station.event(relay, "incident.opened", tenant=GLOBEX)
        await station.until(lambda: hole.applied, "a request to hang")
        asked = time.monotonic()
        relay.send(signal.SIGTERM)
        assert await station.ended(relay) == 0
        assert time.monotonic() - asked < 15, "the pause lasts 200 s, the ping 60 s"


async def test_sigterm_while_the_outbox_is_locked(sandbox: Sandbox, station: Station) -> None:
    """What could not be settled within the grace is reported; the relay ends in time, and the next one knows."""
    station.environment["RELAY_STOP__GRACE_SECONDS"] = "4"
    slow = sandbox.faults(tenant=GLOBEX, call="post", late=1.5)  # time to lock the file before the answer
    station.application.insert(GLOBEX)
    async with station.relay() as relay:
        await station.until(lambda: slow.applied, "a post in flight")
        with closing(sqlite3.connect(station.application.path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            relay.send(signal.SIGTERM)
            code = await station.ended(relay, within=20)
        assert code == 1
        assert "settlements could not be written" in relay.said("relay.ended")[0]["reason"]
        assert "Traceback" not in relay.text
    async with station.relay() as after:
        await station.event(after, "relay.recovered")
        await station.until_delivered()
    assert [taken.times for taken in sandbox.messages()] == [2]


def _start_into(station: Station, pipe: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [*COMMAND, "run"], cwd=station.folder, env=station.environment, stdin=subprocess.DEVNULL, stderr=pipe
    )


async def test_a_log_that_nobody_reads_any_more_stops_nothing(sandbox: Sandbox, station: Station) -> None:
    """Its stderr is a pipe whose reader went away: messages flow on."""
    read, write = os.pipe()
    relay = _start_into(station, write)
    try:
        os.close(write)
        assert await asyncio.to_thread(os.read, read, 10)
        os.close(read)
        sandbox.faults(call="post", status=503, count=2)
        for _ in range(3):
            station.application.insert(GLOBEX)
            await station.until_delivered()
    finally:
        relay.terminate()
        assert relay.wait(10) == 0


async def test_many_sighups_at_once(sandbox: Sandbox, tmp_path: Path) -> None:
    """A script gone wild: each state of the settings is read at some time, the last one holds, messages flow."""
    station = Station(tmp_path)
    every = sandbox.environment(tmp_path)
    _write(station, every)
    ids = station.application.insert_all(OutboxRow(GLOBEX, order(n), key=f"k{n % 5}") for n in range(300))
    async with station.relay() as relay:
        for number in range(30):
            _write(station, {**every, f"RELAY_TENANTS__{GLOBEX}__MAX_IN_FLIGHT": str(number % 7 + 1)})
            relay.send(signal.SIGHUP)
            await asyncio.sleep(0.01)
        await station.until_delivered()
        await station.event(relay, "settings.reloaded")
        assert not relay.said("component.crashed")
    assert _by_key(ids, [taken.message_id for taken in sandbox.messages()], 5)
    assert sandbox.record.sent_twice() == []


async def test_another_outbox_is_not_applied_by_a_reload(sandbox: Sandbox, tmp_path: Path) -> None:
    """It would strand the messages in the old one: refused with a hint, the old settings stay in effect."""
    station = Station(tmp_path)
    station.environment.pop("RELAY_OUTBOX__URL")
    every = {**sandbox.environment(tmp_path), "RELAY_OUTBOX__URL": f"sqlite:///{station.application.path}"}
    _write(station, every)
    async with station.relay() as relay:
        _write(station, {**every, "RELAY_OUTBOX__URL": "sqlite:///other.db"})
        relay.send(signal.SIGHUP)
        refused = await station.event(relay, "settings.refused", setting="RELAY_OUTBOX__URL")
        assert "restart" in refused["hint"]
        station.application.insert(GLOBEX)
        await station.until_delivered()
    assert not (tmp_path / "other.db").exists()


# --- before the relay has started ---------------------------------------------------------------------------


def _mask(relay: RelayProcess, name: str, number: signal.Signals) -> bool:
    """Whether the process blocks (`SigBlk`) or handles (`SigCgt`) the signal."""
    status = Path(f"/proc/{relay.pid}/status").read_text().split(f"{name}:\t")[1].split()[0]
    return bool(int(status, 16) >> (number - 1) & 1)


def _has_loaded(relay: RelayProcess, library: str) -> bool:
    return library in Path(f"/proc/{relay.pid}/maps").read_text()


async def test_a_sighup_before_the_relay_has_started_is_a_reload_later(
    sandbox: Sandbox, station: Station
) -> None:
    """From before the slow imports on, a fifth of a second and more before anything is read or opened."""
    relay = station.start()
    try:
        await station.until(lambda: _mask(relay, "SigBlk", signal.SIGHUP), "SIGHUP to be held")
        assert not _has_loaded(relay, "pydantic"), "before what is slow to import"
        relay.send(signal.SIGHUP)
        await station.event(relay, "settings.reloaded")
        assert not _mask(relay, "SigBlk", signal.SIGHUP)
        station.application.insert(GLOBEX)
        await station.until_delivered()
    finally:
        await asyncio.to_thread(end, relay)
    assert relay.process.returncode == 0


async def test_a_sigterm_before_the_relay_has_started_ends_it_at_once(station: Station) -> None:
    """Nothing was begun: the exit code is 0, and nothing is printed."""
    relay = station.start()
    await station.until(lambda: _mask(relay, "SigCgt", signal.SIGTERM), "SIGTERM to be handled")
    relay.send(signal.SIGTERM)
    assert await station.ended(relay) == 0
    assert "Traceback" not in relay.text


async def test_sigint_is_a_stop_too(sandbox: Sandbox, station: Station) -> None:
    """Ctrl-C on a terminal."""
    async with station.relay() as relay:
        relay.send(signal.SIGINT)
        assert await station.ended(relay) == 0


# --- new settings -----------------------------------------------------------------------------------------


def _write(station: Station, variables: dict[str, str]) -> None:
    """The settings that a running relay can see change: its folder's `.env`."""
    lines = "".join(f"{name}={value}\n" for name, value in variables.items())
    Path(station.folder / ".env").write_text(lines)


def _of(tenant: str, variables: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in variables.items() if f"__{tenant}__" in name}


async def test_sighup_adds_removes_and_changes_tenants(sandbox: Sandbox, tmp_path: Path) -> None:
    """Without a restart, and without a word to the tenants that stayed as they were."""
    station = Station(tmp_path)
    every = sandbox.environment(tmp_path)
    _write(station, _of(ACME, every))
    async with station.relay() as relay:
        station.application.insert_all([OutboxRow(ACME, b"1"), OutboxRow(GLOBEX, b"2")])
        await station.until_delivered(ACME)
        await station.event(relay, "tenant.missed", tenant=GLOBEX)
        assert station.application.states(GLOBEX) == {"pending": 1}

        _write(station, every)
        relay.send(signal.SIGHUP)
        await station.event(relay, "settings.reloaded", changed=[GLOBEX], removed=[])
        await station.until_delivered(GLOBEX)

        _write(station, {**every, f"RELAY_TENANTS__{GLOBEX}__LOGICAL_ID": "lid://globex.other.1"})
        relay.send(signal.SIGHUP)
        await station.until(lambda: len(relay.said("settings.reloaded")) == 2, "the second reload")
        sandbox.tenant(GLOBEX).logical_id = "lid://globex.other.1"
        (later,) = station.application.insert_all([OutboxRow(GLOBEX, b"3")])
        await station.until_delivered(GLOBEX)
        content = sandbox.record.content(GLOBEX, later)
        assert content is not None
        assert content.parameters["fromLogicalId"] == "lid://globex.other.1"

        _write(station, _of(ACME, every))
        relay.send(signal.SIGHUP)
        await station.event(relay, "settings.reloaded", changed=[], removed=[GLOBEX])
        station.application.insert_all([OutboxRow(ACME, b"4"), OutboxRow(GLOBEX, b"5")])
        await station.until_delivered(ACME)
        assert station.application.states(GLOBEX) == {"delivered": 2, "pending": 1}
        assert (await station.status(GLOBEX))["state"] == "unconfigured"
        assert [request.call for request in sandbox.requests(ACME)].count("ping") == 1


async def test_invalid_new_settings_are_refused_and_the_old_ones_stay(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    """Each problem is a line with the variable's name and a hint; later valid settings are applied."""
    station = Station(tmp_path)
    every = sandbox.environment(tmp_path)
    _write(station, every)
    async with station.relay() as relay:
        bad = {f"RELAY_TENANTS__{ACME}__LOGICAL_ID": "acme.orders.1", "RELAY_RETRY__MAX_ATTEMPTS": "-3"}
        _write(station, {**every, **bad})
        relay.send(signal.SIGHUP)
        await station.until(lambda: len(relay.said("settings.refused")) >= 2, "two refusals")
        refused = {line["setting"]: line for line in relay.said("settings.refused")}
        assert set(refused) == set(bad)
        assert all(line["hint"] and line["level"] == "error" for line in refused.values())
        station.application.insert_all([OutboxRow(ACME, b"1"), OutboxRow(GLOBEX, b"2")])
        await station.until_delivered()
        _write(station, every)
        relay.send(signal.SIGHUP)
        await station.event(relay, "settings.reloaded", changed=[], removed=[])


async def test_a_tenant_changed_in_the_middle_of_its_messages_loses_none(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    """Its posts in flight complete, its new worker continues; nothing is sent twice, the order is kept."""
    station = Station(tmp_path)
    every = sandbox.environment(tmp_path)
    _write(station, every)
    ids = station.application.insert_all(OutboxRow(GLOBEX, order(n), key=f"k{n % 4}") for n in range(400))
    async with station.relay() as relay:
        for width in ("2", "3", "16"):
            await _more_arrivals(sandbox, station)
            _write(station, {**every, f"RELAY_TENANTS__{GLOBEX}__MAX_IN_FLIGHT": width})
            relay.send(signal.SIGHUP)
        await station.until_delivered(GLOBEX)
        await station.until(lambda: relay.said("settings.reloaded", changed=[GLOBEX]), "a reload")
    assert sandbox.record.sent_twice() == []
    assert _by_key(ids, [taken.message_id for taken in sandbox.messages()], 4)


async def _more_arrivals(sandbox: Sandbox, station: Station) -> None:
    least = sandbox.record.count() + 20
    await station.until(lambda: sandbox.record.count() >= least, "20 more arrivals")


def _by_key(enqueued: list[str], arrived: list[str], keys: int) -> bool:
    """Whether each key's messages arrived in the order in which they were enqueued."""
    place = {message_id: at for at, message_id in enumerate(arrived)}
    assert set(place) == set(enqueued)
    lanes = [[place[message_id] for message_id in enqueued[key::keys]] for key in range(keys)]
    return all(lane == sorted(lane) for lane in lanes)


async def test_credentials_replaced_on_disk_end_a_halt(sandbox: Sandbox, station: Station) -> None:
    """Refused credentials halt the tenant, and only it; a corrected file is read without a signal."""
    tenant = sandbox.tenant(ACME)
    file = station.folder / f"{ACME}.ionapi"
    right = file.read_text()
    file.write_text(right.replace(tenant.credentials.client_secret, "wrong"))
    station.application.insert_all([OutboxRow(ACME, b"1"), OutboxRow(GLOBEX, b"2")])
    async with station.relay() as relay:
        await station.until_delivered(GLOBEX)
        await station.event(relay, "incident.opened", tenant=ACME, kind="token-refused")
        await station.until_status(ACME, "halted")
        assert sandbox.requests(call="token", tenant_id=ACME)
        assert sandbox.record.count(ACME) == 0
        new = file.with_suffix(".new")
        new.write_text(right)
        new.replace(file)
        await station.until_delivered(ACME)
        await station.event(relay, "incident.resolved", tenant=ACME)
    refusals = [request for request in sandbox.requests(ACME, "token") if request.status >= 400]
    assert len(refusals) == 1, "tokens are never fetched in a loop"


async def test_a_tenant_added_to_the_stand_in_later(sandbox: Sandbox, tmp_path: Path) -> None:
    """A relay may be set up before the other side is: it halts, and a person's `resume` ends that at once."""
    late = SandboxTenant("LATE_DEV", "lid://late.orders.1", [ORDER], auth="oauth1")
    station = Station(tmp_path)
    prefix = f"RELAY_TENANTS__{late.tenant_id}__"
    station.environment |= {
        f"{prefix}LOGICAL_ID": late.logical_id,
        f"{prefix}ION_URL": f"{sandbox.url}/api/ion/messaging/service",
        f"{prefix}OAUTH1__CONSUMER_KEY": late.credentials.consumer_key,
        f"{prefix}OAUTH1__CONSUMER_SECRET": late.credentials.consumer_secret,
    }
    station.application.insert(late.tenant_id)
    async with station.relay():
        await station.until_status(late.tenant_id, "halted", "401")
        sandbox.tenants.add(late)
        assert (await station.command("tenants", "resume", late.tenant_id)).code == 0
        await station.until_delivered(late.tenant_id)
