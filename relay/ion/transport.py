"""This file is one request and what came back; the only module of the relay's that knows the HTTP client.

Whatever the far side or the network does becomes a value. Every exchange is bounded in time by time-outs
inside the client (cutting requests from outside leaves connections behind in some clients), and in bytes
by how much of a reply is read.
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
from relay.ion.wire import one_line

_KEEP_ALIVE = 15.0
"""Seconds an idle connection is kept: shorter than servers do, so that a post rarely meets a closed one."""

_IN_CHUNKS = 1024 * 1024
"""Bytes of body from which the client writes it in chunks, so that a large one does not hold the loop."""


Headers = Callable[[], Mapping[str, str]]
"""Made anew for each request: a signature serves once."""


@dataclass(frozen=True, slots=True)
class Received:
    """An HTTP reply as it came. `whole`: its body was not longer than what is read of it."""

    status: int
    body: bytes = field(repr=False)
    whole: bool
    retry_after: str | None = None
    location: str | None = None


class Exchange:
    """One session, opened by the first request. It may be used again after `close`.

    TLS certificates are verified always, redirects are not followed, cookies are not kept, proxies of the
    environment are not used, and nothing is decompressed.
    """

    def __init__(
        self,
        connect: float,
        read: float,
        total: float,
        rate_limit: float | None = None,
        may_send: Callable[[], bool] | None = None,
    ) -> None:
        """Wait `connect` s for a connection, `read` s for the next bytes, `total` s for all of it.

        `may_send` is asked when the first byte of a post is about to be written: a process that was frozen
        between its decision to post and here must not post any more.
        """
        self._may_send = may_send
        silence = read if read < total else None  # the total watches it too
        self._total = total
        self._bounds = aiohttp.ClientTimeout(total, connect, silence, connect)
        self._throttler = _throttler(rate_limit)
        self._session: aiohttp.ClientSession | None = None
        self._connector: _Connector | None = None

    async def get(self, url: URL, headers: Headers, limit: int) -> Received | NoReply:
        """GET; once more, at once, where a connection that had been kept broke: that is no trouble yet.

        aiohttp would do so by itself, but with the same headers and also on a new connection: ION would
        refuse the nonce that it has seen, and an outage would be asked twice each time.
        """
        began = time.monotonic()
        connector = self._connector
        made = connector.made if connector is not None else 0
        answer = await self._once("GET", url, headers(), limit, self._bounds)
        if not isinstance(answer, _Broken):
            return answer
        if connector is not None and connector is self._connector and connector.made == made:
            rest = self._within(max(0.001, self._total - (time.monotonic() - began)))
            answer = await self._once("GET", url, headers(), limit, rest)
        return NoReply(answer.why) if isinstance(answer, _Broken) else answer

    async def post(
        self, url: URL, headers: Mapping[str, str], limit: int, data: bytes, total: float | None = None
    ) -> Received | NoReply:
        """POST, once, whatever happens. `total`: seconds, where less than usual."""
        bounds = self._bounds if total is None else self._within(total)
        answer = await self._once("POST", url, headers, limit, bounds, data)
        return NoReply(answer.why) if isinstance(answer, _Broken) else answer

    async def close(self) -> None:
        """Close all connections; requests under way end without a reply."""
        session, self._session, self._connector = self._session, None, None
        if session is not None:
            await session.close()

    async def _once(
        self,
        method: Literal["GET", "POST"],
        url: URL,
        headers: Mapping[str, str],
        limit: int,
        bounds: aiohttp.ClientTimeout,
        data: bytes | None = None,
    ) -> "Received | NoReply | _Broken":
        if self._throttler is not None:
            await self._throttler.acquire()  # type: ignore[no-untyped-call]
        session = self._session or self._open()
        content = None if data is None else self._content(data)
        try:
            async with session.request(
                method,
                url,
                headers=headers,
                data=content,
                timeout=bounds,
                allow_redirects=False,
                middlewares=_ONCE if method == "GET" else (),
            ) as response:
                return await _received(response, limit)
        except _BrokenError as error:
            return _Broken(_why(error.cause, url, bounds))
        except (aiohttp.ClientError, OSError, UnicodeError) as error:  # a time-out is an OSError
            return NoReply(_why(error, url, bounds))

    def _content(self, data: bytes) -> bytes | BytesIO | aiohttp.Payload:
        if self._may_send is not None:
            return _guarded(data, self._may_send)
        return BytesIO(data) if len(data) > _IN_CHUNKS else data

    def _within(self, total: float) -> aiohttp.ClientTimeout:
        usual = self._bounds
        return aiohttp.ClientTimeout(total, usual.connect, usual.sock_read, usual.sock_connect)

    def _open(self) -> aiohttp.ClientSession:
        self._connector = _Connector(limit=0, keepalive_timeout=_KEEP_ALIVE)
        self._session = aiohttp.ClientSession(
            connector=self._connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
        )
        return self._session


# --- a connection that broke before the first byte of an answer --------------------------------------


@dataclass(frozen=True, slots=True)
class _Broken:
    why: str


class _BrokenError(aiohttp.ClientError):
    """Not one of those that the client answers by sending the request again."""

    def __init__(self, cause: aiohttp.ClientError) -> None:
        super().__init__(str(cause))
        self.cause = cause


async def _once_only(
    request: aiohttp.ClientRequest, send: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    try:
        return await send(request)
    except aiohttp.ClientConnectorError:
        raise
    except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
        raise _BrokenError(error) from error


_ONCE = (_once_only,)


class _Connector(aiohttp.TCPConnector):
    """Counts the connections it makes: a request during which none was made went over a kept one."""

    made = 0

    async def _create_connection(self, *args: Any, **kwargs: Any) -> Any:
        self.made += 1
        return await super()._create_connection(*args, **kwargs)


# --- a post that must not begin any more ---------------------------------------------------------------


class _Guard(aiohttp.Payload):
    """Asks before its first byte is written; headers and body go out together, so nothing was sent before."""

    may_send: Callable[[], bool]

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        if not self.may_send():
            raise OSError("not sent: this relay does not hold the tenant any more")
        await super().write_with_length(writer, content_length)


class _GuardedBytes(_Guard, aiohttp.BytesPayload):
    """A body in one piece."""


class _GuardedLarge(_Guard, aiohttp.BytesIOPayload):
    """A body that is written in chunks."""


def _guarded(data: bytes, may_send: Callable[[], bool]) -> _Guard:
    payload = _GuardedLarge(BytesIO(data)) if len(data) > _IN_CHUNKS else _GuardedBytes(data)
    payload.may_send = may_send
    return payload


# --- pieces -------------------------------------------------------------------------------------------


def _throttler(rate_limit: float | None) -> Throttler | None:
    """Waits until the next request may go; the limit holds on average also where it is no whole number."""
    if rate_limit is None:
        return None
    burst = max(1, int(rate_limit))
    return Throttler(rate_limit=burst, period=burst / rate_limit)


async def _received(response: aiohttp.ClientResponse, limit: int) -> Received:
    """Read at most `limit` bytes of the body; the client drops a connection whose answer was not read out."""
    length = response.content_length
    if length is not None and length <= limit:
        body, whole = await response.content.read(), True
    else:
        body = await _begin(response.content, limit + 1)
        whole = len(body) <= limit
    headers = response.headers
    return Received(response.status, body[:limit], whole, headers.get("Retry-After"), headers.get("Location"))


async def _begin(content: aiohttp.StreamReader, most: int) -> bytes:
    pieces: list[bytes] = []
    while most > 0 and (piece := await content.read(most)):
        pieces.append(piece)
        most -= len(piece)
    return b"".join(pieces)


def _why(error: Exception, url: URL, bounds: aiohttp.ClientTimeout) -> str:
    """Why there is no reply, in words for a person: no path, no header, nothing of a body."""
    place = f"{url.host}:{url.port}"
    match error:
        case aiohttp.ConnectionTimeoutError():
            return f"no connection to {place} within {bounds.connect:g} s"
        case aiohttp.SocketTimeoutError():
            return f"no answer from {place} within {bounds.sock_read:g} s"
        case TimeoutError():
            return f"no answer from {place} within {bounds.total:g} s"
        case aiohttp.ClientConnectorCertificateError(certificate_error=cause):
            reason = getattr(cause, "verify_message", None) or cause
            return one_line(f"the certificate of {place} is not trusted: {reason}")
        case aiohttp.ClientConnectorDNSError():
            return one_line(f"cannot resolve {url.host}")
        case aiohttp.ClientConnectorSSLError(os_error=cause):
            return one_line(f"no TLS with {place}: {getattr(cause, 'reason', None) or cause}")
        case aiohttp.ClientConnectorError(os_error=cause):
            return one_line(f"cannot connect to {place}: {_reason(cause)}")
        case aiohttp.ServerDisconnectedError():
            return f"{place} closed the connection without an answer"
        case aiohttp.ClientPayloadError():
            return f"the answer of {place} was cut"
        case aiohttp.ClientResponseError():
            return f"what {place} answers is not HTTP"
        case aiohttp.InvalidURL() | UnicodeError():
            return one_line(f"the URL of {url.host} cannot be used")
        case _:  # its own words may hold the URL
            reason = f": {_reason(error)}" if isinstance(error, OSError) and error.errno else ""
            return one_line(f"the connection to {place} broke{reason}")


def _reason(error: OSError) -> str:
    """The system's words where there are any: the client's own repeat the address."""
    known = error.errno is not None and error.errno in errno.errorcode
    return os.strerror(error.errno or 0) if known else error.strerror or str(error)
