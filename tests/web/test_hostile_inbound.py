"""More than a hundred hostile calls at the port that ION calls: none is let in, and the relay goes on delivering.

Between them ION itself calls, rightly signed, and is answered each time.
"""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Literal

import pytest
from oauthlib.oauth1 import Client

from relay.sandbox import Sandbox, SandboxTenant
from tests.support.application import OutboxRow
from tests.support.process import Station
from tests.web.hostile import Caller, malformed, noise, request

ACME, GLOBEX = "ACME_PRD", "GLOBEX_TST"
DOCUMENT = "Sync.SalesOrder"
SECRETS = {"ion-acme": "acme-secret-0123456789", "ion-globex": "globex-secret-0123456789"}
PING = f"/{ACME}/service/ping"

Verb = Literal["GET", "POST", "PUT", "DELETE"]

PATHS = (
    f"/{GLOBEX}/../{ACME}/service/ping",
    f"/./{ACME}/service/ping",
    f"//{ACME}/service/ping",
    f"/{ACME}//service/ping",
    f"/{ACME}/service/../service/ping",
    f"/{ACME}/service/%2e%2e/service/ping",
    f"/{ACME}/service%2fping",
    "/%41CME_PRD/service/ping",
    f"/{ACME}/service/ping/",
    f"/{ACME}/service/ping%00",
    f"/{ACME}/service/ping;x",
    f"/{ACME}/service/PING",
    f"/{ACME}/Service/ping",
    f"/{'A' * 23}/service/ping",
    "/service/ping",
    "/livez",
    "/readyz",
    "/metrics",
    "/",
    "/messages",
    "*",
    f"/{ACME}/service/v3/lid%3A%2F%2Facme.orders.1/acceptedDocuments",
)
"""Ways round: signed rightly for what they are, and still nothing is there."""


def signed(at: str, path: str, *, key: str = "ion-acme", secret: str | None = None, **more: str) -> str:
    """An Authorization header as ION makes it, or nearly."""
    known = {name: more[name] for name in ("nonce", "timestamp") if name in more}
    client = Client(key, secret or SECRETS[key], signature_method="HMAC-SHA256", **known)
    _, headers, _ = client.sign(f"http://{at}{path if path.startswith('/') else '/'}", "GET")
    header: str = headers["Authorization"]
    return header


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    tenants = [SandboxTenant(name, f"lid://{name.lower()}.1", [DOCUMENT]) for name in (ACME, GLOBEX)]
    async with Sandbox(tenants) as one:
        yield one
        assert one.violations == []


@pytest.fixture
async def station(sandbox: Sandbox, tmp_path: Path) -> Station:
    one = Station(tmp_path)
    one.environment |= sandbox.environment(tmp_path)
    one.environment["RELAY_INBOUND__LISTEN"] = "127.0.0.1:0"
    for tenant, key in ((ACME, "ion-acme"), (GLOBEX, "ion-globex")):
        at = f"RELAY_TENANTS__{tenant}__INBOUND__CONSUMER_"
        one.environment |= {at + "KEY": key, at + "SECRET": SECRETS[key]}
    return one


class Port:
    """The port, and what was tried at it."""

    def __init__(self, caller: Caller, station: Station) -> None:
        self.caller, self.station, self.tried = caller, station, 0

    async def opened(self) -> None:
        """Until the relay takes work."""
        for _ in range(400):
            status, _ = await self.caller.ask("GET", PING, Authorization=signed(self.caller.at, PING))
            if status != 503:
                return
            await asyncio.sleep(0.05)
        raise AssertionError("it never took work")

    async def hostile(self, data: bytes) -> None:
        """One hostile call: whatever it is answered, it is not let in."""
        status, text = await self.caller.send(data)
        assert status is None or status >= 400, f"{status} for {data[:200]!r}: {text[:300]}"
        self.tried += 1
        if self.tried % 20 == 0:
            await self.ion()

    async def ion(self) -> None:
        """ION itself is let in, and a message goes meanwhile."""
        header = signed(self.caller.at, PING)
        status, _ = await self.caller.ask("GET", PING, Authorization=header)
        assert status == 200
        self.station.application.insert_all([OutboxRow(ACME, b"<order/>")])


