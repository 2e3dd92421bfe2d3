"""The port of the probes while others take all there is: `/livez` is answered, and the log stays short."""

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import pytest

from relay.sandbox import Sandbox, SandboxTenant
from relay.web.access_control import HEADERS
from tests.support.application import ORDER
from tests.support.process import RelayProcess, Station
from tests.web.hostile import Caller, read, request

ACME = "ACME_PRD"
ASK = "GET /messages HTTP/1.1\r\nHost: {at}\r\n\r\n"
TOKEN = "t" * 32


@pytest.fixture
async def station(tmp_path: Path) -> AsyncIterator[Station]:
    async with Sandbox([SandboxTenant(ACME, "lid://acme.orders.1", [ORDER])]) as sandbox:
        built = Station(
            tmp_path, {"RELAY_WEB__LISTEN": "127.0.0.1:0", "RELAY_INBOUND__LISTEN": "127.0.0.1:0"}
        )
        built.environment |= sandbox.environment(tmp_path)
        built.environment |= {
            f"RELAY_TENANTS__{ACME}__INBOUND__CONSUMER_KEY": "k",
            f"RELAY_TENANTS__{ACME}__INBOUND__CONSUMER_SECRET": "s" * 20,
        }
        yield built


async def opened(station: Station, relay: RelayProcess, setting: str = "RELAY_WEB__LISTEN") -> Caller:
    line = await station.event(relay, "web.opened", setting=setting)
    host, _, port = line["address"].rpartition(":")
    return Caller(host, int(port))


def others(caller: Caller, number: int) -> Caller:
    return Caller(caller.host, caller.port, f"127.0.0.{2 + number % 4}")


async def connect(caller: Caller, data: bytes) -> asyncio.StreamWriter:
    """A connection that sends this, and whose answers nobody reads."""
    _, writer = await caller.connect()
    with suppress(ConnectionError):
        writer.write(data)
        await writer.drain()
    return writer


async def idle(caller: Caller) -> list[asyncio.StreamWriter]:
    """Two hundred that asked once, and are kept open."""
    ask = ASK.format(at=caller.at).encode()
    return [await connect(others(caller, number), ask) for number in range(200)]


async def unread(caller: Caller) -> list[asyncio.StreamWriter]:
    """Two hundred that ask again and again, and read nothing."""
    ask = ASK.format(at=caller.at).encode() * 30
    return [await connect(others(caller, number), ask) for number in range(200)]


async def silent(caller: Caller) -> list[asyncio.StreamWriter]:
    """More than there is room for that send nothing."""
    return [await connect(others(caller, number), b"") for number in range(300)]


async def half(caller: Caller) -> list[asyncio.StreamWriter]:
    """Two hundred forms that do not end."""
    head = f"POST /login HTTP/1.1\r\nHost: {caller.at}\r\nContent-Length: 50\r\n"
    kind = "Content-Type: application/x-www-form-urlencoded\r\n\r\ntoken="
    return [await connect(others(caller, number), (head + kind).encode()) for number in range(200)]


Attack = Callable[[Caller], Awaitable[list[asyncio.StreamWriter]]]


@pytest.mark.parametrize("attack", [idle, unread, silent, half])
@pytest.mark.parametrize("source", ["127.0.0.1", "127.0.0.2"])
async def test_probes_are_answered_while_all_connections_are_taken(
    station: Station, attack: Attack, source: str
) -> None:
    """From an address of their own, and from one of those that take them all, as behind one proxy."""
    async with station.relay() as relay:
        caller = await opened(station, relay)
        probe = Caller(caller.host, caller.port, source)
        taken = await attack(caller)
        worst = 0.0
        for _ in range(40):
            began = time.monotonic()
            status, _ = await probe.ask("GET", "/livez")
            worst = max(worst, time.monotonic() - began)
            assert status == 200
        assert (await probe.ask("GET", "/readyz"))[0] == 200
        status, _ = await Caller(caller.host, caller.port, "127.0.0.2").ask("GET", "/messages")
        assert status is None or attack is silent
        if attack is not silent:
            await station.event(relay, "web.crowded", setting="RELAY_WEB__LISTEN")
            assert len(relay.said("web.crowded")) == 1
        sys.stdout.write(f"/livez under {attack.__name__}: worst {worst * 1000:.0f} ms of 40\n")
        for writer in taken:
            writer.close()


async def test_one_address_cannot_take_all_connections(station: Station) -> None:
    async with station.relay() as relay:
        caller = await opened(station, relay)
        greedy = Caller(caller.host, caller.port, "127.0.0.2")
        taken = [await connect(greedy, b"") for _ in range(150)]
        assert (await caller.ask("GET", "/messages"))[0] == 200
        assert (await greedy.ask("GET", "/messages"))[0] is None
        assert (await greedy.ask("GET", "/livez"))[0] == 200
        for writer in taken:
            writer.close()


async def test_who_reads_nothing_is_disconnected(station: Station) -> None:
    async with station.relay() as relay:
        caller = await opened(station, relay)
        _, writer = await asyncio.open_connection(caller.host, caller.port, limit=1)
        with pytest.raises(ConnectionError):
            await ask_on(writer, ASK.format(at=caller.at).encode() * 20)


