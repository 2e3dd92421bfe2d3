"""Each way of stalling is detected, named and reported within a minute, and fixed by a restart of the component.

The relay runs in a process of its own; a module on its path changes one function of it on request.
What was measured is printed (`pytest -s`).
"""

import asyncio
import json
import signal
import socket
import sys
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from relay.outbox import upgrade
from relay.sandbox import Sandbox
from tests.conftest import LONG
from tests.e2e.conftest import ACME
from tests.support.application import OutboxRow
from tests.support.postgres import Server, connected, own_server
from tests.support.process import RelayProcess, Station

_SPOILER = '''
"""Loaded by Python itself, before the relay: see tests/e2e/test_liveness.py."""
import asyncio, os, signal, time

stage = os.environ.get("SPOIL")

def once(plain):
    """The first call never returns; later ones are as they were."""
    spoilt = []

    async def call(self, *given):
        if not spoilt:
            spoilt.append(True)
            await asyncio.Event().wait()
        return await plain(self, *given)

    return call

if stage == "loop":
    signal.signal(signal.SIGUSR1, lambda *_: time.sleep(20))
elif stage == "worker":
    from relay.ion.client import IonClient
    IonClient.ping = once(IonClient.ping)
elif stage == "settler":
    from relay.delivery.settler import Settler
    Settler.run = once(Settler.run)
'''


class Watched:
    """A relay, and what its health says."""

    def __init__(self, station: Station, relay: RelayProcess, address: str) -> None:
        self.station, self.relay, self.address = station, relay, address

    def asks(self, path: str) -> tuple[int, str]:
        """The answer of one probe; 0: none within two seconds."""
        try:
            with urllib.request.urlopen(f"http://{self.address}{path}", timeout=2) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()
        except (OSError, TimeoutError):
            return 0, ""

    async def until(self, path: str, fact: Callable[[int, str], bool], within: float) -> tuple[float, str]:
        """Probe until the answer is so; after how many seconds, and what it said."""
        began = time.monotonic()
        while True:
            status, text = await asyncio.to_thread(self.asks, path)
            if fact(status, text):
                return time.monotonic() - began, text
            assert time.monotonic() - began < within, (
                f"{path} still says {status} {text}\n{self.relay.tail()}"
            )
            await asyncio.sleep(0.1)


def measured(text: str) -> None:
    """For who runs this with `-s`."""
    sys.stdout.write(f"\n{text}\n")


def red(status: int, _: str) -> bool:
    return status == 503


def green(status: int, _: str) -> bool:
    return status == 200


@pytest.fixture
def spoiler(tmp_path: Path) -> str:
    """A folder for the front of the path."""
    folder = tmp_path / "spoiler"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(_SPOILER)
    return str(folder)


async def watched(station: Station, spoiler: str, stage: str) -> Watched:
    """A relay that is spoilt in this way."""
    path = f"{spoiler}:{station.environment['PYTHONPATH']}"
    relay = station.start(
        environment={"PYTHONPATH": path, "SPOIL": stage, "RELAY_WEB__LISTEN": "127.0.0.1:0"}
    )
    line = await station.event(relay, "web.opened")
    await station.event(relay, "relay.started")
    return Watched(station, relay, line["address"])


@pytest.fixture
async def ended(station: Station) -> AsyncIterator[None]:
    """No relay is left."""
    yield
    for relay in station.relays:
        if relay.running:
            relay.kill()


async def test_a_blocked_loop_is_red_and_said_with_the_place(
    sandbox: Sandbox, station: Station, spoiler: str, ended: None
) -> None:
    seen = await watched(station, spoiler, "loop")
    await seen.until("/readyz", green, 20)
    seen.relay.send(signal.SIGUSR1)
    took, text = await seen.until("/livez", red, 60)
    measured(f"blocked loop: red after {took:.1f} s: {text.strip()}")
    assert "the relay's loop has been stalled" in text
    assert seen.asks("/readyz")[0] == 503
    said = (await station.event(seen.relay, "loop.blocked"))["where"]
    assert "sitecustomize.py" in said
    await seen.until("/livez", green, 60)
    await station.event(seen.relay, "loop.freed")


async def test_a_worker_that_never_returns_is_red_by_name_and_started_again(
    sandbox: Sandbox, station: Station, spoiler: str, ended: None
) -> None:
    seen = await watched(station, spoiler, "worker")
    station.application.insert_all([OutboxRow(ACME, b"1")])
    took, text = await seen.until("/livez", red, 60)
    measured(f"hung worker: red after {took:.1f} s: {text.strip()}")
    assert f"tenant {ACME}" in text
    await station.event(seen.relay, "component.stuck", component=f"tenant {ACME}")
    await seen.until("/livez", green, 30)
    await station.until_delivered(ACME)


