"""HTTP transport: one request, and its response or the reason why there is none.

The only module that imports the HTTP client. Whatever the server or the network does becomes a value. Every
request is bounded in time by the client's own time-outs (cancelling requests from outside leaves connections
behind in some clients), and in bytes by how much of a response is read.
"""

import errno
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any, Literal

import aiohttp
from aiohttp.abc import AbstractStreamWriter
from asyncio_throttle.throttler import Throttler
from yarl import URL

from relay.core.replies import NoReply
from relay.ion.connections import Connections
from relay.ion.wire import one_line
from relay.observability import open_files

_KEEP_ALIVE_SECONDS = 15.0
"""For idle connections: shorter than servers use, so that a post rarely meets a closed one."""

_CHUNKED_FROM = 1024 * 1024
"""Bytes of body from which the client writes it in chunks, so that a large one does not block the loop."""

Headers = Callable[[], Mapping[str, str]]
"""Made anew for each request: a signature is valid once."""


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """An HTTP response. `is_complete`: the body was not longer than the limit for reading it."""

    status: int
    body: bytes = field(repr=False)
    is_complete: bool
    retry_after: str | None = None
    location: str | None = None
    content_type: str | None = None


class Transport:
    """One session, opened by the first request. It may be used again after `close`.

    TLS certificates are always verified; redirects, cookies, the proxies of the environment and content
    encodings are ignored.
    """

    def __init__(
        self,
        connect: float,
        read: float,
        total: float,
        rate_limit: float | None = None,
        may_send: Callable[[], bool] | None = None,
        connections: Connections | None = None,
    ) -> None:
        """Time-outs in seconds: `connect` for a connection, `read` for the next bytes, `total` for all of it.

        `may_send` is called when the first byte of a post is about to be written: a process that was frozen
        between its decision to post and this moment must not post any more. `connections`: of the process,
        where they are limited.
        """
        self._may_send, self._connections = may_send, connections
        read_timeout = read if read < total else None  # otherwise the total time-out covers it
        self._total = total
        self._timeout = aiohttp.ClientTimeout(total, connect, read_timeout, connect)
        self._throttler = _throttler(rate_limit)
        self._session: aiohttp.ClientSession | None = None
        self._connector: _Connector | None = None

    async def get(self, url: URL, headers: Headers, limit: int) -> HttpResponse | NoReply:
        """GET; repeated once, at once, if a kept-alive connection broke: that is not a failure of ION yet.

        aiohttp would repeat it too, but with the same headers and also on a new connection: ION would refuse
        the nonce that it has seen, and an outage would get two requests each time.
        """
        began = time.monotonic()
        connector = self._connector
        made = connector.made if connector is not None else 0
        result = await self._request("GET", url, headers(), limit, self._timeout)
        if not isinstance(result, _ConnectionLost):
            return result
        if connector is not None and connector is self._connector and connector.made == made:
            remaining = self._timeout_of(max(0.001, self._total - (time.monotonic() - began)))
            result = await self._request("GET", url, headers(), limit, remaining)
        return NoReply(result.detail) if isinstance(result, _ConnectionLost) else result

    async def post(
        self, url: URL, headers: Mapping[str, str], limit: int, data: bytes, total: float | None = None
    ) -> HttpResponse | NoReply:
        """POST, never repeated. `total`: its own time-out in seconds."""
        timeout = self._timeout if total is None else self._timeout_of(total)
        result = await self._request("POST", url, headers, limit, timeout, data)
        return NoReply(result.detail) if isinstance(result, _ConnectionLost) else result

    async def close(self) -> None:
        """Close all connections; running requests end without a reply."""
        session, self._session, self._connector = self._session, None, None
        if session is not None:
            await session.close()

    async def _request(
        self,
        method: Literal["GET", "POST"],
        url: URL,
        headers: Mapping[str, str],
        limit: int,
        timeouts: aiohttp.ClientTimeout,
        data: bytes | None = None,
    ) -> "HttpResponse | NoReply | _ConnectionLost":
        if self._throttler is not None:
            await self._throttler.acquire()  # type: ignore[no-untyped-call]
        if self._connections is None:
            return await self._exchange(method, url, headers, limit, timeouts, data)
        async with self._connections.request():
            return await self._exchange(method, url, headers, limit, timeouts, data)

    async def _exchange(
        self,
        method: Literal["GET", "POST"],
        url: URL,
        headers: Mapping[str, str],
        limit: int,
        timeouts: aiohttp.ClientTimeout,
        data: bytes | None,
    ) -> "HttpResponse | NoReply | _ConnectionLost":
        session = self._session or self._open_session()
        content = None if data is None else self._payload(data)
        try:
            async with session.request(
                method,
                url,
                headers=headers,
                data=content,
                timeout=timeouts,
                allow_redirects=False,
                middlewares=_NO_RETRY if method == "GET" else (),
            ) as response:
                return await _read_response(response, limit)
        except _ConnectionLostError as error:
            return _ConnectionLost(_describe_error(error.cause, url, timeouts))
        except (aiohttp.ClientError, OSError, UnicodeError) as error:  # a time-out is an OSError
            return NoReply(_describe_error(error, url, timeouts))

    def _payload(self, data: bytes) -> bytes | BytesIO | aiohttp.Payload:
        if self._may_send is not None:
            return _guarded(data, self._may_send)
        return BytesIO(data) if len(data) > _CHUNKED_FROM else data

    def _timeout_of(self, total: float) -> aiohttp.ClientTimeout:
        usual = self._timeout
        return aiohttp.ClientTimeout(total, usual.connect, usual.sock_read, usual.sock_connect)

    def _open_session(self) -> aiohttp.ClientSession:
        self._connector = _Connector(limit=0, keepalive_timeout=_KEEP_ALIVE_SECONDS)
        if self._connections is not None:
            self._connector.connections = self._connections
            self._connections.add(self._connector)
        self._session = aiohttp.ClientSession(
            connector=self._connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
        )
        return self._session


