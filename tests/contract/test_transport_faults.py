"""Transport faults that no server on this machine can stage: what the system reports, and what becomes of it."""

import asyncio
import errno
import os
import socket
import ssl
from collections.abc import AsyncIterator, Callable

import pytest

from relay.core.replies import NoReply, Reply, TokenUnavailable
from relay.ion import oauth
from relay.ion.client import IonClient
from relay.ion.connection_pool import ConnectionPool, NoConnectionError
from relay.ion.http_connection import ExchangeError, HttpConnection, SilenceError
from relay.ion.http_messages import NotHttpError, ResponseReader
from relay.ion.network import CERTIFICATE_HINT
from relay.observability import open_files
from tests.contract.ion_clients import ask, connection
from tests.support.scripted import Call

BASE = "https://ion.example:28090/service"
CALLS: tuple[Call, ...] = ("ping", "versions", "accepted_documents", "post")


class FixedCredentials:
    """Credentials that are in no file."""

    paths = ()

    def __init__(self, credentials: oauth.Credentials) -> None:
        self._credentials = credentials

    def read(self) -> oauth.Credentials:
        """As given."""
        return self._credentials


Stage = Callable[..., None]


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Stage:
    """What each connection, or exchange, ends with: an error, or the bytes of an answer; the last again and again."""
    script: list[BaseException | bytes] = []

    def following() -> BaseException | bytes:
        return script.pop(0) if len(script) > 1 else script[0]

    async def take(self: ConnectionPool, *, is_fresh: bool = False) -> HttpConnection:
        if not isinstance(script[0], ExchangeError | NotHttpError | bytes):
            raise following()  # type: ignore[misc]
        return HttpConnection()

    async def exchange(
        self: HttpConnection, data: bytes, body: bytes, reader: ResponseReader, *_: object
    ) -> None:
        met = following()
        if isinstance(met, bytes):
            reader.feed(met)
        else:
            raise met

    monkeypatch.setattr(ConnectionPool, "take", take)
    monkeypatch.setattr(HttpConnection, "exchange", exchange)
    return lambda *met: script.extend(met)


@pytest.fixture
async def client() -> AsyncIterator[IonClient]:
    """To BASE, with OAuth 1 keys."""
    keys = oauth.OAuth1Keys("key", oauth.Secret("canary-secret"), "HMAC-SHA256")
    made = IonClient(connection(FixedCredentials(keys), ion_url=BASE, connect_seconds=5))
    yield made
    await made.close()


def oserror(number: int) -> OSError:
    return OSError(number, os.strerror(number))


AT = "ion.example:28090"
FAULTS: dict[str, tuple[BaseException, str]] = {
    "refused": (oserror(errno.ECONNREFUSED), f"cannot connect to {AT}: Connection refused"),
    "no route": (oserror(errno.EHOSTUNREACH), f"cannot connect to {AT}: No route to host"),
    "several addresses": (OSError("Multiple exceptions: a, b"), f"cannot connect to {AT}: Multiple exceptions: a, b"),
    "dns": (socket.gaierror(-2, "Name or service not known"), "cannot resolve ion.example"),
    "certificate": (
        ssl.SSLCertVerificationError("expired"), f"the certificate of {AT} is not trusted: ('expired',)",
    ),
    "tls": (ssl.SSLError(1, "[SSL: BAD] bad"), f"no TLS with {AT}: the handshake failed"),
    "tls closed": (ConnectionAbortedError(), f"no TLS with {AT}: it closed the connection"),
    "connect time-out": (NoConnectionError("no connection to ion.example:28090 within 5 s"), f"no connection to {AT} within 5 s"),
    "silence": (SilenceError(40), f"no answer from {AT} within 40 s"),
    "disconnected": (
        ExchangeError("closed"),
        f"{AT} closed the connection without an answer{CERTIFICATE_HINT}",
    ),
    "not http": (NotHttpError("it is not HTTP/1.1"), f"the answer of {AT} cannot be read: it is not HTTP/1.1"),
    "label": (UnicodeError("label too long"), "the URL of ion.example cannot be used"),
    "no memory for sockets": (
        OSError(errno.ENOBUFS, "canary"), f"cannot connect to {AT}: No buffer space available",
    ),
    "no descriptors": (OSError(errno.EMFILE, "canary"), f"cannot connect to {AT}: {open_files.described()}"),
}  # fmt: skip


@pytest.mark.parametrize(("fault", "text"), FAULTS.values(), ids=FAULTS)
@pytest.mark.parametrize("call", CALLS)
async def test_every_fault_is_no_reply_with_a_text_for_operators(
    stage: Stage, client: IonClient, call: Call, fault: BaseException, text: str
) -> None:
    stage(fault)
    assert await ask(client, call) == NoReply(text)


@pytest.mark.parametrize(
    ("cause", "reason"),
    [
        (oserror(errno.ECONNRESET), ": Connection reset by peer"),
        (OSError(f"canary {BASE}"), ""),
        (ValueError("canary"), ""),
    ],
)
async def test_a_broken_connection_says_the_systems_reason_and_nothing_of_the_librarys(
    stage: Stage, client: IonClient, cause: Exception, reason: str
) -> None:
    stage(ExchangeError("broke", cause))
    answer = await client.ping()
    assert isinstance(answer, NoReply)
    assert answer.detail.startswith(f"the connection to {AT} broke{reason}")
    assert "canary" not in answer.detail


@pytest.mark.parametrize("call", CALLS)
async def test_a_cancellation_propagates(stage: Stage, client: IonClient, call: Call) -> None:
    stage(asyncio.CancelledError())
    with pytest.raises(asyncio.CancelledError):
        await ask(client, call)


@pytest.mark.parametrize("call", CALLS)
async def test_a_bug_is_not_taken_for_a_fault_of_ion(stage: Stage, client: IonClient, call: Call) -> None:
    stage(ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        await ask(client, call)


API = oauth.IonApi(
    "ACME_PRD", "client", oauth.Secret("canary"), "https://gateway.example", "https://login.example/as/token"
)


async def test_an_unreachable_token_service_gets_three_requests_and_is_unavailable(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    monkeypatch.setattr("backoff._async.asyncio.sleep", sleep)
    stage(FAULTS["dns"][0])
    client = IonClient(connection(FixedCredentials(API)))
    assert await client.ping() == TokenUnavailable("cannot resolve login.example")
    assert len(waits) == 2
    assert all(0 <= wait <= 0.6 for wait in waits)
    await client.close()


async def test_a_token_service_that_recovers_is_no_failure(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def sleep(_: float) -> None:
        pass

    monkeypatch.setattr("backoff._async.asyncio.sleep", sleep)
    token = b'{"access_token": "t", "expires_in": 7200}'
    stage(
        ExchangeError("broke", oserror(errno.ECONNRESET)),
        b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(token), token),
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    )
    client = IonClient(connection(FixedCredentials(API)))
    assert await client.ping() == Reply(200)
    await client.close()