@pytest.fixture
async def port(station: Station) -> AsyncIterator[Port]:
    """Of a real relay; in the end every message was delivered, and nothing went wrong in it."""
    async with station.relay() as relay:
        line = await station.event(relay, "web.opened", setting="RELAY_INBOUND__LISTEN")
        host, _, number = line["address"].rpartition(":")
        one = Port(Caller(host, int(number)), station)
        await one.opened()
        yield one
        await one.ion()
        await station.until_delivered(ACME)
        assert "Traceback" not in relay.text
        assert not [secret for secret in SECRETS.values() if secret in relay.text]


def forged(at: str) -> Iterator[bytes]:
    """Wrong in one thing each."""
    now = int(time.time())
    good = signed(at, PING)
    headers = [
        *(signed(at, PING, key="ion-acme", secret=f"guess-{number}") for number in range(20)),
        *(
            Client(f"key-{number}", "x").sign(f"http://{at}{PING}")[1]["Authorization"]
            for number in range(10)
        ),
        *(signed(at, PING, timestamp=str(now + away)) for away in (-86400, -3600, -301, 310, 3600, 86400)),
        *(signed(at, PING, timestamp=odd) for odd in ("0", "-1", "1e9", "9" * 13, "now", "")),
        *(signed(at, PING, nonce=odd) for odd in ("", "n" * 300)),
        signed(at, PING.replace("ping", "versions")),
        signed("evil.example", PING),
        signed(at, PING, key="ion-globex"),
        good.replace("HMAC-SHA256", "PLAINTEXT"),
        good.replace("HMAC-SHA256", "HMAC-SHA1"),
        good.replace('oauth_version="1.0"', 'oauth_version="2.0"'),
        good + ', oauth_token="x"',
        good.replace("oauth_signature=", "oauth_signature_=") + ', oauth_signature=""',
        "OAuth",
        "OAuth " + "a=b," * 900,
        "Basic YTpi",
        "Bearer " + good,
        "",
    ]
    for header in headers:
        yield request(at, "GET", PING, Authorization=header)
    for verb in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "FOO"):
        yield request(at, verb, PING, Authorization=good)
    yield request(at, "POST", f"/{ACME}/service/v3/multipartMessage", b"x" * 100_000, Authorization=good)
    yield request(at, "GET", PING + "?oauth_nonce=another", Authorization=good)


async def test_no_forged_or_strange_call_is_let_in(port: Port) -> None:
    at = port.caller.at
    for data in forged(at):
        await port.hostile(data)
    for path in PATHS:
        await port.hostile(request(at, "GET", path, Authorization=signed(at, path)))
    for data in malformed(at):
        await port.hostile(data)
    for data in noise(seed=11, number=40):
        await port.hostile(data)
    assert port.tried >= 140


async def test_a_recorded_call_is_good_for_once(port: Port) -> None:
    header = signed(port.caller.at, PING)
    seen = [(await port.caller.ask("GET", PING, Authorization=header))[0] for _ in range(30)]
    assert seen[0] == 200
    assert set(seen[1:]) <= {401, 429}


async def _end_of(reader: asyncio.StreamReader) -> bytes:
    """All that comes until the connection ends, one way or the other."""
    try:
        return await reader.read()
    except ConnectionError:
        return b""


async def test_who_is_slow_keeps_no_place_from_ion(port: Port) -> None:
    """Sixty callers that never come to the point, with a byte now and then."""
    chance = random.Random(3)
    slow = [await port.caller.connect() for _ in range(60)]
    try:
        for _, writer in slow:
            writer.write(f"GET {PING} HTTP/1.1\r\nHost: x\r\nX-{chance.random()}: ".encode())
        await port.ion()
        async with asyncio.timeout(30):
            ends = await asyncio.gather(*(_end_of(reader) for reader, _ in slow))
        assert not any(b" 200 " in end for end in ends)
        await port.ion()
    finally:
        for _, writer in slow:
            writer.close()
