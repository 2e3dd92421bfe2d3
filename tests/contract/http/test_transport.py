"""The transport byte by byte: slow readers, early and strange answers, cancellation; with TLS and without."""

import asyncio
import gzip
import os
import socket
import ssl
import struct
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Literal, Self

import pytest
from typing_extensions import override
from yarl import URL

from relay.core.replies import NoReply
from relay.ion import connection_pool
from relay.ion.http_connection import ExchangeError, HttpConnection
from relay.ion.http_messages import ResponseReader
from relay.ion.transport import HttpResponse, TimeLimits, Transport
from tests.support.raw import Line, RawServer, ReceivedRequest

LIMITS = TimeLimits(connect=5.0, silence=5.0, total=30.0, least_rate=100_000)
LARGE = b"x" * 5_000_000
OK = b"HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\nok"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """For 127.0.0.1, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    made, key = folder / "made.pem", folder / "key.pem"
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=127.0.0.1",
    ]
    command += [
        "-addext",
        "subjectAltName=IP:127.0.0.1,DNS:localhost",
        "-keyout",
        str(key),
        "-out",
        str(made),
    ]
    subprocess.run(command, check=True, capture_output=True)
    return made, key


class Wire:
    """A raw server and a transport to it, both with TLS or both without."""

    def __init__(self, server_tls: ssl.SSLContext | None, trusted: str) -> None:
        self.tls, self.trusted = server_tls, trusted
        self.transports: list[Transport] = []

    def transport(self, limits: TimeLimits = LIMITS, may_send: Callable[[], bool] | None = None) -> Transport:
        self.transports.append(Transport(limits, may_send=may_send))
        return self.transports[-1]

    def url(self, port: int) -> URL:
        return URL(f"{'http' if self.tls is None else 'https'}://127.0.0.1:{port}/x")

    async def post(self, transport: Transport, port: int, data: bytes = b"hello") -> HttpResponse | NoReply:
        return await transport.post(self.url(port), {}, 1000, data)

    async def get(self, transport: Transport, port: int) -> HttpResponse | NoReply:
        return await transport.get(self.url(port), dict, 1000)


@pytest.fixture(params=["plain", "tls"])
async def wire(
    request: pytest.FixtureRequest, certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Wire]:
    """Both ways."""
    context = None
    if request.param == "tls":
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(*certificate)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    made = Wire(context, str(certificate[0]))
    yield made
    for transport in made.transports:
        await transport.close()


def answering(
    data: bytes, *, then: Literal["keep", "close"] = "keep"
) -> Callable[[Line, ReceivedRequest], Awaitable[None]]:
    """A server that answers so."""

    async def answer(line: Line, _: ReceivedRequest) -> None:
        await line.say(data)
        if then == "close":
            line.hang_up()

    return answer


def head(*fields: str) -> bytes:
    return "\r\n".join(["HTTP/1.1 202 Accepted", *fields, "", ""]).encode()


READABLE = {
    "a long header": head("X: " + "a" * 9000, "Content-Length: 2") + b"ok",
    "300 headers": head(*(f"X-{n}: a" for n in range(300)), "Content-Length: 2") + b"ok",
    "two equal lengths": head("Content-Length: 2", "Content-Length: 2") + b"ok",
    "100 first": b"HTTP/1.1 100 Continue\r\n\r\n" + OK,
    "103 first": b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + OK,
    "chunked with trailers": head("Transfer-Encoding: chunked") + b"2\r\nok\r\n0\r\nX: y\r\n\r\n",
    "1.0": b"HTTP/1.0 202 Accepted\r\n\r\nok",
    "close": head("Connection: close", "Content-Length: 2") + b"ok",
    "gzip": head("Content-Encoding: gzip", f"Content-Length: {len(gzip.compress(b'ok'))}")
    + gzip.compress(b"ok"),
    "garbage behind it": OK + b"\0\xff garbage",
}


@pytest.mark.parametrize("method", ["post", "get"])
@pytest.mark.parametrize("data", READABLE.values(), ids=READABLE)
async def test_an_answer_that_can_be_read_is_one(wire: Wire, data: bytes, method: str) -> None:
    async with RawServer(answering(data, then="close" if b"/1.0" in data else "keep"), wire.tls) as server:
        transport = wire.transport()
        for _ in range(2):
            response = await getattr(wire, method)(transport, server.port)
            assert isinstance(response, HttpResponse), response
            assert (response.status, response.body, response.is_complete) == (202, b"ok", True)


UNREADABLE = {
    "unequal lengths": (head("Content-Length: 2", "Content-Length: 3") + b"ok", "HTTP 202, then two different Content-Lengths"),
    "a broken line": (head("broken", "Content-Length: 2") + b"ok", "HTTP 202, then a header line that cannot be read"),
    "a header bomb": (head("X: " + "a" * 100_000), "HTTP 202, then more than 64 KiB before its body"),
    "a cut body": (head("Content-Length: 20") + b"ok", "HTTP 202, then the answer was cut"),
    "a cut chunk": (head("Transfer-Encoding: chunked") + b"5\r\nok", "HTTP 202, then the answer was cut"),
    "a flood of 100": (b"HTTP/1.1 100 Continue\r\n\r\n" * 10_000, "the answer of {} cannot be read: more than 16 interim answers"),
    "a flood of 103": (
        b"HTTP/1.1 103 Early\r\nX: " + b"a" * 30_000 + b"\r\n\r\n" * 5 + b"HTTP/1.1 103 Early\r\nX: " + b"a" * 60_000,
        "the answer of {} cannot be read: ",
    ),
    "another protocol": (b"220 mail.example ESMTP\r\n", "the answer of {} cannot be read: it is not HTTP/1.1"),
    "nothing": (b"", "{} closed the connection without an answer"),
}  # fmt: skip


@pytest.mark.parametrize("method", ["post", "get"])
@pytest.mark.parametrize(("data", "what"), UNREADABLE.values(), ids=UNREADABLE)
async def test_what_cannot_be_read_is_no_reply_and_says_the_status(
    wire: Wire, data: bytes, what: str, method: str
) -> None:
    async with RawServer(answering(data, then="close"), wire.tls) as server:
        answer = await getattr(wire, method)(wire.transport(), server.port)
        assert isinstance(answer, NoReply)
        assert answer.detail.startswith(what.format(f"127.0.0.1:{server.port}"))
        assert len(server.asked) == 1


async def test_an_endless_flood_of_interim_answers_is_bounded(wire: Wire) -> None:
    async def floods(line: Line, _: ReceivedRequest) -> None:
        while True:
            await line.say(b"HTTP/1.1 102 Processing\r\n\r\n" * 100)

    async with RawServer(floods, wire.tls) as server:
        answer = await wire.post(wire.transport(), server.port)
        assert isinstance(answer, NoReply)
        assert "interim answers" in answer.detail
        await server.until(lambda: not server.lines)


# --- large requests -----------------------------------------------------------------------------------------


class Reading:
    """A server that reads a request's body itself: slowly, partly, or not at all."""

    def __init__(self, tls: ssl.SSLContext | None, serve: Callable[..., Awaitable[None]]) -> None:
        self._tls, self._serve = tls, serve
        self.received = self.opened = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        listening = socket.create_server(("127.0.0.1", 0))
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**16)
        self.port: int = listening.getsockname()[1]
        self._server = await asyncio.start_server(self._connected, sock=listening, ssl=self._tls, limit=2**16)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.opened += 1
        try:
            await reader.readuntil(b"\r\n\r\n")
            await self._serve(self, reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the other side has gone, or the test has ended
        finally:
            writer.transport.abort()

    async def read(self, reader: asyncio.StreamReader, size: int, *, pause: float = 0.0) -> None:
        while size > 0 and (data := await reader.read(min(size, 2**16))):
            size -= len(data)
            self.received += len(data)
            await asyncio.sleep(pause)


async def test_a_slow_reader_gets_all_of_it_however_long_it_takes(wire: Wire) -> None:
    """The silence that is allowed is shorter than the whole: what counts is progress."""

    async def slowly(self: Reading, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self.read(reader, len(LARGE), pause=0.02)
        writer.write(OK)
        await writer.drain()
        await reader.read()

    async with Reading(wire.tls, slowly) as server:
        limits = TimeLimits(connect=5.0, silence=0.6, total=0.5, least_rate=100_000)
        response = await wire.post(wire.transport(limits), server.port, LARGE)
        assert isinstance(response, HttpResponse), response
        assert server.received == len(LARGE)


async def test_a_server_that_takes_nothing_more_is_given_up(wire: Wire) -> None:
    async def stops(self: Reading, reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await self.read(reader, 200_000)
        await asyncio.sleep(3600)

    async with Reading(wire.tls, stops) as server:
        limits = TimeLimits(connect=5.0, silence=0.3, total=30.0, least_rate=1000)
        answer = await wire.post(wire.transport(limits), server.port, LARGE)
        assert answer == NoReply(f"no answer from 127.0.0.1:{server.port} within 0.3 s")


async def test_the_loop_goes_on_while_a_large_body_is_sent(wire: Wire) -> None:
    async def slowly(self: Reading, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self.read(reader, len(LARGE), pause=0.005)
        writer.write(OK)
        await writer.drain()
        await reader.read()

    async with Reading(wire.tls, slowly) as server:
        transport = wire.transport()
        post = asyncio.create_task(wire.post(transport, server.port, LARGE))
        turns = 0
        while not post.done():
            await asyncio.sleep(0.001)
            turns += 1
        assert isinstance(await post, HttpResponse)
        assert turns > 20


async def test_an_early_refusal_ends_the_sending(wire: Wire) -> None:
    async def refuses(self: Reading, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self.read(reader, 100_000)
        writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        await reader.read(1)
        await asyncio.sleep(3600)

    async with Reading(wire.tls, refuses) as server:
        response = await wire.post(wire.transport(), server.port, LARGE)
        assert isinstance(response, HttpResponse), response
        assert response.status == 413
        assert server.received < len(LARGE)


@pytest.mark.parametrize("reads_on", [True, False])
async def test_an_early_success_counts_only_if_all_was_taken(wire: Wire, reads_on: bool) -> None:
    async def early(self: Reading, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self.read(reader, 100_000)
        writer.write(OK)
        await writer.drain()
        if reads_on:
            await self.read(reader, len(body) - self.received)
            await reader.read()
        else:
            writer.transport.abort()

    body = LARGE * 8  # more than the systems between take by themselves
    async with Reading(wire.tls, early) as server:
        answer = await wire.post(wire.transport(), server.port, body)
        if reads_on:
            assert isinstance(answer, HttpResponse), answer
            assert answer.status == 202
            assert server.received > len(LARGE)
        else:
            assert isinstance(answer, NoReply)
            assert answer.detail.startswith("HTTP 202, then ")


async def test_what_comes_behind_an_early_success_ends_the_connection(wire: Wire) -> None:
    """It is not taken for the answer to the next request."""
    again = asyncio.Event()

    async def chatty(self: Reading, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self.read(reader, 100_000)
        writer.write(OK)
        await writer.drain()
        await self.read(reader, 1_000_000)
        writer.write(b"HTTP/1.1 500 Wrong\r\nContent-Length: 0\r\n\r\n" if not again.is_set() else b"")
        await self.read(reader, 2**40)

    body = LARGE * 8
    async with Reading(wire.tls, chatty) as server:
        transport = wire.transport()
        first = await wire.post(transport, server.port, body)
        assert isinstance(first, HttpResponse), first
        assert first.status == 202
        again.set()
        second = await wire.post(transport, server.port, LARGE)
        assert isinstance(second, HttpResponse), second
        assert second.status == 202
        assert server.opened == 2


# --- connections --------------------------------------------------------------------------------------------


async def test_garbage_on_an_idle_connection_is_no_answer(wire: Wire) -> None:
    async def chatty(line: Line, _: ReceivedRequest) -> None:
        await line.say(OK)
        await asyncio.sleep(0.05)
        await line.say(b"HTTP/1.1 500 Wrong\r\nContent-Length: 0\r\n\r\n")

    async with RawServer(chatty, wire.tls) as server:
        transport = wire.transport()
        for _ in range(2):
            response = await wire.post(transport, server.port)
            assert isinstance(response, HttpResponse)
            assert response.status == 202
            await server.until(lambda: not server.lines)
        assert [request.on_line for request in server.asked] == [0, 1]


async def test_an_idle_connection_that_the_server_closed_is_not_used(wire: Wire) -> None:
    """Also where the loop has not noticed it yet: nothing is sent twice, and nothing is lost."""

    async def closes(line: Line, _: ReceivedRequest) -> None:
        await line.say(OK)
        line.hang_up()

    async with RawServer(closes, wire.tls) as server:
        transport = wire.transport()
        for _ in range(20):
            assert isinstance(await wire.post(transport, server.port), HttpResponse)
            await server.until(lambda: not server.lines)
        assert len(server.asked) == 20


async def test_a_thousand_cancelled_requests_leave_no_connection(wire: Wire) -> None:
    async def silent(line: Line, _: ReceivedRequest) -> None:
        await line.until_gone()

    async with RawServer(silent, wire.tls) as server:
        transport = wire.transport()
        for turn in range(1000 if wire.tls is None else 100):
            task = asyncio.create_task(wire.post(transport, server.port))
            if turn % 3:
                await asyncio.sleep(0)
            elif turn % 2:
                await server.until(lambda: bool(server.lines))
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await server.until(lambda: not server.lines)
        assert transport._pools
        assert all(not pool.idle() and not pool._in_use for pool in transport._pools.values())


async def test_a_request_that_is_cancelled_at_the_last_moment_of_connecting_leaves_nothing(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does the next connection, which gets the same descriptor, meet what is left of it."""
    made = HttpConnection.connection_made
    opened: list[HttpConnection] = []

    def connection_made(self: HttpConnection, transport: asyncio.BaseTransport) -> None:
        made(self, transport)
        opened.append(self)
        task.cancel()

    async with RawServer(answering(OK), wire.tls) as server:
        transport = wire.transport()
        for _ in range(3):
            monkeypatch.setattr(HttpConnection, "connection_made", connection_made)
            task = asyncio.create_task(wire.post(transport, server.port))
            with pytest.raises(asyncio.CancelledError):
                await task
            monkeypatch.undo()
            await server.until(lambda: not server.lines)
            assert opened.pop().is_closed
            if wire.tls is not None:
                monkeypatch.setenv("SSL_CERT_FILE", wire.trusted)
            assert isinstance(await wire.post(transport, server.port), HttpResponse)
            await transport.close()
            await server.until(lambda: not server.lines)


async def test_a_post_that_may_not_be_sent_any_more_keeps_its_connection(wire: Wire) -> None:
    may = [True, False, True]
    async with RawServer(answering(OK), wire.tls) as server:
        transport = wire.transport(may_send=lambda: may.pop(0))
        answers = [await wire.post(transport, server.port) for _ in range(3)]
        assert answers[1] == NoReply("not sent: this relay does not own the tenant any more")
        assert [isinstance(answer, HttpResponse) for answer in answers] == [True, False, True]
        assert [request.on_line for request in server.asked] == [0, 0]


async def test_a_name_with_a_dead_address_is_reached_by_the_other(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with RawServer(answering(OK), wire.tls) as server:
        loop = asyncio.get_running_loop()
        real = loop.getaddrinfo

        async def two_addresses(host: str, port: int, **options: int) -> list[object]:
            found = await real("127.0.0.1" if host == "localhost" else host, port, **options)
            (family, kind, protocol, name, _) = found[0]
            dead = [(family, kind, protocol, name, ("127.0.0.2", 1))] if host == "localhost" else []
            return [*dead, *found]

        monkeypatch.setattr(loop, "getaddrinfo", two_addresses)
        url = URL(f"{wire.url(server.port).scheme}://localhost:{server.port}/x")
        assert isinstance(await wire.transport().post(url, {}, 1000, b"hello"), HttpResponse)


@pytest.mark.parametrize(
    ("named", "lines"), [("timeout=0", [0, 1]), ("Timeout = 60, max=9", [0, 0]), ("x", [0, 0])]
)
async def test_an_idle_connection_is_not_used_when_its_server_may_be_closing_it(
    wire: Wire, named: str, lines: list[int]
) -> None:
    """Many servers name a time of five seconds."""
    async with RawServer(
        answering(head(f"Keep-Alive: {named}", "Content-Length: 2") + b"ok"), wire.tls
    ) as server:
        transport = wire.transport()
        for _ in range(2):
            assert isinstance(await wire.post(transport, server.port), HttpResponse)
        assert [request.on_line for request in server.asked] == lines


async def test_an_old_idle_connection_is_not_used(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also before it is found and closed."""
    async with RawServer(answering(OK), wire.tls) as server:
        transport = wire.transport()
        assert isinstance(await wire.post(transport, server.port), HttpResponse)
        monkeypatch.setattr(connection_pool, "KEEP_ALIVE_SECONDS", 0.0)
        assert isinstance(await wire.post(transport, server.port), HttpResponse)
        assert [request.on_line for request in server.asked] == [0, 1]


async def test_a_transport_that_is_closed_meanwhile_sends_nothing_on_a_new_connection(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with RawServer(answering(OK), wire.tls) as server:
        transport, looked_up, go_on = wire.transport(), asyncio.Event(), asyncio.Event()
        loop = asyncio.get_running_loop()
        real = loop.getaddrinfo

        async def slow(host: str, port: int, **options: int) -> list[object]:
            looked_up.set()
            await go_on.wait()
            return list(await real(host, port, **options))

        monkeypatch.setattr(loop, "getaddrinfo", slow)
        post = asyncio.create_task(wire.post(transport, server.port))
        await looked_up.wait()
        await transport.close()
        go_on.set()
        answer = await post
        assert isinstance(answer, NoReply)
        assert answer.detail.startswith(f"127.0.0.1:{server.port} closed the connection without an answer")
        await server.until(lambda: not server.lines)
        assert not server.asked


async def test_tls_that_ends_without_a_farewell_ends_a_body_without_a_length(wire: Wire) -> None:
    """As a plain connection does: old servers do so. A reset is a cut."""

    async def ends(_: Reading, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(5)
        writer.write(b"HTTP/1.0 202 Accepted\r\n\r\nok")
        await writer.drain()
        with socket.socket(fileno=os.dup(writer.get_extra_info("socket").fileno())) as end:
            end.shutdown(socket.SHUT_WR)
        await reader.read()

    async with Reading(wire.tls, ends) as server:
        answer = await wire.post(wire.transport(), server.port)
        assert isinstance(answer, HttpResponse), answer
        assert (answer.status, answer.body) == (202, b"ok")


# --- one connection -----------------------------------------------------------------------------------------


class Noticed(HttpConnection):
    """`closed` is set when its end was noticed."""

    def __init__(self) -> None:
        super().__init__()
        self.closed = asyncio.Event()

    @override
    def connection_lost(self, error: Exception | None) -> None:
        super().connection_lost(error)
        self.closed.set()


async def connected() -> tuple[Noticed, socket.socket]:
    """A connection, and its other end, which answers at once what a test lets it say."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(Noticed, *listening.getsockname())
        end, _ = listening.accept()
    return connection, end


@pytest.mark.parametrize("size", [5, 200_000])
async def test_a_connection_that_broke_before_its_request_says_so_at_once(size: int) -> None:
    """Not after the time-out for silence: nobody will ever answer."""
    connection, end = await connected()
    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    end.close()  # by a reset
    await asyncio.wait_for(connection.closed.wait(), 10)
    with pytest.raises(ExchangeError, match="broke") as error:
        await connection.exchange(b"", b"x" * size, ResponseReader(100), 3600, 3600)
    assert isinstance(error.value.cause, ConnectionResetError)


async def test_a_connection_that_was_closed_before_its_request_says_so_at_once() -> None:
    connection, end = await connected()
    connection.close()
    with pytest.raises(ExchangeError, match="closed"):
        await connection.exchange(b"", b"hello", ResponseReader(100), 3600, 3600)
    end.close()


async def test_a_refusal_is_read_before_more_is_written_than_the_server_takes() -> None:
    """The write would fail, and take the answer with it."""
    connection, end = await connected()
    end.sendall(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    end.close()
    reader = ResponseReader(100)
    await connection.exchange(b"POST / HTTP/1.1\r\n\r\n", LARGE, reader, 10, 10)
    assert (reader.status, connection.is_closed) == (413, True)


async def test_a_connection_on_which_a_request_was_not_taken_is_not_used_again() -> None:
    """It was answered before it was read: the next one would wait behind it."""
    connection, end = await connected()
    assert connection.transport is not None
    connection.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    end.sendall(OK)
    reader = ResponseReader(100)
    await connection.exchange(b"POST / HTTP/1.1\r\n\r\n", b"x" * 60_000, reader, 10, 10)
    assert (reader.status, connection.is_closed) == (202, True)
    end.close()
