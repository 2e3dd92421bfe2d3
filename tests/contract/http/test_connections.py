"""The real client and a hostile network: faults that the simulator cannot stage, byte by byte."""

import asyncio
import os
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from asyncio_throttle.throttler import Throttler

from relay.core.replies import Accepted, Answer, NoReply, Reply, Versions, describe
from relay.ion import connection_pool, transport
from relay.ion.client import IonClient
from relay.ion.credentials import OAuth1Source
from relay.ion.oauth import Secret
from relay.sandbox import Sandbox
from tests.contract.ion_clients import (
    TENANT,
    ask,
    connection,
    ionapi_source,
    message,
    oauth1_source,
    sandbox_tenant,
)
from tests.support.raw import Line, RawServer, ReceivedRequest
from tests.support.scripted import Call

CALLS: tuple[Call, ...] = ("ping", "versions", "accepted_documents", "post")
GETS = CALLS[:3]
BODIES = {
    "ping": b"",
    "versions": b'{"supportedVersions":["v3"]}',
    "acceptedDocuments": b'{"acceptedDocuments":["Sync.Shipment"]}',
    "multipartMessage": b'{"status":"OK"}',
}

ROOT = Path(__file__).resolve().parents[2]

Connect = Callable[..., IonClient]


@pytest.fixture
async def connect() -> AsyncIterator[Connect]:
    """Clients of a port, with OAuth 1 keys; closed at the end."""
    made: list[IonClient] = []

    def to(port: int, scheme: str = "http", **changes: Any) -> IonClient:
        source = OAuth1Source("key", Secret("canary-secret"))
        url = f"{scheme}://127.0.0.1:{port}/service"
        made.append(IonClient(connection(source, ion_url=url, **changes)))
        return made[-1]

    yield to
    for client in made:
        await client.close()


async def fine(line: Line, request: ReceivedRequest) -> None:
    """Normal operation."""
    await line.reply("200 OK", BODIES[request.target.rpartition("/")[2]])


def is_fine(answer: Answer) -> bool:
    """Whether it is an answer of normal operation."""
    return isinstance(answer, Versions | Accepted) or (isinstance(answer, Reply) and answer.status == 200)


# --- kept-alive connections --------------------------------------------------------------------------


def stale(first: int = 1) -> Callable[[Line, ReceivedRequest], Any]:
    """The first connection breaks after `first` requests without a response; the others are fine."""
    served = 0

    async def handler(line: Line, request: ReceivedRequest) -> None:
        nonlocal served
        served += 1
        if line.number == 0 and served > first:
            line.hang_up()
        else:
            await fine(line, request)

    return handler


@pytest.mark.parametrize("call", GETS)
async def test_a_get_on_a_broken_kept_alive_connection_is_repeated_at_once_with_a_new_signature(
    connect: Connect, call: Call
) -> None:
    """ION refuses a nonce that it has seen; the same signature again would look like a wrong key."""
    async with RawServer(stale()) as server:
        client = connect(server.port)
        assert is_fine(await ask(client, "ping"))
        assert is_fine(await ask(client, call))
        assert [request.on_line for request in server.asked] == [0, 0, 1]
        signatures = {request.headers["authorization"] for request in server.asked}
        assert len(signatures) == 3


async def test_a_post_on_a_broken_kept_alive_connection_is_never_repeated(connect: Connect) -> None:
    async with RawServer(stale()) as server:
        client = connect(server.port)
        assert is_fine(await ask(client, "ping"))
        answer = await ask(client, "post")
        assert isinstance(answer, NoReply)
        assert [request.method for request in server.asked] == ["GET", "POST"]
        assert is_fine(await ask(client, "ping"))
        assert [request.method for request in server.asked] == ["GET", "POST", "GET"]