# --- a connection that broke before the first byte of a response --------------------------------------


@dataclass(frozen=True, slots=True)
class _ConnectionLost:
    detail: str


class _ConnectionLostError(aiohttp.ClientError):
    """Not one of the errors after which the client repeats a request."""

    def __init__(self, cause: aiohttp.ClientError) -> None:
        super().__init__(str(cause))
        self.cause = cause


async def _no_retry(
    request: aiohttp.ClientRequest, send: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    try:
        return await send(request)
    except aiohttp.ClientConnectorError:
        raise
    except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
        raise _ConnectionLostError(error) from error


_NO_RETRY = (_no_retry,)


class _Connector(aiohttp.TCPConnector):
    """Counts the connections it makes: a request during which none was made used a kept-alive one."""

    made = 0
    connections: Connections | None = None

    async def _create_connection(self, *args: Any, **kwargs: Any) -> Any:
        self.made += 1
        if self.connections is not None:
            await self.connections.make_room()
        return await super()._create_connection(*args, **kwargs)

    def idle(self) -> int:
        return sum(map(len, self._conns.values()))

    def close_idle(self) -> None:
        """The one that has been idle for the longest; at once, as TLS would wait for its server."""
        kept = min((kept for kept in self._conns.values() if kept), key=lambda kept: kept[0][1])
        transport = kept.popleft()[0].transport
        if transport is not None:
            transport.abort()


# --- a post that must no longer be sent ---------------------------------------------------------------


class _Guarded(aiohttp.Payload):
    """Calls `may_send` before its first byte; headers are sent with the body, so nothing was sent before."""

    may_send: Callable[[], bool]

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        if not self.may_send():
            raise OSError("not sent: this relay does not own the tenant any more")
        await super().write_with_length(writer, content_length)


class _GuardedBytes(_Guarded, aiohttp.BytesPayload):
    """A body that is written at once."""


class _GuardedLarge(_Guarded, aiohttp.BytesIOPayload):
    """A body that is written in chunks."""


def _guarded(data: bytes, may_send: Callable[[], bool]) -> _Guarded:
    payload = _GuardedLarge(BytesIO(data)) if len(data) > _CHUNKED_FROM else _GuardedBytes(data)
    payload.may_send = may_send
    return payload


# --- helpers -------------------------------------------------------------------------------------------


def _throttler(rate_limit: float | None) -> Throttler | None:
    """Delays requests to the limit, which holds on average also if it is not an integer."""
    if rate_limit is None:
        return None
    burst = max(1, int(rate_limit))
    return Throttler(rate_limit=burst, period=burst / rate_limit)


async def _read_response(response: aiohttp.ClientResponse, limit: int) -> HttpResponse:
    """Read at most `limit` bytes of the body; the client closes a connection whose response was not read."""
    length = response.content_length
    if length is not None and length <= limit:
        body, is_complete = await response.content.read(), True
    else:
        body = await _read_at_most(response.content, limit + 1)
        is_complete = len(body) <= limit
    retry_after, location, content_type = map(
        response.headers.get, ("Retry-After", "Location", "Content-Type")
    )
    return HttpResponse(response.status, body[:limit], is_complete, retry_after, location, content_type)


async def _read_at_most(content: aiohttp.StreamReader, limit: int) -> bytes:
    chunks: list[bytes] = []
    while limit > 0 and (chunk := await content.read(limit)):
        chunks.append(chunk)
        limit -= len(chunk)
    return b"".join(chunks)


def _describe_error(error: Exception, url: URL, timeouts: aiohttp.ClientTimeout) -> str:
    """Why there is no reply, for operators: no path, no header, nothing of a body."""
    server = f"{url.host}:{url.port}"
    match error:
        case aiohttp.ConnectionTimeoutError():
            return f"no connection to {server} within {timeouts.connect:g} s"
        case aiohttp.SocketTimeoutError():
            return f"no answer from {server} within {timeouts.sock_read:g} s"
        case TimeoutError():
            return f"no answer from {server} within {timeouts.total:g} s"
        case aiohttp.ClientConnectorCertificateError(certificate_error=cause):
            reason = getattr(cause, "verify_message", None) or cause
            return one_line(f"the certificate of {server} is not trusted: {reason}")
        case aiohttp.ClientConnectorDNSError():
            return one_line(f"cannot resolve {url.host}")
        case aiohttp.ClientConnectorSSLError(os_error=cause):
            return one_line(f"no TLS with {server}: {getattr(cause, 'reason', None) or cause}")
        case aiohttp.ClientConnectorError(os_error=cause):
            return one_line(f"cannot connect to {server}: {_error_text(cause)}")
        case aiohttp.ServerDisconnectedError():
            return f"{server} closed the connection without an answer"
        case aiohttp.ClientPayloadError():
            return f"the answer of {server} was cut"
        case aiohttp.ClientResponseError():
            return f"the answer of {server} is not HTTP"
        case aiohttp.InvalidURL() | UnicodeError():
            return one_line(f"the URL of {url.host} cannot be used")
        case _:  # its own text may contain the URL
            reason = f": {_error_text(error)}" if isinstance(error, OSError) and error.errno else ""
            return one_line(f"the connection to {server} broke{reason}")


def _error_text(error: OSError) -> str:
    """The system's text if there is one: the client's own repeats the address."""
    if open_files.is_exhausted(error):
        return open_files.described()
    known = error.errno is not None and error.errno in errno.errorcode
    return os.strerror(error.errno or 0) if known else error.strerror or str(error)
