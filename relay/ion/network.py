"""How a server is reached through a company's network: which proxy, whom to trust, who the relay is.

TLS is always verified. Files are read again when they have changed.
"""

import base64
import ssl
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from typing_extensions import override
from yarl import URL

from relay.ion.credentials import Fingerprint, fingerprint
from relay.observability.regular_file import read_regular, read_regular_text

ENVIRONMENT, OFF = "env", "off"
"""For `proxy`: as HTTPS_PROXY and NO_PROXY say, or never."""
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_PROXY_HINT = "write http://HOST:PORT, or https://HOST:PORT, of a proxy that knows CONNECT"
_PORTS = {"http": 3128, "https": 443}
_PEM = b"-----BEGIN "
_PEM_HINT = "write it in PEM (of a DER file: openssl x509 -inform der -in FILE -out FILE.pem)"
CERTIFICATE_HINT = "; perhaps it asks for a certificate of the relay: set CLIENT_CERT_FILE"
_READ_HINT = "correct the path, or make it readable for the relay"


class NetworkError(Exception):
    """What the settings say cannot be done: with which file (None: the proxy), what is wrong, and the fix."""

    def __init__(self, path: Path | None, what: str, hint: str) -> None:
        super().__init__(f"{'the proxy' if path is None else path} {what}; {hint}")
        self.path, self.what, self.hint = path, what, hint


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a server listens."""

    host: str
    port: int
    is_tls: bool

    @classmethod
    def of(cls, url: URL) -> Self:
        """The server of an http or https URL. Raises ValueError where it has none."""
        if url.host is None or url.port is None:
            raise ValueError("the URL names no server")
        return cls(url.host, url.port, url.scheme == "https")

    @property
    def tls_name(self) -> str:
        """As certificates have it: without the dot that ends a complete name."""
        return self.host.rstrip(".")

    @override
    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Network:
    """What the settings say. `proxy`: `env`, `off`, or a URL without credentials.

    `proxy_credentials`: a file with `USER:PASSWORD`. `ca`: certificates to trust beside the system's.
    `certificate`, `key`, `key_password`: of the relay itself, where servers ask for it.
    """

    proxy: str = ENVIRONMENT
    proxy_credentials: Path | None = None
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    key_password: Path | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        """The files of TLS, whose changes count from the next connection on."""
        return tuple(
            one for one in (self.ca, self.certificate, self.key, self.key_password) if one is not None
        )


@dataclass(frozen=True, slots=True)
class Proxy:
    """An HTTP proxy that opens tunnels. `authorization`: the value of Proxy-Authorization, if needed."""

    origin: Origin
    authorization: str | None = None


class NetworkAccess:
    """The TLS context and the proxy for each connection, from files as they are now."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._context: ssl.SSLContext | None = None
        self._read: Fingerprint = ()

    @property
    def hint_at_first_loss(self) -> str:
        """Where a server ends a new connection with TLS 1.3 at the first request: it refuses the client."""
        return "" if self._network.certificate is not None else CERTIFICATE_HINT

    def context(self) -> ssl.SSLContext:
        """For a new connection. Raises NetworkError where a file cannot be used."""
        now = fingerprint(self._network.files)
        if self._context is None or now != self._read:
            self._context, self._read = make_context(self._network), now
        return self._context

    def proxy_for(self, origin: Origin) -> Proxy | None:
        """The proxy on the way to this server. Raises NetworkError where it cannot be used."""
        text = self._network.proxy
        if text == OFF:
            return None
        if text == ENVIRONMENT:
            text = _of_environment(origin)
            if not text:
                return None
        return _proxy(text, self._network.proxy_credentials)


