"""Why there is no answer, in words for operators: no path, no header, nothing of a body."""

import errno
import os
import socket
import ssl

from relay.ion.connection_pool import Origin
from relay.ion.http_connection import ExchangeError, SilenceError
from relay.ion.wire import one_line
from relay.observability import open_files


def describe_error(error: Exception, origin: Origin) -> str:
    """What happened between the relay and this server."""
    match error:
        case SilenceError(seconds=seconds):
            return f"no answer from {origin} within {seconds:g} s"
        case ExchangeError(cause=None):
            return f"{origin} closed the connection without an answer"
        case ExchangeError(cause=cause):
            return one_line(f"the connection to {origin} broke{_reason(cause)}")
        case ssl.SSLCertVerificationError():
            reason = error.verify_message or error
            return one_line(f"the certificate of {origin} is not trusted: {reason}")
        case ssl.SSLError():
            return one_line(f"no TLS with {origin}: {error.reason or error}")
        case socket.gaierror():
            return one_line(f"cannot resolve {origin.host}")
        case ConnectionError() if origin.is_tls and error.errno is None:
            return f"no TLS with {origin}: it closed the connection"
        case OSError():
            return one_line(f"cannot connect to {origin}: {_error_text(error)}")
        case _:
            return one_line(f"the URL of {origin.host} cannot be used")


def _reason(cause: Exception | None) -> str:
    """Its own text may contain an address or more."""
    return f": {_error_text(cause)}" if isinstance(cause, OSError) and cause.errno else ""


def _error_text(error: OSError) -> str:
    """The system's text if there is one: the library's own repeats the address."""
    if open_files.is_exhausted(error):
        return open_files.described()
    known = error.errno is not None and error.errno in errno.errorcode
    return os.strerror(error.errno or 0) if known else error.strerror or str(error)
