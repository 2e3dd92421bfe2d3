"""Certificates for a simulator that is reached by TLS: an own test CA, made by the `openssl` command.

They carry the extensions that Python 3.13 demands: key identifiers, and the key usage of the CA.
"""

import ssl
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Self

_DAYS = 90
_LEAST_SECONDS = 7 * 86_400
"""Certificates that expire sooner are made anew."""
_EXTENSIONS = """
[req]
distinguished_name = name
[name]
[ca]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[server]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
subjectAltName = IP:127.0.0.1, IP:::1, DNS:localhost
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
[client]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = clientAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
"""


@dataclass(frozen=True, slots=True)
class Certificates:
    """The files of a test CA, of a server on this machine, and of a client; all PEM."""

    directory: Path

    @classmethod
    def make(cls, directory: Path) -> Self:
        """Those an earlier run left in the directory, or new ones. OSError says what failed."""
        made = cls(directory)
        if made._are_valid():
            return made
        directory.mkdir(parents=True, exist_ok=True)
        directory.chmod(0o700)
        with tempfile.NamedTemporaryFile("w", suffix=".cnf") as extensions:
            extensions.write(_EXTENSIONS)
            extensions.flush()
            for name in ("ca", "server", "client"):
                made._issue(name, extensions.name)
        return made

    def file(self, name: str) -> Path:
        """A file by its name: `ca.crt`, `server.crt`, `server.key`, `client.crt`, `client.key`."""
        return self.directory / name

    def as_json(self) -> dict[str, str]:
        """The files that a client needs."""
        names = {"ca_file": "ca.crt", "client_cert_file": "client.crt", "client_key_file": "client.key"}
        return {name: str(self.file(file)) for name, file in names.items()}

    def _are_valid(self) -> bool:
        names = ("ca", "server", "client")
        return all(
            self.file(f"{name}.key").exists()
            and self.file(f"{name}.crt").exists()
            and _openssl("x509", "-in", self.file(f"{name}.crt"), "-noout", "-checkend", _LEAST_SECONDS)
            for name in names
        )

    def _issue(self, name: str, extensions: str) -> None:
        key, certificate = self.file(f"{name}.key"), self.file(f"{name}.crt")
        key.unlink(missing_ok=True)
        signer: list[object] = []
        if name != "ca":
            signer = ["-CA", self.file("ca.crt"), "-CAkey", self.file("ca.key")]
        elliptic = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", key]
        issued = _openssl(
            "req", "-x509", *elliptic, "-out", certificate, "-days", _DAYS, *signer,
            "-subj", f"/CN=relay sandbox {name}", "-config", extensions, "-extensions", name,
        )  # fmt: skip
        if not issued:
            raise OSError(f"openssl could not make {certificate}; it must be OpenSSL 3.0 or later")


def tls_context(certificates: Certificates | None, *, client_certificate: bool) -> ssl.SSLContext | None:
    """What the server needs. `client_certificate`: whether it demands one of the same CA."""
    if certificates is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.file("server.crt"), certificates.file("server.key"))
    if client_certificate:
        context.load_verify_locations(certificates.file("ca.crt"))
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _openssl(*arguments: object) -> bool:
    """Whether the command succeeded; it must be there."""
    command = ["openssl", *map(str, arguments)]
    try:
        return subprocess.run(command, capture_output=True, timeout=30, check=False).returncode == 0  # noqa: S603
    except FileNotFoundError as error:
        raise OSError("--tls needs the command openssl, which is not installed") from error