@pytest.mark.parametrize("call", CALLS)
async def test_on_a_new_connection_nothing_is_repeated(connect: Connect, call: Call) -> None:
    """During an outage each attempt is one request, not two."""
    async with RawServer(stale(first=0)) as server:
        answer = await ask(connect(server.port), call)
        assert answer == NoReply(f"127.0.0.1:{server.port} closed the connection without an answer")
        assert len(server.asked) == 1


async def test_a_get_is_repeated_once_only(connect: Connect) -> None:
    async def breaks(line: Line, request: ReceivedRequest) -> None:
        if len(server.asked) <= 1:
            await fine(line, request)
        else:
            line.hang_up()

    async with RawServer(breaks) as server:
        client = connect(server.port)
        assert is_fine(await ask(client, "ping"))
        assert isinstance(await ask(client, "ping"), NoReply)
        assert len(server.asked) == 3


async def test_a_connection_that_the_server_closed_is_not_used_again(connect: Connect) -> None:
    async def closes_after_response(line: Line, request: ReceivedRequest) -> None:
        await fine(line, request)
        await line.finish()

    async with RawServer(closes_after_response) as server:
        client = connect(server.port)
        assert is_fine(await ask(client, "ping"))
        await server.until(lambda: not server.lines)
        assert is_fine(await ask(client, "post"))
        assert [request.on_line for request in server.asked] == [0, 1]


async def test_an_idle_connection_is_closed(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_pool, "KEEP_ALIVE_SECONDS", 0.05)
    async with RawServer(fine) as server:
        assert is_fine(await ask(connect(server.port), "ping"))
        assert server.lines
        await server.until(lambda: not server.lines)


def test_a_client_is_made_without_a_loop_and_without_a_connection() -> None:
    """A tenant that never has a message costs nothing."""
    client = IonClient(connection(OAuth1Source("key", Secret("s")), ion_url="http://127.0.0.1:1/s"))
    assert not client.credentials_changed()
    asyncio.run(client.close())


# --- time ------------------------------------------------------------------------------------------


async def silent(line: Line, _: ReceivedRequest) -> None:
    """Accept the request and do not respond."""
    await line.until_gone()


@pytest.mark.parametrize("call", CALLS)
async def test_silence_is_no_reply_after_the_total_timeout(connect: Connect, call: Call) -> None:
    async with RawServer(silent) as server:
        answer = await ask(connect(server.port, total_seconds=0.05), call)
        assert answer == NoReply(f"no answer from 127.0.0.1:{server.port} within 0.05 s")


async def test_a_body_that_stops_is_no_reply_after_the_read_timeout(connect: Connect) -> None:
    async def stops(line: Line, _: ReceivedRequest) -> None:
        await line.say(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nsome")
        await line.until_gone()

    async with RawServer(stops) as server:
        answer = await ask(connect(server.port, read_seconds=0.05), "post")
        assert answer == NoReply(f"HTTP 200, then no answer from 127.0.0.1:{server.port} within 0.05 s")


async def test_a_body_that_never_ends_is_no_reply_after_the_total_timeout(connect: Connect) -> None:
    async def drips(line: Line, _: ReceivedRequest) -> None:
        await line.say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            await line.say(b"1\r\nx\r\n")
            await asyncio.sleep(0.005)

    async with RawServer(drips) as server:
        answer = await ask(connect(server.port, read_seconds=5, total_seconds=0.1), "versions")
        assert answer == NoReply(f"HTTP 200, then no answer from 127.0.0.1:{server.port} within 0.1 s")


async def test_a_missing_tls_handshake_is_no_connection(connect: Connect) -> None:
    async with RawServer(fine, mute=True) as server:
        client = connect(server.port, "https", connect_seconds=0.05)
        answer = await ask(client, "ping")
        assert answer == NoReply(f"no connection to 127.0.0.1:{server.port} within 0.05 s")
        await server.until(lambda: not server.lines)


async def test_a_closed_port_is_no_reply_with_the_systems_error(connect: Connect) -> None:
    async with RawServer(fine) as server:
        port = server.port
    assert await ask(connect(port), "post") == NoReply(
        f"cannot connect to 127.0.0.1:{port}: Connection refused"
    )


# --- TLS -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A self-signed certificate for 127.0.0.1 and its key."""
    folder = tmp_path_factory.mktemp("tls")
    made = folder / "made.pem"
    key = folder / "key.pem"
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
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(made)]
    subprocess.run(command, check=True, capture_output=True)
    return made, key


