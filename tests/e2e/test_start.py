"""A relay that waits for its outbox at the start: alive, not ready, with the reason, and systemd waits with it."""

import asyncio
import socket
import sqlite3
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest

from relay.outbox import upgrade
from relay.sandbox import Sandbox
from tests.e2e.conftest import ACME
from tests.support import disks
from tests.support.credentials import asked_for_passwords
from tests.support.postgres import Server, connected, own_server
from tests.support.process import RelayProcess, Station, end

BEYOND = 3
"""systemd is asked again every 10 s: at the third time, a loop without a tick would have been dead for long."""

LONGER = 90.0


class Waiting:
    """A relay that starts under a systemd of the test's own."""

    def __init__(self, station: Station, relay: RelayProcess, systemd: socket.socket, address: str) -> None:
        self.station, self.relay, self.address, self._systemd = station, relay, address, systemd
        self.sent: list[str] = []

    def asks(self, path: str) -> tuple[int, str]:
        """The answer of one probe."""
        try:
            with urllib.request.urlopen(f"http://{self.address}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def receive(self) -> str:
        """All that systemd was sent."""
        while True:
            try:
                self.sent.append(self._systemd.recv(4096).decode())
            except BlockingIOError:
                return "\n".join(self.sent)

    def extensions(self) -> int:
        """How often systemd was asked to wait longer."""
        return self.receive().count("EXTEND_TIMEOUT_USEC=70000000\n")

    async def waits(self, why: str, extensions: int = 1) -> None:
        """It waits, and says why, until systemd was asked so often."""
        await self.station.event(self.relay, "incident.opened", within=LONGER, kind="outbox")
        await self.station.until(
            lambda: self.extensions() >= extensions, "systemd to be asked", LONGER, watched=self.relay
        )
        assert await asyncio.to_thread(self.asks, "/livez") == (200, "ok\n")
        status, text = await asyncio.to_thread(self.asks, "/readyz")
        assert status == 503
        assert text.startswith("the relay is starting: ")
        assert why in text
        assert "READY=1" not in self.receive()
        assert len(self.relay.said("incident.opened")) == 1
        assert not self.relay.said("loop.blocked")

    async def starts(self) -> None:
        """What hindered it is gone."""
        await self.station.until(
            lambda: "READY=1" in self.receive(), "systemd to be told", LONGER, watched=self.relay
        )
        await self.station.event(self.relay, "incident.resolved")
        while await asyncio.to_thread(self.asks, "/readyz") != (200, "ok\n"):
            assert self.relay.running, self.relay.tail()


@asynccontextmanager
async def starting(station: Station) -> AsyncIterator[Waiting]:
    """Start a relay; its web side is up whatever the outbox does."""
    notify = station.folder / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(notify))
        systemd.setblocking(False)
        relay = station.start(environment={"NOTIFY_SOCKET": str(notify), "RELAY_WEB__LISTEN": "127.0.0.1:0"})
        try:
            line = await station.event(relay, "web.opened")
            yield Waiting(station, relay, systemd, line["address"])
        finally:
            await asyncio.to_thread(end, relay)


async def test_a_file_that_another_program_has_locked(sandbox: Sandbox, station: Station) -> None:
    station.application.insert(ACME)
    with closing(sqlite3.connect(station.application.path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        async with starting(station) as waiting:
            await waiting.waits("was locked by another process", BEYOND)
            assert "STATUS=waiting: the outbox" in waiting.receive()
            other.execute("COMMIT")
            await waiting.starts()
            await station.until_delivered()


async def test_a_file_that_cannot_even_be_opened_for_a_lock(sandbox: Sandbox, station: Station) -> None:
    """Without a write-ahead log, as an application's own database may be, a lock keeps readers out too."""
    path = station.application.path
    station.application.insert(ACME)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        assert other.execute("PRAGMA journal_mode = DELETE").fetchone() == ("delete",)
        other.execute("BEGIN EXCLUSIVE")
        async with starting(station) as waiting:
            await waiting.waits("was locked by another process")
            assert not waiting.relay.said("relay.started")
            other.execute("COMMIT")
            other.close()
            await waiting.starts()
            await station.until_delivered()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 4 MB."""
    with disks.small(tmp_path / "disk", "4m") as folder:
        yield folder


async def test_a_full_disk(sandbox: Sandbox, tmp_path: Path, small_disk: Path) -> None:
    station = Station(tmp_path, outbox=small_disk / "outbox.db")
    station.environment |= sandbox.environment(tmp_path)
    station.application.insert(ACME)
    (small_disk / "outbox.db.lock").touch()
    ballast = disks.fill(small_disk)
    async with starting(station) as waiting:
        await waiting.waits("disk is full")
        ballast.unlink()
        await waiting.starts()
        await station.until_delivered()


@pytest.fixture
def server() -> Iterator[Server]:
    with own_server() as one:
        upgrade(one.url)
        yield one


@pytest.mark.parametrize("table", ["relay_relays", "relay_schema"])
async def test_a_table_that_another_session_has_locked(
    server: Server, sandbox: Sandbox, station: Station, table: str
) -> None:
    """`relay_relays`: the outbox opens and cannot be written; `relay_schema`: it cannot be opened."""
    station.environment["RELAY_OUTBOX__URL"] = server.url
    async with connected(server.url) as other:
        await other.execute("ALTER DATABASE postgres SET lock_timeout = '2s'")  # else the call ends after 30
        transaction = other.transaction()
        await transaction.start()
        await other.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
        async with starting(station) as waiting:
            await waiting.waits("locked", BEYOND if table == "relay_relays" else 1)
            await transaction.rollback()
            await waiting.starts()


async def test_a_stop_is_not_held_up_by_a_call_that_waits_for_a_lock(
    server: Server, sandbox: Sandbox, station: Station
) -> None:
    """The call itself would end after 30 s."""
    station.environment["RELAY_OUTBOX__URL"] = server.url
    async with connected(server.url) as other, other.transaction():
        await other.execute("LOCK TABLE relay_relays IN ACCESS EXCLUSIVE MODE")
        async with starting(station) as waiting:
            await station.until(waiting.extensions, "the start", watched=waiting.relay)
            waiting.relay.process.terminate()
            assert await station.ended(waiting.relay, within=20) == 0


async def test_a_password_that_the_database_refuses(
    server: Server, sandbox: Sandbox, station: Station
) -> None:
    """At the start, and later: alive, not ready, and ready again without a restart."""
    credentials = await asked_for_passwords(server, station)
    credentials.write("wrong")
    async with starting(station) as waiting:
        await waiting.waits("it refused the password")
        await credentials.set_password("first")
        credentials.write("first")
        await waiting.starts()
        await credentials.set_password("second")
        await credentials.end_sessions()

        def probes() -> tuple[tuple[int, str], tuple[int, str]]:
            return waiting.asks("/livez"), waiting.asks("/readyz")

        alive, ready = await asyncio.to_thread(probes)
        while "it refused the password" not in ready[1]:
            assert waiting.relay.running, waiting.relay.tail()
            alive, ready = await asyncio.to_thread(probes)
        assert (alive, ready[0]) == ((200, "ok\n"), 503)
        credentials.write("second")
        while (await asyncio.to_thread(probes))[1] != (200, "ok\n"):
            assert waiting.relay.running, waiting.relay.tail()
