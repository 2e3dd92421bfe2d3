"""The simulator by TLS: an own CA, and client certificates."""

import json
import ssl
import subprocess
import sys
from pathlib import Path

import aiohttp
import pytest
from typer.testing import CliRunner

from relay.cli.sandbox import sandbox_app
from relay.sandbox import Sandbox, SandboxTenant
from relay.sandbox.certificates import Certificates, tls_context


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates.make(tmp_path_factory.mktemp("tls"))


def _client_context(certificates: Certificates) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(certificates.file("ca.crt")))
    context.verify_flags |= ssl.VERIFY_X509_STRICT  # Python 3.13's default
    return context


async def _get(sandbox: Sandbox, context: ssl.SSLContext) -> int:
    async with aiohttp.ClientSession() as session, session.get(f"{sandbox.url}/_sandbox", ssl=context) as got:
        return got.status


async def test_a_client_that_trusts_the_ca_gets_through_and_another_does_not(
    certificates: Certificates,
) -> None:
    tls = tls_context(certificates, client_certificate=False)
    async with Sandbox([SandboxTenant("ACME_PRD")], tls=tls) as sandbox:
        assert sandbox.url.startswith("https://")
        assert await _get(sandbox, _client_context(certificates)) == 200
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await _get(sandbox, ssl.create_default_context())


async def test_a_client_certificate_can_be_demanded(certificates: Certificates) -> None:
    tls = tls_context(certificates, client_certificate=True)
    async with Sandbox([SandboxTenant("ACME_PRD")], tls=tls) as sandbox:
        context = _client_context(certificates)
        with pytest.raises(aiohttp.ClientError):
            await _get(sandbox, context)
        context.load_cert_chain(certificates.file("client.crt"), certificates.file("client.key"))
        assert await _get(sandbox, context) == 200


def test_certificates_of_an_earlier_run_are_used_again(tmp_path: Path) -> None:
    first = Certificates.make(tmp_path).file("server.crt").read_bytes()
    assert Certificates.make(tmp_path).file("server.crt").read_bytes() == first
    (tmp_path / "client.key").unlink()
    assert Certificates.make(tmp_path).file("server.crt").read_bytes() != first
    assert {file.stat().st_mode & 0o077 for file in tmp_path.glob("*.key")} == {0}


def test_without_openssl_the_error_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(OSError, match="needs the command openssl"):
        Certificates.make(tmp_path / "tls")


def test_the_command_serves_by_tls_and_names_the_files(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "relay", "sandbox", "--port", "0", "--tls", "--json"]
    process = subprocess.Popen([*command, "--directory", str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        printed = json.loads(process.stdout.readline())
        assert printed["url"].startswith("https://")
        assert all(Path(file).exists() for file in printed["certificates"].values())
        file = json.loads(Path(printed["environment"]["RELAY_TENANTS__ACME_PRD__IONAPI_FILE"]).read_text())
        assert file["iu"] == printed["url"]
    finally:
        process.kill()
        process.stdout.close()
        process.wait()


def test_a_client_certificate_needs_tls() -> None:
    refused = CliRunner().invoke(sandbox_app, ["--port", "0", "--client-certificate"])
    assert (refused.exit_code, "needs --tls" in refused.stderr) == (2, True)