@pytest.mark.parametrize("call", CALLS)
async def test_an_untrusted_certificate_is_refused(
    connect: Connect, certificate: tuple[Path, Path], call: Call
) -> None:
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(*certificate)
    async with RawServer(fine, tls) as server:
        answer = await ask(connect(server.port, "https"), call)
        assert isinstance(answer, NoReply)
        assert answer.detail.startswith(f"the certificate of 127.0.0.1:{server.port} is not trusted: ")
        assert "self-signed certificate" in answer.detail.replace("self signed", "self-signed")
        assert server.asked == []


async def test_the_same_certificate_is_accepted_where_the_machine_trusts_it(
    certificate: tuple[Path, Path], tmp_path: Path
) -> None:
    """So the refusal is about trust, and an on-premises ION with its own CA only needs SSL_CERT_FILE."""
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(*certificate)
    program = tmp_path / "ping.py"
    program.write_text(
        "import asyncio, sys\n"
        "from relay.ion.credentials import OAuth1Source\n"
        "from relay.ion.client import IonClient\n"
        "from relay.ion.oauth import Secret\n"
        "from tests.contract.ion_clients import connection\n"
        "async def main():\n"
        "    keys = OAuth1Source('key', Secret('s'))\n"
        "    client = IonClient(connection(keys, ion_url=sys.argv[1]))\n"
        "    print(await client.ping())\n"
        "    await client.close()\n"
        "asyncio.run(main())\n"
    )
    async with RawServer(fine, tls) as server:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            str(program),
            f"https://127.0.0.1:{server.port}/service",
            env={**os.environ, "SSL_CERT_FILE": str(certificate[0]), "PYTHONPATH": str(ROOT)},
            stdout=asyncio.subprocess.PIPE,
        )
        output, _ = await asyncio.wait_for(process.communicate(), 30)
    assert output.decode().startswith("Reply(status=200")


async def test_a_server_without_tls_is_no_reply(connect: Connect) -> None:
    async with RawServer(
        fine, greeting=b"HTTP/1.1 400 Plain HTTP request sent to HTTPS port\r\n\r\n"
    ) as server:
        answer = await ask(connect(server.port, "https"), "ping")
        assert isinstance(answer, NoReply)
        assert answer.detail.startswith(f"no TLS with 127.0.0.1:{server.port}: ")
        assert "Operation not permitted" not in answer.detail


# --- redirects -------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    "status", ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"]
)
async def test_a_redirect_is_not_followed(connect: Connect, call: Call, status: str) -> None:
    """Neither credentials nor documents are sent to the target."""

    async def redirects(line: Line, _: ReceivedRequest) -> None:
        await line.reply(status, b"", f"Location: http://127.0.0.1:{server.port}/elsewhere?state=canary")

    async with RawServer(redirects) as server:
        answer = await ask(connect(server.port), call)
        assert answer == Reply(int(status[:3]), f"redirected to http://127.0.0.1:{server.port}")
        assert len(server.asked) == 1


# --- bytes -----------------------------------------------------------------------------------------


async def floods(line: Line, _: ReceivedRequest) -> None:
    """An endless body."""
    await line.say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        await line.say(b"10000\r\n" + b" " * 0x10000 + b"\r\n")


