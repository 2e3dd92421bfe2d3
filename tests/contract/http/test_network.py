"""The way to a server through a company's network: proxies, certificates, and what is said where it fails."""

import asyncio
import base64
import os
import shutil
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from yarl import URL

from relay.core.replies import NoReply
from relay.ion.connection_errors import describe_error
from relay.ion.http_connection import ExchangeError
from relay.ion.network import Network, NetworkAccess, Origin
from relay.ion.transport import HttpResponse, TimeLimits, Transport
from relay.sandbox.certificates import Certificates
from tests.support.raw import Line, RawServer, ReceivedRequest

ROOT = Path(__file__).resolve().parents[2]
LIMITS = TimeLimits(connect=5.0, silence=5.0, total=10.0, least_rate=1_000_000)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CA, a server's certificate for 127.0.0.1 and localhost, and a client's."""
    return Certificates.make(tmp_path_factory.mktemp("tls")).directory


def server_tls(files: Path, *, asks: bool = False) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(files / "server.crt", files / "server.key")
    if asks:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(files / "ca.crt")
    return context


async def fine(line: Line, _: ReceivedRequest) -> None:
    await line.reply("202 Accepted", b"ok")


async def post(
    port: int, network: Network, scheme: str = "https", host: str = "127.0.0.1"
) -> HttpResponse | NoReply:
    transport = Transport(LIMITS, network=network)
    try:
        return await transport.post(URL(f"{scheme}://{host}:{port}/x"), {}, 1000, b"hello")
    finally:
        await transport.close()


# --- certificates -------------------------------------------------------------------------------------------


async def test_a_companys_ca_is_trusted_beside_the_systems(files: Path) -> None:
    async with RawServer(fine, server_tls(files)) as server:
        refused = await post(server.port, Network())
        assert isinstance(refused, NoReply)
        assert "set CA_FILE" in refused.detail
        for host in ("127.0.0.1", "localhost"):
            assert isinstance(await post(server.port, Network(ca=files / "ca.crt"), host=host), HttpResponse)


async def test_a_changed_ca_file_counts_from_the_next_connection_on(files: Path, tmp_path: Path) -> None:
    ca = tmp_path / "ca.pem"
    ca.write_bytes(Certificates.make(tmp_path / "other").directory.joinpath("ca.crt").read_bytes())
    async with RawServer(fine, server_tls(files)) as server:
        transport = Transport(LIMITS, network=Network(ca=ca))
        url = URL(f"https://127.0.0.1:{server.port}/x")
        assert isinstance(await transport.post(url, {}, 1000, b"x"), NoReply)
        ca.write_bytes((files / "ca.crt").read_bytes())
        assert isinstance(await transport.post(url, {}, 1000, b"x"), HttpResponse)
        ca.unlink()
        assert isinstance(await transport.post(url, {}, 1000, b"x"), HttpResponse)  # on the same connection
        await transport.close()
        answer = await transport.post(url, {}, 1000, b"x")
        assert isinstance(answer, NoReply)
        assert answer.detail.startswith(f"{ca} cannot be read (No such file or directory)")
        await transport.close()


async def test_a_certificate_of_the_relay_is_shown_where_the_server_asks_for_it(files: Path) -> None:
    ca = files / "ca.crt"
    async with RawServer(fine, server_tls(files, asks=True)) as server:
        refused = await post(server.port, Network(ca=ca))
        assert isinstance(refused, NoReply)
        assert "CLIENT_CERT_FILE" in refused.detail
        assert "Operation not permitted" not in refused.detail
        own = Network(ca=ca, certificate=files / "client.crt", key=files / "client.key")
        assert isinstance(await post(server.port, own), HttpResponse)


def locked_key(files: Path, folder: Path) -> Path:
    """The client's key, with a password."""
    command = ["openssl", "pkey", "-in", str(files / "client.key"), "-aes256", "-passout", "pass:opensesame"]
    subprocess.run([*command, "-out", str(folder / "locked.key")], check=True, capture_output=True)
    return folder / "locked.key"