def make_context(network: Network) -> ssl.SSLContext:
    """Raises NetworkError, which names the file and what is wrong with it."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    if network.ca is not None:
        require_pem(network.ca)
        try:
            context.load_verify_locations(cafile=network.ca)
        except (OSError, ssl.SSLError) as error:
            raise NetworkError(network.ca, f"cannot be used ({_reason(error)})", _PEM_HINT) from None
    if network.certificate is None and network.key is not None:
        raise NetworkError(network.key, "has no certificate beside it", "set CLIENT_CERT_FILE, too")
    if network.certificate is not None:
        _load_own(context, network.certificate, network)
    return context


def _load_own(context: ssl.SSLContext, certificate: Path, network: Network) -> None:
    for path in (certificate, network.key):
        if path is not None:
            require_pem(path)
    password = "" if network.key_password is None else _text(network.key_password)
    try:
        context.load_cert_chain(certificate, network.key, lambda: password)
    except ssl.SSLError as error:
        names = {"KEY_VALUES_MISMATCH": "does not belong to its key"}
        what = names.get(error.reason or "", f"cannot be used with its key ({_reason(error)})")
        raise NetworkError(certificate, what, "check the key, and the file of its password") from None
    except OSError as error:
        raise NetworkError(certificate, f"cannot be used ({_reason(error)})", _PEM_HINT) from None


def require_pem(path: Path) -> None:
    """Raises NetworkError where it cannot be read, is empty, or is not in PEM."""
    try:
        content = read_regular(path)
    except OSError as error:
        raise NetworkError(path, f"cannot be read ({_reason(error)})", _READ_HINT) from None
    if _PEM not in content:
        what = "is not in PEM" if content.strip() else "is empty"
        raise NetworkError(path, what, _PEM_HINT)


def _text(path: Path) -> str:
    try:
        return read_regular_text(path).strip()
    except (OSError, UnicodeDecodeError) as error:
        raise NetworkError(path, f"cannot be read ({_reason(error)})", _READ_HINT) from None


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return error.reason or "no certificate in it"
    return (error.strerror or type(error).__name__) if isinstance(error, OSError) else "it is not UTF-8"


# --- proxies ------------------------------------------------------------------------------------------------


def _of_environment(origin: Origin) -> str:
    """HTTPS_PROXY, unless NO_PROXY names the server; this machine is never reached by a proxy."""
    if origin.host in LOOPBACK or not origin.is_tls:
        return ""
    proxies = urllib.request.getproxies()
    if urllib.request.proxy_bypass(f"{origin.host}:{origin.port}"):
        return ""
    return str(proxies.get("https") or proxies.get("all") or "")


def _proxy(text: str, credentials: Path | None) -> Proxy:
    problem = proxy_problem(text)
    if problem is not None:
        raise NetworkError(None, problem, _PROXY_HINT)
    url = URL(text if "://" in text else f"http://{text}")
    origin = Origin(url.host or "", url.explicit_port or _PORTS[url.scheme], url.scheme == "https")
    pair = _text(credentials) if credentials is not None else f"{url.user or ''}:{url.password or ''}"
    if pair == ":":
        return Proxy(origin)
    return Proxy(origin, f"Basic {base64.b64encode(pair.encode()).decode('ascii')}")


def proxy_problem(text: str) -> str | None:
    """What is wrong with a proxy's URL; None: nothing. It is not repeated: there may be a password in it."""
    try:
        url = URL(text if "://" in text else f"http://{text}")
        host = url.host
    except ValueError:
        return "is not a URL"
    if url.scheme not in _PORTS:
        return "has another scheme than http and https"
    return None if host and host.isascii() else "names no host"


# --- what a connection was like -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Way:
    """How a server was reached. `tls`: its version. `expires`: of the server's certificate, POSIX time."""

    server: str
    proxy: str | None = None
    tls: str | None = None
    issuer: str = ""
    expires: float | None = None

    def words(self) -> Iterator[str]:
        """The parts of a line for operators."""
        yield f"{self.server} {'directly' if self.proxy is None else f'by the proxy {self.proxy}'}"
        if self.tls is not None:
            yield self.tls
        if self.issuer:
            yield f"certificate issued by {self.issuer}"


def way_of(origin: Origin, proxy: Proxy | None, session: ssl.SSLObject | None) -> Way:
    """From an open connection."""
    by = None if proxy is None else str(proxy.origin)
    if session is None:
        return Way(str(origin), by)
    certificate = session.getpeercert() or {}
    ends = certificate.get("notAfter")
    expires = float(ssl.cert_time_to_seconds(ends)) if isinstance(ends, str) else None
    return Way(str(origin), by, session.version(), _issuer(certificate.get("issuer")), expires)


def _issuer(names: object) -> str:
    """The organisation, or else the common name."""
    pairs = {}
    for group in names if isinstance(names, tuple) else ():
        for name, value in group:
            pairs[name] = str(value)
    text = pairs.get("organizationName") or pairs.get("commonName") or ""
    return "".join(letter for letter in text if letter.isprintable())[:80]
