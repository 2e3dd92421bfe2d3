"""Transport faults that no server on this machine can stage; the only file that fakes the HTTP client."""

import asyncio
import errno
import os
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from typing import Any

import aiohttp
import pytest
from aiohttp.client_reqrep import ConnectionKey
from aioresponses import aioresponses
from yarl import URL

from relay.core.replies import NoReply, Reply, TokenUnavailable
from relay.ion import oauth
from relay.ion.client import IonClient
from relay.observability import open_files
from tests.contract.ion_clients import ask, connection
from tests.support.scripted import Call

BASE = "https://ion.example:28090/service"
CALLS: tuple[Call, ...] = ("ping", "versions", "accepted_documents", "post")
URLS = {
    "ping": BASE + "/ping",
    "versions": BASE + "/versions",
    "accepted_documents": BASE + "/v3/lid%3a%2f%2facme.orders.1/acceptedDocuments",
    "post": BASE + "/v3/multipartMessage",
}
KEY = ConnectionKey("ion.example", 28090, True, True, None, None, None)


class FixedCredentials:
    """Credentials that are in no file."""

    paths = ()

    def __init__(self, credentials: oauth.Credentials) -> None:
        self._credentials = credentials

    def read(self) -> oauth.Credentials:
        """As given."""
        return self._credentials