@pytest.mark.parametrize("call", ["versions", "accepted_documents"])
async def test_an_endless_body_is_no_reply_where_it_matters(connect: Connect, call: Call) -> None:
    async with RawServer(floods) as server:
        answer = await ask(connect(server.port), call)
        assert isinstance(answer, NoReply)
        assert "is longer than" in answer.detail
        await server.until(lambda: not server.lines)


@pytest.mark.parametrize("call", ["ping", "post"])
async def test_an_endless_body_is_not_read_where_it_does_not_matter(connect: Connect, call: Call) -> None:
    async with RawServer(floods) as server:
        assert await ask(connect(server.port), call) == Reply(200)
        await server.until(lambda: not server.lines)


async def test_a_list_of_documents_may_be_long(connect: Connect) -> None:
    names = ",".join(f'"My.Document{number}"' for number in range(100_000))

    async def long_list(line: Line, _: ReceivedRequest) -> None:
        await line.reply("200 OK", b'{"acceptedDocuments":[' + names.encode() + b"]}")

    async with RawServer(long_list) as server:
        answer = await ask(connect(server.port), "accepted_documents")
        assert isinstance(answer, Accepted)
        assert len(answer.documents) == 100_000


NONSENSE = {
    "not http": b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
    "nothing": b"",
    "half a line": b"HTTP/1.1 20",
    "half a head": b"HTTP/1.1 200 OK\r\nContent-Le",
    "bad version": b"HTTP/9.9 200 OK\r\n\r\n",
    "bad status": b"HTTP/1.1 abc OK\r\n\r\n",
    "long status": b"HTTP/1.1 20000 OK\r\n\r\n",
    "bad length": b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
    "huge length": b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\nx",
    "bad chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nx",
    "huge chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffffff\r\nx",
    "cut chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
    "endless header": b"HTTP/1.1 200 OK\r\nX: " + b"a" * 100_000 + b"\r\n\r\n",
    "many headers": b"HTTP/1.1 200 OK\r\n" + b"X: a\r\n" * 10_000 + b"\r\n",
    "nul in a header": b"HTTP/1.1 200 OK\r\nX: a\x00b\r\nContent-Length: 0\r\n\r\n",
    "cut body": b"HTTP/1.1 500 Oops\r\nContent-Length: 50\r\n\r\nx",
}


@pytest.mark.parametrize("data", NONSENSE.values(), ids=NONSENSE)
@pytest.mark.parametrize("call", CALLS)
async def test_what_is_not_http_is_no_reply(connect: Connect, call: Call, data: bytes) -> None:
    async def sends_nonsense(line: Line, _: ReceivedRequest) -> None:
        await line.say(data)
        line.hang_up()

    async with RawServer(sends_nonsense) as server:
        client = connect(server.port, total_seconds=5)
        answer = await ask(client, call)
        assert isinstance(answer, NoReply)
        assert len(answer.detail) <= 300
        assert answer.detail.isprintable()
        assert "canary" not in answer.detail


@pytest.mark.parametrize(
    ("head", "status"),
    [
        ("HTTP/1.1 599 Whatever", 599),
        ("HTTP/1.1 999 Whatever", 999),
        ("HTTP/1.0 503 Old", 503),
        ("HTTP/1.1 503", 503),
        ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 503 Then", 503),
        ("HTTP/1.1 503 B\xffd\r\nRetry-After: \xff\xfe", 503),
        ("HTTP/1.1 503 Twice\r\nRetry-After: soon\r\nRetry-After: 5", 503),
        ("HTTP/1.1 503 Packed\r\nContent-Encoding: gzip", 503),
        ("HTTP/1.1 503 Cookie\r\nSet-Cookie: a=b; Domain=\x01", 503),
    ],
)
async def test_unusual_response_headers_are_replies(connect: Connect, head: str, status: int) -> None:
    async def odd(line: Line, _: ReceivedRequest) -> None:
        await line.say(head.encode("latin-1") + b"\r\nContent-Length: 3\r\n\r\nabc")
        line.hang_up()

    async with RawServer(odd) as server:
        for call in CALLS:
            answer = await ask(connect(server.port), call)
            assert isinstance(answer, Reply | NoReply)
            if isinstance(answer, Reply):
                assert answer == Reply(status, answer.detail, None, None)