async def test_the_password_of_a_key_comes_from_a_file(files: Path, tmp_path: Path) -> None:
    locked, password = locked_key(files, tmp_path), tmp_path / "password"
    own = Network(ca=files / "ca.crt", certificate=files / "client.crt", key=locked, key_password=password)
    async with RawServer(fine, server_tls(files, asks=True)) as server:
        password.write_text("opensesame\n")
        assert isinstance(await post(server.port, own), HttpResponse)
        password.write_text("wrong")
        answer = await post(server.port, own)
        assert isinstance(answer, NoReply)
        assert "check the key, and the file of its password" in answer.detail


@pytest.mark.parametrize(
    ("code", "hint"),
    [
        (10, "have it renewed; or this machine's clock is wrong"),
        (20, "set CA_FILE to its issuer's certificate"),
        (62, "it is for another host: check the ION URL"),
        (64, "write the ION URL with the name in the certificate"),
        (85, "no authority key identifier, which Python 3.13 demands"),
    ],
)
def test_what_is_wrong_with_a_certificate_is_said_with_what_to_do(code: int, hint: str) -> None:
    error = ssl.SSLCertVerificationError(1, "x")
    error.verify_code, error.verify_message = code, "as OpenSSL says it"
    text = describe_error(error, Origin("ion.example", 443, is_tls=True))
    assert text.startswith("the certificate of ion.example:443 is not trusted: as OpenSSL says it; ")
    assert hint in text


async def test_a_certificate_for_another_name_is_refused(files: Path) -> None:
    async with RawServer(fine, server_tls(files)) as server:
        answer = await post(server.port, Network(ca=files / "ca.crt"), host="127.0.0.2")
        assert isinstance(answer, NoReply)
        assert "is not trusted" in answer.detail or "cannot connect" in answer.detail
        assert server.asked == []


async def test_a_server_without_tls_is_named_so(files: Path) -> None:
    async with RawServer(fine, greeting=b"HTTP/1.1 400 Plain HTTP\r\n\r\n") as server:
        answer = await post(server.port, Network(ca=files / "ca.crt"))
        assert isinstance(answer, NoReply)
        assert "it does not speak TLS on this port" in answer.detail


@pytest.mark.parametrize(
    ("reason", "hint"),
    [
        ("UNSUPPORTED_PROTOCOL", "it speaks only old versions of TLS"),
        ("TLSV1_ALERT_PROTOCOL_VERSION", "it speaks only old versions of TLS"),
        ("UNSAFE_LEGACY_RENEGOTIATION_DISABLED", "it needs legacy renegotiation"),
        ("TLSV1_ALERT_UNKNOWN_CA", "it does not know the issuer of CLIENT_CERT_FILE"),
        ("SOMETHING_ELSE", "no TLS with [::1]:443: SOMETHING_ELSE"),
    ],
)
def test_a_failure_of_tls_is_said_with_what_to_do(reason: str, hint: str) -> None:
    error = ssl.SSLError(1, "[SSL] text")
    error.reason = reason
    for met in (error, ExchangeError("broke", error)):
        text = describe_error(met, Origin("::1", 443, is_tls=True))
        assert hint in text
        assert text.startswith("no TLS with [::1]:443: ")


async def test_how_a_server_was_reached_is_known(files: Path) -> None:
    async with RawServer(fine, server_tls(files)) as server:
        transport = Transport(LIMITS, network=Network(ca=files / "ca.crt"))
        await transport.post(URL(f"https://127.0.0.1:{server.port}/x"), {}, 1000, b"x")
        (way,) = transport.ways()
        await transport.close()
        port = server.port
    assert (way.server, way.proxy, way.tls) == (f"127.0.0.1:{port}", None, "TLSv1.3")
    assert way.issuer
    assert way.expires is not None
    assert next(way.words()) == f"127.0.0.1:{port} directly"


# --- proxies ------------------------------------------------------------------------------------------------