@pytest.fixture(autouse=True)
def _stream_writer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Aioresponses 0.7.9 makes responses without the `stream_writer` that aiohttp asks for since 3.14."""
    made = aiohttp.ClientResponse.__init__

    class Written:
        output_size = 0

    def init(self: aiohttp.ClientResponse, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("stream_writer", Written())
        made(self, *args, **kwargs)

    monkeypatch.setattr(aiohttp.ClientResponse, "__init__", init)


@pytest.fixture
def fake() -> Iterator[aioresponses]:
    """The HTTP client, with staged responses."""
    with aioresponses() as staged:
        yield staged


@pytest.fixture
async def client() -> AsyncIterator[IonClient]:
    """To BASE, with OAuth 1 keys."""
    keys = oauth.OAuth1Keys("key", oauth.Secret("canary-secret"), "HMAC-SHA256")
    made = IonClient(
        connection(FixedCredentials(keys), ion_url=BASE, total_seconds=50, read_seconds=40, connect_seconds=5)
    )
    yield made
    await made.close()


def stage(fake: aioresponses, call: Call, **what: Any) -> None:
    (fake.post if call == "post" else fake.get)(URL(URLS[call], encoded=True), **what)


def oserror(number: int) -> OSError:
    return OSError(number, os.strerror(number))


FAULTS: dict[str, tuple[Exception, str]] = {
    "refused": (
        aiohttp.ClientConnectorError(KEY, oserror(errno.ECONNREFUSED)),
        "cannot connect to ion.example:28090: Connection refused",
    ),
    "no route": (
        aiohttp.ClientConnectorError(KEY, oserror(errno.EHOSTUNREACH)),
        "cannot connect to ion.example:28090: No route to host",
    ),
    "several addresses": (
        aiohttp.ClientConnectorError(KEY, OSError("Multiple exceptions: a, b")),
        "cannot connect to ion.example:28090: Multiple exceptions: a, b",
    ),
    "dns": (
        aiohttp.ClientConnectorDNSError(KEY, socket.gaierror(-2, "Name or service not known")),
        "cannot resolve ion.example",
    ),
    "certificate": (
        aiohttp.ClientConnectorCertificateError(KEY, ssl.SSLCertVerificationError("expired")),
        "the certificate of ion.example:28090 is not trusted: ('expired',)",
    ),
    "tls": (
        aiohttp.ClientConnectorSSLError(KEY, ssl.SSLError(1, "[SSL: BAD] bad")),
        "no TLS with ion.example:28090: [SSL: BAD] bad",
    ),
    "connect time-out": (
        aiohttp.ConnectionTimeoutError("canary"),
        "no connection to ion.example:28090 within 5 s",
    ),
    "read time-out": (aiohttp.SocketTimeoutError("canary"), "no answer from ion.example:28090 within 40 s"),
    "total time-out": (TimeoutError(), "no answer from ion.example:28090 within 50 s"),
    "server time-out": (aiohttp.ServerTimeoutError("canary"), "no answer from ion.example:28090 within 50 s"),
    "disconnected": (
        aiohttp.ServerDisconnectedError("canary"),
        "ion.example:28090 closed the connection without an answer",
    ),
    "reset": (
        aiohttp.ClientOSError(errno.ECONNRESET, "canary"),
        "the connection to ion.example:28090 broke: Connection reset by peer",
    ),
    "not written": (
        aiohttp.ClientOSError(None, f"Can not write request body for {BASE}?canary"),
        "the connection to ion.example:28090 broke",
    ),
    "connection": (aiohttp.ClientConnectionError("canary"), "the connection to ion.example:28090 broke"),
    "payload": (aiohttp.ClientPayloadError("canary"), "the answer of ion.example:28090 was cut"),
    "not http": (
        aiohttp.ClientResponseError(
            aiohttp.RequestInfo(URL(BASE), "GET", None, URL(BASE)),  # type: ignore[arg-type]
            (),
            message="canary",
        ),
        "the answer of ion.example:28090 is not HTTP",
    ),
    "url": (aiohttp.InvalidURL("http://canary"), "the URL of ion.example cannot be used"),
    "label": (UnicodeError("label too long"), "the URL of ion.example cannot be used"),
    "no memory for sockets": (
        OSError(errno.ENOBUFS, "canary"),
        "the connection to ion.example:28090 broke: No buffer space available",
    ),
    "no descriptors": (
        OSError(errno.EMFILE, "canary"),
        f"the connection to ion.example:28090 broke: {open_files.described()}",
    ),
    "anything of the client's": (aiohttp.ClientError("canary"), "the connection to ion.example:28090 broke"),
}


@pytest.mark.parametrize(("fault", "text"), FAULTS.values(), ids=FAULTS)
@pytest.mark.parametrize("call", CALLS)
async def test_every_fault_is_no_reply_with_a_text_for_operators(
    fake: aioresponses, client: IonClient, call: Call, fault: Exception, text: str
) -> None:
    stage(fake, call, exception=fault)
    assert await ask(client, call) == NoReply(text)


@pytest.mark.parametrize("call", CALLS)
async def test_a_cancellation_propagates(fake: aioresponses, client: IonClient, call: Call) -> None:
    stage(fake, call, exception=asyncio.CancelledError())
    with pytest.raises(asyncio.CancelledError):
        await ask(client, call)


@pytest.mark.parametrize("call", CALLS)
async def test_a_bug_is_not_taken_for_a_fault_of_ion(
    fake: aioresponses, client: IonClient, call: Call
) -> None:
    stage(fake, call, exception=ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        await ask(client, call)


async def test_an_unreachable_token_service_gets_three_requests_and_is_unavailable(
    fake: aioresponses, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    monkeypatch.setattr("backoff._async.asyncio.sleep", sleep)
    api = oauth.IonApi(
        "ACME_PRD",
        "client",
        oauth.Secret("canary"),
        "https://gateway.example",
        "https://login.example/as/token",
    )
    for _ in range(3):
        fake.post("https://login.example/as/token", exception=FAULTS["dns"][0])
    client = IonClient(connection(FixedCredentials(api)))
    assert await client.ping() == TokenUnavailable("cannot resolve login.example")
    assert len(waits) == 2
    assert all(0 <= wait <= 0.6 for wait in waits)
    await client.close()


async def test_a_token_service_that_recovers_is_no_failure(
    fake: aioresponses, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def sleep(_: float) -> None:
        pass

    monkeypatch.setattr("backoff._async.asyncio.sleep", sleep)
    api = oauth.IonApi(
        "ACME_PRD",
        "client",
        oauth.Secret("canary"),
        "https://gateway.example",
        "https://login.example/as/token",
    )
    fake.post("https://login.example/as/token", exception=FAULTS["reset"][0])
    fake.post("https://login.example/as/token", status=502)
    fake.post("https://login.example/as/token", payload={"access_token": "t", "expires_in": 7200})
    fake.get(f"{api.service_url}/ping", status=200)
    client = IonClient(connection(FixedCredentials(api)))
    assert await client.ping() == Reply(200)
    await client.close()