async def ask_on(writer: asyncio.StreamWriter, data: bytes) -> None:
    """Until the connection ends; nothing is read."""
    async with asyncio.timeout(60):
        while True:
            writer.write(data)
            await writer.drain()
            await asyncio.sleep(0.05)


# --- what cannot be read -------------------------------------------------------------------------------


def web_floods(at: str) -> list[bytes]:
    """Requests that made the server fail."""
    form = {"Content_Type": "multipart/form-data; boundary=x"}
    part = b'--x\r\nContent-Disposition: form-data; name="token"\r\nContent-Transfer-Encoding: foo\r\n\r\na\r\n--x--\r\n'
    return [
        request("a:99999999", "GET", "/"),
        request("", "GET", "/"),
        request(f"{at}#x", "GET", "/"),
        request(f"{at}/x", "GET", "/"),
        request(f"u@{at}", "GET", "/"),
        request("[::1", "GET", "/"),
        request("\udcff", "GET", "/"),
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\nConnection: close\r\n\r\n",
        b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n",
        request(at, "POST", "/login", part, **form),
        request(
            at, "POST", "/login", b"token=a", Content_Type="application/x-www-form-urlencoded; charset=foo"
        ),
        request(at, "GET", "/\x01"),
        request(at, "GET", "/a b"),
    ]


def inbound_floods(at: str) -> list[bytes]:
    """The same where ION calls."""
    path = f"/{ACME}/service/ping"
    oauth = (
        'OAuth oauth_consumer_key="k", oauth_signature_method="HMAC-SHA256", oauth_timestamp="{now}", '
        'oauth_nonce="n", oauth_signature="{signature}"'
    )
    return [
        request(at, "GET", path, Authorization=oauth.format(now=int(time.time()), signature="\udcff")),
        request(
            at,
            "GET",
            path + "?\udcff=\udcfe",
            Authorization=oauth.format(now=int(time.time()), signature="a"),
        ),
        request(at, "GET", path, Authorization="OAuth \udcff"),
        request(at, "GET", path, Authorization="OAuth a"),
        request(at, "GET", path, Authorization=oauth.format(now=int(time.time()), signature="%FF%FE")),
        request(f"{at}#", "GET", path),
        request(f"{at}?x", "GET", path),
        request("a:99999999", "GET", path),
        request("", "GET", path),
    ]


@pytest.mark.parametrize("setting", ["RELAY_WEB__LISTEN", "RELAY_INBOUND__LISTEN"])
async def test_what_cannot_be_read_is_answered_and_not_logged(station: Station, setting: str) -> None:
    """Each once, and then all of them for five seconds: no error of the relay's own."""
    async with station.relay() as relay:
        caller = await opened(station, relay, setting)
        floods = web_floods(caller.at) if setting == "RELAY_WEB__LISTEN" else inbound_floods(caller.at)
        for data in floods:
            status, text = await caller.send(data)
            assert status in (400, 401, 415), f"{data!r}: {text[:300]}"
            if setting == "RELAY_WEB__LISTEN":
                for name, value in HEADERS.items():
                    assert f"{name}: {value}\r\n" in text, f"{data!r}: {name}"
        before, sent, end = len(relay.text), 0, time.monotonic() + 5
        while time.monotonic() < end:
            await asyncio.gather(*(others(caller, n).send(data) for n, data in enumerate(floods * 4)))
            sent += 4 * len(floods)
        grown = len(relay.text) - before
        sys.stdout.write(f"{setting}: {sent} requests in 5 s, {grown} bytes of log\n")
        assert "Traceback" not in relay.text
        assert sent > 100
        assert grown < 20_000


async def test_strangers_are_not_told_where_the_outbox_is(station: Station, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(TOKEN)
    async with station.relay(environment={"RELAY_WEB__TOKEN_FILE": str(tmp_path / "token")}) as relay:
        caller = await opened(station, relay)
        station.application.path.rename(tmp_path / "elsewhere.db")
        _, text = await caller.until(503, "/readyz")
        assert str(tmp_path) not in text
        assert "nothing is delivered at present" in text
        await caller.until_text(str(tmp_path), "/readyz", Authorization=f"Bearer {TOKEN}")
        (tmp_path / "elsewhere.db").rename(station.application.path)


async def test_a_connection_for_probes_serves_nothing_else(station: Station) -> None:
    async with station.relay() as relay:
        caller = await opened(station, relay)
        taken = await silent(caller)
        for data in (
            b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\nGET /messages HTTP/1.1\r\nHost: a\r\n\r\n",
            b"GET /livezz HTTP/1.1\r\nHost: a\r\n\r\n",
            b"POST /livez HTTP/1.1\r\nHost: a\r\n\r\n",
        ):
            reader, writer = await Caller(caller.host, caller.port, "127.0.0.2").connect()
            writer.write(data)
            assert (await read(reader))[0] is None, data
            writer.close()
        for each in taken:
            each.close()