async def test_a_protocol_switch_is_answered_and_its_connection_not_used_again(connect: Connect) -> None:
    async def switches(line: Line, request: ReceivedRequest) -> None:
        if line.number == 0:
            await line.say(b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n")
            await line.until_gone()
        await fine(line, request)

    async with RawServer(switches) as server:
        client = connect(server.port, total_seconds=0.2)
        assert isinstance(await ask(client, "ping"), Reply | NoReply)
        assert is_fine(await ask(client, "ping"))


@pytest.mark.parametrize("size", [1024 * 1024, 5_000_000])
async def test_a_large_body_is_sent_completely(connect: Connect, size: int) -> None:
    """The HTTP client warns about large bodies as bytes; a warning is an error here."""
    payload = os.urandom(size)
    async with RawServer(fine) as server:
        client = connect(server.port)
        encoded = await client.encode(message(1, payload))
        assert is_fine(await client.post(encoded))
        assert is_fine(await client.post(encoded))
        assert server.asked[0].body == server.asked[1].body == encoded.data
        assert server.asked[0].headers["content-length"] == str(len(encoded.data))


async def test_requests_are_those_of_the_protocol(connect: Connect) -> None:
    async with RawServer(fine) as server:
        client = connect(server.port)
        for call in CALLS:
            await ask(client, call)
        assert [(request.method, request.target) for request in server.asked] == [
            ("GET", "/service/ping"),
            ("GET", "/service/versions"),
            ("GET", "/service/v3/lid%3a%2f%2facme.orders.1/acceptedDocuments"),
            ("POST", "/service/v3/multipartMessage"),
        ]
        for request in server.asked:
            assert request.headers["x-tenantid"] == TENANT
            assert request.headers["accept"] == "application/json"
            assert request.headers["accept-encoding"] == "identity"
            assert request.headers["user-agent"].startswith("ion-relay/")
            assert request.headers["authorization"].startswith("OAuth ")
            assert "cookie" not in request.headers
            assert "content-encoding" not in request.headers
            assert "transfer-encoding" not in request.headers


async def test_cookies_and_proxies_of_the_environment_are_not_used(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def sets(line: Line, _: ReceivedRequest) -> None:
        await line.reply("200 OK", b"", "Set-Cookie: session=1; Path=/")

    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    async with RawServer(sets) as server:
        client = connect(server.port)
        assert [await ask(client, "ping") for _ in range(2)] == [Reply(200)] * 2
        assert "cookie" not in server.asked[1].headers


# --- the end ---------------------------------------------------------------------------------------


async def test_nothing_is_left_after_cancelled_calls_and_a_close(connect: Connect) -> None:
    """Posts that are cancelled at a stop leave no connection, no task, and a usable client."""
    async with RawServer(silent) as server:
        before = asyncio.all_tasks()
        client = connect(server.port)
        encoded = await client.encode(message(1, os.urandom(2_000_000)))
        calls = [asyncio.create_task(client.post(encoded)) for _ in range(5)]
        calls += [asyncio.create_task(client.ping()) for _ in range(5)]
        await server.until(lambda: len(server.asked) == 10)
        for call in calls:
            call.cancel()
        ended = await asyncio.gather(*calls, return_exceptions=True)
        assert all(isinstance(end, asyncio.CancelledError) for end in ended)
        await server.until(lambda: not server.lines)
        await client.close()
        mine = {task for task in asyncio.all_tasks() - before if "_connected" not in repr(task)}
        assert not mine


async def test_close_ends_running_requests(connect: Connect) -> None:
    async with RawServer(silent) as server:
        client = connect(server.port)
        call = asyncio.create_task(client.ping())
        await server.until(lambda: len(server.asked) == 1)
        await client.close()
        assert isinstance(await call, NoReply)
        await server.until(lambda: not server.lines)


async def test_after_a_close_no_connection_is_left(connect: Connect) -> None:
    async with RawServer(fine) as server:
        client = connect(server.port)
        encoded = await client.encode(message(1))
        await asyncio.gather(*(client.post(encoded) for _ in range(10)))
        assert server.lines
        await client.close()
        await server.until(lambda: not server.lines)


# --- the rate limit --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limit", "burst", "period"), [(10, 10, 1.0), (2.5, 2, 0.8), (0.5, 1, 2.0), (1, 1, 1.0)]
)
def test_a_fractional_rate_limit_holds_on_average(limit: float, burst: int, period: float) -> None:
    throttler = transport._throttler(limit)
    assert throttler is not None
    assert (throttler.rate_limit, throttler.period) == (burst, period)
    assert transport._throttler(None) is None


async def test_every_request_of_the_tenant_passes_the_rate_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    passed = 0

    async def acquire(_: object) -> None:
        nonlocal passed
        passed += 1

    monkeypatch.setattr(Throttler, "acquire", acquire)
    async with Sandbox([sandbox_tenant()]) as sandbox:
        client = IonClient(connection(ionapi_source(sandbox, tmp_path), rate_limit=3))
        for call in CALLS:
            assert not isinstance(await ask(client, call), NoReply)
        await client.close()
        assert passed == len(sandbox.requests()) == 5


# --- secrets ---------------------------------------------------------------------------------------


async def test_a_server_that_echoes_secrets_brings_none_into_an_answer(
    connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(0)

    async def echoes(line: Line, request: ReceivedRequest) -> None:
        text = b"canary-secret " + request.headers["authorization"].encode() + b" canary-secret" * 100
        await line.reply("403 No", b'{"code": 403, "errors": "' + text.replace(b'"', b"'") + b'"}')

    async with RawServer(echoes) as server:
        client = connect(server.port)
        for call in CALLS:
            answer = await ask(client, call)
            assert isinstance(answer, Reply)
            assert answer.detail.startswith("*** OAuth ")
            assert "canary" not in describe(answer) + repr(answer)
        assert "canary" not in repr(client) + repr(vars(client))
        assert "canary" not in caplog.text


async def test_wrong_oauth1_keys_are_refused_by_ion_and_nothing_is_repeated() -> None:
    async with Sandbox([sandbox_tenant()]) as sandbox:
        source = OAuth1Source(str(oauth1_source(sandbox).consumer_key), Secret("wrong"))
        url = f"{sandbox.url}/api/ion/messaging/service"
        client = IonClient(connection(source, ion_url=url))
        for call in CALLS:
            answer = await ask(client, call)
            assert isinstance(answer, Reply)
            assert answer.status == 401
        await client.close()
        assert len(sandbox.requests()) == len(CALLS)


# --- a post that must no longer be sent -----------------------------------------------------------


@pytest.mark.parametrize("size", [20, 3 * 1024 * 1024])
async def test_a_post_that_may_no_longer_be_sent_sends_no_byte(size: int) -> None:
    """Checked at the last moment: a process that was frozen before it has lost the tenant meanwhile."""
    is_owner = True
    async with RawServer(fine) as server:
        source = OAuth1Source("key", Secret("canary-secret"))
        url = f"http://127.0.0.1:{server.port}/service"
        client = IonClient(connection(source, ion_url=url, deflate_from=2**30), lambda: is_owner)
        try:
            encoded = await client.encode(message(1, b"x" * size))
            assert await client.post(encoded) == Reply(200)
            is_owner = False
            answer = await client.post(encoded)
        finally:
            await client.close()
        assert isinstance(answer, NoReply)
        assert [request.method for request in server.asked] == ["POST"]
        assert len(server.asked[0].body) > size