async def test_a_dead_settler_is_red_by_name_and_started_again(
    sandbox: Sandbox, station: Station, spoiler: str, ended: None
) -> None:
    """What was delivered meanwhile is settled then, and not sent again."""
    seen = await watched(station, spoiler, "settler")
    station.application.insert_all([OutboxRow(ACME, b"1"), OutboxRow(ACME, b"2")])
    took, text = await seen.until("/livez", red, 60)
    measured(f"dead settler: red after {took:.1f} s: {text.strip()}")
    assert "settler" in text
    await station.event(seen.relay, "component.stuck", component="settler")
    await seen.until("/livez", green, 30)
    await station.until_delivered(ACME)
    assert sandbox.record.sent_twice() == []


@pytest.fixture
def server() -> Iterator[Server]:
    with own_server() as one:
        upgrade(one.url)
        yield one


async def test_a_database_that_hangs_makes_the_relay_unready_and_not_dead(
    server: Server, sandbox: Sandbox, station: Station, spoiler: str, ended: None
) -> None:
    """The server's processes are frozen: no answer, no error. When they continue, the relay resumes automatically."""
    station.environment |= sandbox.environment(station.folder)
    station.environment |= {"RELAY_OUTBOX__URL": server.url, "RELAY_LEASE_SECONDS": "3"}
    seen = await watched(station, spoiler, "nothing")
    await seen.until("/readyz", green, 20)
    server.freeze()
    try:
        took, text = await seen.until("/readyz", red, 60)
        measured(f"hung database: unready after {took:.1f} s: {text.strip()}")
        assert seen.asks("/livez")[0] == 200
    finally:
        server.thaw()
    await seen.until("/readyz", green, 60)
    async with connected(server.url) as connection:
        statement = "INSERT INTO relay_outbox (tenant_id, document_name, payload) VALUES ($1, $2, 'x')"
        await connection.execute(statement, ACME, "Sync.SalesOrder")
    await sandbox.until(lambda: sandbox.record.count() == 1, within=30)


async def test_a_lock_on_the_messages_makes_the_relay_unready_and_not_dead(
    server: Server, sandbox: Sandbox, station: Station, spoiler: str, ended: None
) -> None:
    """As of a maintenance command; messages that wait meanwhile are delivered afterwards."""
    station.environment |= sandbox.environment(station.folder)
    station.environment["RELAY_OUTBOX__URL"] = server.url
    seen = await watched(station, spoiler, "nothing")
    await seen.until("/readyz", green, 20)
    async with connected(server.url) as connection:
        statement = "INSERT INTO relay_outbox (tenant_id, document_name, payload) VALUES ($1, $2, 'x')"
        async with connection.transaction():
            await connection.execute("LOCK TABLE relay_outbox IN ACCESS EXCLUSIVE MODE")
            await connection.execute(statement, ACME, "Sync.SalesOrder")
            took, text = await seen.until("/readyz", red, 60)
            measured(f"locked messages: unready after {took:.1f} s: {text.strip()}")
            assert "outbox" in text
            await asyncio.sleep(45 if LONG else 0)
            assert seen.asks("/livez")[0] == 200
    await seen.until("/readyz", green, 60)
    await sandbox.until(lambda: sandbox.record.count() == 1, within=60)


async def test_a_tenant_whose_ion_is_down_makes_the_relay_neither_dead_nor_unready(
    sandbox: Sandbox, station: Station, spoiler: str, ended: None
) -> None:
    sandbox.faults(tenant=ACME, status=503)
    station.application.insert_all([OutboxRow(ACME, b"1")])
    seen = await watched(station, spoiler, "nothing")
    await station.event(seen.relay, "incident.opened", tenant=ACME)
    await seen.until("/readyz", green, 20)
    _, text = await seen.until(
        "/healthz", lambda _, text: ACME in json.loads(text or "{}").get("tenants", {}), 20
    )
    told = json.loads(text)
    assert seen.asks("/livez") == (200, "ok\n")
    assert seen.asks("/readyz") == (200, "ok\n")
    assert (told["alive"], told["ready"], told["log_lines_dropped"]) == (True, True, 0)
    assert told["tenants"][ACME]["state"] in ("backing-off", "initialising", "pinging")
    moved = datetime.fromisoformat(told["tenants"][ACME]["last_progress"])
    assert datetime.now(UTC) - timedelta(seconds=60) < moved <= datetime.now(UTC)


async def test_a_port_that_is_taken_ends_the_relay_with_2_and_says_which(
    sandbox: Sandbox, station: Station, ended: None
) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        at = f"127.0.0.1:{other.getsockname()[1]}"
        relay = station.start(environment={"RELAY_WEB__LISTEN": at})
        assert await station.ended(relay) == 2
    assert f"RELAY_WEB__LISTEN: cannot listen on {at}: the port is in use" in relay.text
