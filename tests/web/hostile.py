"""Hostile requests: what no browser would send, byte by byte where necessary.

`Caller.send` gives the status (None: the connection was closed without an answer) and all that came back.
"""

import asyncio
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import urlencode

Answer = tuple[int | None, str]

SECONDS = 20.0
"""So long at most until an answer, or the end, of one request."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Speaks to a port from an address of this machine, so that one that failed too often leaves others be."""

    host: str
    port: int
    source: str = "127.0.0.1"

    @property
    def at(self) -> str:
        """What a browser would put into `Host`."""
        return f"{self.host}:{self.port}"

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection."""
        return await asyncio.open_connection(self.host, self.port, local_addr=(self.source, 0))

    async def send(self, data: bytes) -> Answer:
        """Send exactly these bytes, and read to the end of the answer."""
        reader, writer = await self.connect()
        try:
            with suppress(ConnectionError):
                writer.write(data)
                await writer.drain()
            return await read(reader)
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    async def ask(self, method: str, path: str, body: bytes = b"", **headers: str) -> Answer:
        """Send a request of usual form. A header is written with `_` for `-`."""
        return await self.send(request(self.at, method, path, body, **headers))

    async def until(self, expected: int, path: str, **headers: str) -> Answer:
        """Ask again until the answer has this status."""
        answer: Answer = (None, "")
        for _ in range(int(SECONDS / 0.1)):
            answer = await self.ask("GET", path, b"", **headers)
            if answer[0] == expected:
                return answer
            await asyncio.sleep(0.1)
        raise AssertionError(f"{path} was never answered {expected}: {answer}")

    async def until_text(self, expected: str, path: str, **headers: str) -> None:
        """Ask again until the answer contains this."""
        text = ""
        for _ in range(int(SECONDS / 0.1)):
            _, text = await self.ask("GET", path, b"", **headers)
            if expected in text:
                return
            await asyncio.sleep(0.1)
        raise AssertionError(f"{path} never said {expected}: {text}")

    async def post(
        self, path: str, fields: Mapping[str, str] | Sequence[tuple[str, str]], **headers: str
    ) -> Answer:
        """Send a form."""
        kind = {"Content_Type": "application/x-www-form-urlencoded"}
        return await self.ask("POST", path, urlencode(fields).encode(), **{**kind, **headers})


async def read(reader: asyncio.StreamReader) -> Answer:
    """An answer, to the end of the connection."""
    whole = b""
    with suppress(ConnectionError):
        async with asyncio.timeout(SECONDS):
            while part := await reader.read(65536):
                whole += part
    words = whole.split(b" ", 2)
    status = int(words[1]) if len(words) > 1 and words[1].isdigit() else None
    return status, whole.decode("utf-8", "replace")


def request(host: str, method: str, path: str, body: bytes = b"", **headers: str) -> bytes:
    """Its bytes; the connection ends with the answer."""
    given = {"Host": host, "Connection": "close", **headers}
    if body:
        given.setdefault("Content_Length", str(len(body)))
    lines = [f"{method} {path} HTTP/1.1", *(f"{name.replace('_', '-')}: {given[name]}" for name in given)]
    return "\r\n".join(lines).encode("utf-8", "surrogateescape") + b"\r\n\r\n" + body


PATHS = (
    "/static/../access.py",
    "/static/%2e%2e/access.py",
    "/static/..%2faccess.py",
    "/static/%2e%2e%2f%2e%2e%2faccess.py",
    "/static/..%5caccess.py",
    "/static/....//access.py",
    "/static/style.css%00.py",
    "/static//etc/passwd",
    "/static/%2fetc%2fpasswd",
    "/static/%c0%ae%c0%ae/access.py",
    "/static/%25%32%65%25%32%65/access.py",
    "//tenants/ACME_PRD",
    "/./tenants/ACME_PRD",
    "/login/../tenants/ACME_PRD",
    "/static/../tenants/ACME_PRD",
    "/livez/../messages",
    "/livez/..%2fmessages",
    "/livez;/../messages",
    "/livez%2f..%2fmessages",
    "/tenants/ACME_PRD%0d%0aSet-Cookie:%20relay_session=mine",
    "/tenants/ACME_PRD/",
    "/TENANTS/ACME_PRD",
    "/messages/?tenant=ACME_PRD",
    "/messages?tenant=ACME_PRD&token=null",
    "/message?tenant=ACME_PRD&id=%00",
    "/metrics/../messages",
    "/.env",
    "/relay.toml",
    "/outbox.db",
    "*",
    "http://127.0.0.1/tenants/ACME_PRD",
    "http://evil.example/tenants/ACME_PRD",
    "file:///etc/passwd",
)
"""Ways round the door, none of which lead inside."""

HOSTS = (
    "evil.example",
    "evil.example:8480",
    "127.0.0.1.evil.example",
    "localhost.evil.example",
    "127.0.0.1@evil.example",
    "evil.example#127.0.0.1",
    "0.0.0.0",
    "169.254.169.254",
    "[::1",
    "a]b",
    "xn--localhost-",
    "localhost.",
    "",
    "relay",
)
"""Names under which no page may reach in where no token is asked for."""


def malformed(host: str) -> Iterator[bytes]:
    """What is no request, or two, or far too much of one."""
    start = f"GET /messages HTTP/1.1\r\nHost: {host}\r\n".encode()
    form = f"POST /login HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n".encode()
    inner = f"GET /messages HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
    yield start + b"X: " + b"a" * 10_000 + b"\r\n\r\n"
    yield start + b"X" * 10_000 + b": a\r\n\r\n"
    yield start + b"".join(b"X-%d: a\r\n" % n for n in range(20_000)) + b"\r\n"
    yield start + b"Cookie: relay_session=" + b"a" * 1_000_000 + b"\r\n\r\n"
    yield b"GET /" + b"a" * 1_000_000 + b" HTTP/1.1\r\n\r\n"
    yield start + b"X: a\r\n folded\r\n\r\n"
    yield start + b"X : a\r\n\r\n"
    yield start + b"X: a\0b\r\n\r\n"
    yield start + b"\r\n" * 3
    yield form + b"Content-Length: 70000\r\n\r\n" + b"token=" + b"a" * 69_994
    yield form + b"Content-Length: 99999999999\r\n\r\n" + b"token=" + b"a" * 200_000
    yield form + b"Content-Length: -1\r\n\r\n"
    yield form + b"Content-Length: 1e3\r\n\r\n"
    yield form + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\ntoken="
    yield form + b"Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + inner
    yield form + b"Transfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFF\r\n" + b"a" * 100
    yield form + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n" + b"a" * 100
    yield form + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n" + inner
    yield form + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + inner
    yield form + b"Transfer-Encoding: chunked\r\n\r\n" + b"1000\r\n" + b"a" * 4096 + b"\r\n" * 30
    yield form + b"Content-Encoding: gzip\r\nContent-Length: 4\r\n\r\naaaa"
    yield form + b"Content-Type: multipart/form-data\r\nContent-Length: 4\r\n\r\naaaa"
    yield form + b"Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 4\r\n\r\n--x\n"
    yield (
        form
        + b"Content-Type: multipart/form-data; boundary="
        + b"x" * 900
        + b"\r\nContent-Length: 1\r\n\r\na"
    )
    yield form + (
        b"Content-Type: application/x-www-form-urlencoded; charset=nonsense\r\nContent-Length: 7\r\n\r\ntoken=a"
    )
    yield form + (
        b"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 9\r\n\r\ntoken=\xff\xfe\x00"
    )
    yield b"GET /messages\r\n\r\n"
    yield b"GET /messages HTTP/9.9\r\n\r\n"
    yield b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    yield b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 60 + b"\r\n\r\n"
    yield start + b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\r\n"
    yield start + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n"


def noise(seed: int, number: int) -> Iterator[bytes]:
    """Requests with some of their bytes changed; the same seed gives the same."""
    chance = random.Random(seed)
    good = request(
        "127.0.0.1", "POST", "/messages/decide", b"what=drop&tenant=ACME_PRD", Cookie="relay_session=x"
    )
    for _ in range(number):
        changed = bytearray(good)
        for _ in range(chance.randint(1, 12)):
            changed[chance.randrange(len(changed))] = chance.randrange(256)
        yield bytes(changed) + b"\r\n\r\n"