class ScriptedProxy:
    """An HTTP proxy that knows CONNECT. `asked`: the heads of its requests; `password`: what it wants, if any."""

    def __init__(
        self, password: str | None = None, tls: ssl.SSLContext | None = None, says: bytes = b""
    ) -> None:
        self._password, self._tls, self._says = password, tls, says
        self.asked: list[str] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> "ScriptedProxy":  # noqa: PYI034
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._tunnel(reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort()

    async def _tunnel(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        self.asked.append(head)
        wanted = (
            "" if self._password is None else f"Basic {base64.b64encode(self._password.encode()).decode()}"
        )
        if self._says or wanted not in head:
            writer.write(
                self._says or b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 3\r\n\r\nno!"
            )
            await writer.drain()
            await reader.read()
            return
        host, _, port = head.split()[1].rpartition(":")
        far_reader, far_writer = await asyncio.open_connection(host, int(port))
        writer.write(b"HTTP/1.1 200 Connection established\r\nVia: 1.1 test\r\n\r\n")
        await asyncio.gather(_copy(reader, far_writer), _copy(far_reader, writer))


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    finally:
        writer.close()


@pytest.fixture
async def ion(files: Path) -> AsyncIterator[RawServer]:
    async with RawServer(fine, server_tls(files)) as server:
        yield server


TINYPROXY = shutil.which("tinyproxy", path=f"{os.environ.get('PATH', '')}:{ROOT}/.venv/tinyproxy/usr/bin")


async def listening(port: int) -> None:
    """Wait until something listens there."""
    async with asyncio.timeout(10):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.02)
            else:
                writer.close()
                return


async def test_a_real_proxy_opens_the_way_with_the_right_password_only(
    files: Path, ion: RawServer, tmp_path: Path
) -> None:
    if TINYPROXY is None:
        pytest.skip("no proxy is here, and no apt-get that brings it; install tinyproxy")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    (tmp_path / "proxy.conf").write_text(
        f"Port {port}\nListen 127.0.0.1\nAllow 127.0.0.1\nBasicAuth user s3cret\nMaxClients 10\n"
    )
    credentials = tmp_path / "credentials"
    network = Network(f"http://127.0.0.1:{port}", credentials, files / "ca.crt")
    process = await asyncio.create_subprocess_exec(
        TINYPROXY, "-d", "-c", str(tmp_path / "proxy.conf"), stdout=-3
    )
    try:
        await listening(port)
        credentials.write_text("user:s3cret")
        assert isinstance(await post(ion.port, network), HttpResponse)
        credentials.write_text("user:wrong")
        refused = await post(ion.port, network)
        assert isinstance(refused, NoReply)
        assert refused.detail.startswith(
            f"the proxy 127.0.0.1:{port} refuses the way to 127.0.0.1:{ion.port}: HTTP 4"
        )
        assert len(ion.asked) == 1
    finally:
        process.kill()
        await process.wait()


async def test_a_tunnel_leads_to_the_server_itself(files: Path, ion: RawServer, tmp_path: Path) -> None:
    credentials = tmp_path / "credentials"
    credentials.write_text("user:s3cret\n")
    async with ScriptedProxy("user:s3cret") as proxy:
        network = Network(f"http://127.0.0.1:{proxy.port}", credentials, files / "ca.crt")
        assert isinstance(await post(ion.port, network), HttpResponse)
        assert [head.split("\r\n")[:2] for head in proxy.asked] == [
            [f"CONNECT 127.0.0.1:{ion.port} HTTP/1.1", f"Host: 127.0.0.1:{ion.port}"]
        ]
        assert "Proxy-Authorization" not in str(ion.asked[0].headers)
        assert ion.asked[0].headers["host"] == f"127.0.0.1:{ion.port}"


async def test_a_proxy_may_be_reached_by_tls(files: Path, ion: RawServer) -> None:
    async with ScriptedProxy(tls=server_tls(files)) as proxy:
        network = Network(f"https://localhost:{proxy.port}", ca=files / "ca.crt")
        assert isinstance(await post(ion.port, network), HttpResponse)


async def test_wrong_credentials_are_the_proxys_fault_and_not_shown(
    files: Path, ion: RawServer, tmp_path: Path
) -> None:
    credentials = tmp_path / "credentials"
    credentials.write_text("user:wr0ng")
    async with ScriptedProxy("user:s3cret") as proxy:
        answer = await post(
            ion.port, Network(f"http://127.0.0.1:{proxy.port}", credentials, files / "ca.crt")
        )
        assert answer == NoReply(
            f"the proxy 127.0.0.1:{proxy.port} refuses the way to 127.0.0.1:{ion.port}: HTTP 407; "
            "check PROXY_CREDENTIALS_FILE"
        )
        assert ion.asked == []


@pytest.mark.parametrize(
    ("says", "what"),
    [
        (b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", "refuses the way to"),
        (b"SSH-2.0-x\r\n", "does not answer CONNECT; is it an HTTP proxy?"),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
            "answers CONNECT with a page, and not with a tunnel",
        ),
    ],
)
async def test_a_proxy_that_opens_no_tunnel_is_named(
    files: Path, ion: RawServer, says: bytes, what: str
) -> None:
    async with ScriptedProxy(says=says) as proxy:
        answer = await post(ion.port, Network(f"http://127.0.0.1:{proxy.port}", ca=files / "ca.crt"))
        assert isinstance(answer, NoReply)
        assert answer.detail.startswith(f"the proxy 127.0.0.1:{proxy.port} ")
        assert what in answer.detail


async def test_a_proxy_that_cannot_be_reached_is_named() -> None:
    async with ScriptedProxy() as proxy:
        port = proxy.port
    answer = await post(1, Network(f"http://127.0.0.1:{port}"))
    assert answer == NoReply(f"no connection to the proxy 127.0.0.1:{port}: Connection refused")


async def test_the_environment_names_the_proxy_but_for_this_machine_and_what_it_excludes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://user:pass@proxy.example:8080")
    monkeypatch.setenv("NO_PROXY", "internal.example")
    access = NetworkAccess(Network())
    proxy = access.proxy_for(Origin("ion.example", 443, is_tls=True))
    assert proxy is not None
    assert str(proxy.origin) == "proxy.example:8080"
    assert proxy.authorization == f"Basic {base64.b64encode(b'user:pass').decode()}"
    for host in ("127.0.0.1", "localhost", "::1", "ion.internal.example"):
        assert access.proxy_for(Origin(host, 443, is_tls=True)) is None
    assert NetworkAccess(Network("off")).proxy_for(Origin("ion.example", 443, is_tls=True)) is None
    monkeypatch.setenv("HTTPS_PROXY", "socks5://proxy.example")
    answer = await post(443, Network(), host="ion.example")
    assert answer == NoReply(
        "the proxy has another scheme than http and https; write http://HOST:PORT, or https://HOST:PORT, "
        "of a proxy that knows CONNECT"
    )


async def test_a_proxy_that_says_nothing_is_named(files: Path, ion: RawServer) -> None:
    async with RawServer(fine, mute=True) as proxy:
        transport = Transport(
            TimeLimits(connect=0.2, silence=5.0, total=10.0, least_rate=1_000_000),
            network=Network(f"http://127.0.0.1:{proxy.port}", ca=files / "ca.crt"),
        )
        answer = await transport.post(URL(f"https://127.0.0.1:{ion.port}/x"), {}, 1000, b"hello")
        assert answer == NoReply(
            f"no connection to 127.0.0.1:{ion.port} by the proxy 127.0.0.1:{proxy.port} within 0.2 s"
        )
        await proxy.until(lambda: not proxy.lines)
        await transport.close()


async def test_the_dot_that_ends_a_complete_name_is_not_in_its_certificate(
    files: Path, ion: RawServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()
    real = loop.getaddrinfo

    async def resolved(host: str, port: int, **options: int) -> list[object]:
        return list(await real(host.removesuffix("."), port, **options))

    monkeypatch.setattr(loop, "getaddrinfo", resolved)
    network = Network(ca=files / "ca.crt")
    assert isinstance(await post(ion.port, network, host="localhost."), HttpResponse)
    assert ion.asked[0].headers["host"] == f"localhost:{ion.port}"
