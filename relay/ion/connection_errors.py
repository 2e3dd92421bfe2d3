"""Why there is no answer, in words for operators: no path, no header, nothing of a body."""

import errno
import os
import socket
import ssl

from relay.ion.http_connection import ExchangeError, SilenceError
from relay.ion.network import Origin
from relay.ion.wire import one_line
from relay.observability import open_files


def describe_error(error: Exception, origin: Origin) -> str:
    """What happened between the relay and this server."""
    match error:
        case SilenceError(seconds=seconds):
            return f"no answer from {origin} within {seconds:g} s"
        case ExchangeError(cause=ssl.SSLError() as cause):
            return _tls_error(cause, origin)
        case ExchangeError(cause=None):
            return f"{origin} closed the connection without an answer"
        case ExchangeError(cause=cause):
            return one_line(f"the connection to {origin} broke{_reason(cause)}")
        case ssl.SSLError():
            return _tls_error(error, origin)
        case socket.gaierror():
            return one_line(f"cannot resolve {origin.host}")
        case ConnectionError() if origin.is_tls and error.errno is None:
            return f"no TLS with {origin}: it closed the connection"
        case OSError():
            return one_line(f"cannot connect to {origin}: {_error_text(error)}")
        case _:
            return one_line(f"the URL of {origin.host} cannot be used")


_UNKNOWN_ISSUER = "set CA_FILE to its issuer's certificate, or add that to the system's"
_CERTIFICATE_HINTS = {
    10: "have it renewed; or this machine's clock is wrong",
    9: "this machine's clock is wrong, or it is not valid yet",
    18: _UNKNOWN_ISSUER,
    19: _UNKNOWN_ISSUER,
    20: _UNKNOWN_ISSUER,
    21: _UNKNOWN_ISSUER,
    62: "it is for another host: check the ION URL",
    64: "it is for another address: write the ION URL with the name in the certificate",
    85: "it has no authority key identifier, which Python 3.13 demands: have it issued anew",
    86: "it has no subject key identifier, which Python 3.13 demands: have it issued anew",
}
"""By OpenSSL's code of the verification."""

_NO_CERTIFICATE = "it asks for a certificate of the relay: set CLIENT_CERT_FILE and CLIENT_KEY_FILE"
_OLD_PROTOCOL = "it speaks only old versions of TLS: 1.2 or later is needed"
_TLS_HINTS = {
    "WRONG_VERSION_NUMBER": "it does not speak TLS on this port: check scheme and port of the URL",
    "HTTP_REQUEST": "it does not speak TLS on this port: check scheme and port of the URL",
    "UNSUPPORTED_PROTOCOL": _OLD_PROTOCOL,
    "TLSV1_ALERT_PROTOCOL_VERSION": _OLD_PROTOCOL,
    "UNSAFE_LEGACY_RENEGOTIATION_DISABLED": "it needs legacy renegotiation, which is unsafe: have it updated",
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": _NO_CERTIFICATE,
    "SSLV3_ALERT_HANDSHAKE_FAILURE": f"no version or cipher in common; perhaps {_NO_CERTIFICATE}",
    "SSLV3_ALERT_BAD_CERTIFICATE": "it refuses the certificate of the relay: check CLIENT_CERT_FILE",
    "TLSV1_ALERT_UNKNOWN_CA": "it does not know the issuer of CLIENT_CERT_FILE",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "the certificate of the relay has expired: renew CLIENT_CERT_FILE",
}
"""By OpenSSL's name of the reason."""


def _tls_error(error: ssl.SSLError, origin: Origin) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        hint = _CERTIFICATE_HINTS.get(getattr(error, "verify_code", 0), "")
        reason = str(getattr(error, "verify_message", "") or error) + (f"; {hint}" if hint else "")
        return one_line(f"the certificate of {origin} is not trusted: {reason}")
    reason = getattr(error, "reason", None) or "the handshake failed"
    hint = _TLS_HINTS.get(reason, "")
    return one_line(f"no TLS with {origin}: {reason}" + (f"; {hint}" if hint else ""))


def _reason(cause: Exception | None) -> str:
    """Its own text may contain an address or more."""
    return f": {_error_text(cause)}" if isinstance(cause, OSError) and cause.errno else ""


def _error_text(error: OSError) -> str:
    """The system's text if there is one: the library's own repeats the address."""
    if open_files.is_exhausted(error):
        return open_files.described()
    known = error.errno is not None and error.errno in errno.errorcode
    return os.strerror(error.errno or 0) if known else error.strerror or str(error)
