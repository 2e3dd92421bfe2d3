"""This file is one request and what came back; the only module of the relay's that knows the HTTP client.

Whatever the far side or the network does becomes a value. Every exchange is bounded in time by time-outs
inside the client (cutting requests from outside leaves connections behind in some clients), and in bytes
by how much of a reply is read.
"""

import errno
import os
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, field, replace
from io import BytesIO
from typing import Any, Literal

import aiohttp
from asyncio_throttle.throttler import Throttler
from yarl import URL

from relay.answers import NoReply
from relay.ion.wire import one_line

_KEEP_ALIVE = 15.0
"""Seconds an idle connection is kept: shorter than servers do, so that a post rarely meets a closed one."""

_IN_CHUNKS = 1024 * 1024
"""Bytes of body from which the client writes it in chunks, so that a large one does not hold the loop."""


Headers = Callable[[], Mapping[str, str]]
"""Made anew for each request: a signature serves once."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long is waited, in seconds: for a connection, for the next bytes, for all of an exchange."""

    connect: float = 5.0
    read: float = 60.0
    total: float = 60.0


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

    def __init__(self, rate_limit: float | None = None) -> None:
        self._pace = _pace(rate_limit)
        self._session: aiohttp.ClientSession | None = None
        self._connector: _Connector | None = None

    async def get(self, url: URL, headers: Headers, patience: Patience, limit: int) -> Received | NoReply:
        """GET; once more, at once, where a connection that had been kept broke: that is no trouble yet.

        aiohttp would do so by itself, but with the same headers and also on a new connection: ION would
        refuse the nonce that it has seen, and an outage would be asked twice each time.
        """
        began = time.monotonic()
        connector = self._connector
        made = connector.made if connector is not None else 0
        answer = await self._once("GET", url, headers(), patience, limit, None)
        if not isinstance(answer, _Broken):
            return answer
        if connector is not None and connector is self._connector and connector.made == made:
            rest = replace(patience, total=max(0.001, patience.total - (time.monotonic() - began)))
            answer = await self._once("GET", url, headers(), rest, limit, None)
        return NoReply(answer.why) if isinstance(answer, _Broken) else answer

    async def post(
        self, url: URL, headers: Mapping[str, str], patience: Patience, limit: int, data: bytes
    ) -> Received | NoReply:
        """POST, once, whatever happens."""
        answer = await self._once("POST", url, headers, patience, limit, data)
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
        patience: Patience,
        limit: int,
        data: bytes | None,
    ) -> "Received | NoReply | _Broken":
        session = self._session or self._open()
        content = BytesIO(data) if data is not None and len(data) > _IN_CHUNKS else data
        timeout = aiohttp.ClientTimeout(patience.total, patience.connect, patience.read, patience.connect)
        try:
            async with (
                self._pace(),
                session.request(
                    method,
                    url,
                    headers=headers,
                    data=content,
                    timeout=timeout,
                    allow_redirects=False,
                    middlewares=_ONCE if method == "GET" else (),
                ) as response,
            ):
                return await _received(response, limit)
        except _BrokenError as error:
            return _Broken(_why(error.cause, url, patience))
        except (aiohttp.ClientError, OSError, UnicodeError) as error:  # a time-out is an OSError
            return NoReply(_why(error, url, patience))

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


# --- pieces -------------------------------------------------------------------------------------------


def _pace(rate_limit: float | None) -> Callable[[], AbstractAsyncContextManager[Any]]:
    """Waits until the next request may go; the limit holds on average also where it is no whole number."""
    if rate_limit is None:
        return nullcontext
    burst = max(1, int(rate_limit))
    throttler = Throttler(rate_limit=burst, period=burst / rate_limit)
    return lambda: throttler


async def _received(response: aiohttp.ClientResponse, limit: int) -> Received:
    """Read at most `limit` bytes of the body; where it is longer, the connection is not used again."""
    pieces, size = [], 0
    while size <= limit:
        piece = await response.content.read(limit + 1 - size)
        if not piece:
            break
        pieces.append(piece)
        size += len(piece)
    if size > limit:
        response.close()
    headers = response.headers
    return Received(
        response.status,
        b"".join(pieces)[:limit],
        size <= limit,
        headers.get("Retry-After"),
        headers.get("Location"),
    )


def _why(error: Exception, url: URL, patience: Patience) -> str:
    """Why there is no reply, in words for a person: no path, no header, nothing of a body."""
    place = f"{url.host}:{url.port}"
    match error:
        case aiohttp.ConnectionTimeoutError():
            return f"no connection to {place} within {patience.connect:g} s"
        case aiohttp.SocketTimeoutError():
            return f"no answer from {place} within {patience.read:g} s"
        case TimeoutError():
            return f"no answer from {place} within {patience.total:g} s"
        case aiohttp.ClientConnectorCertificateError(certificate_error=cause):
            reason = getattr(cause, "verify_message", None) or cause
            return one_line(f"the certificate of {place} is not trusted: {reason}")
        case aiohttp.ClientConnectorDNSError():
            return one_line(f"cannot resolve {url.host}")
        case aiohttp.ClientConnectorSSLError(os_error=cause):
            return one_line(f"no TLS with {place}: {_reason(cause)}")
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
        case OSError():
            return one_line(f"the connection to {place} broke: {_reason(error)}")
        case _:
            return f"the connection to {place} broke: {type(error).__name__}"


def _reason(error: OSError) -> str:
    if (
        error.errno is not None and error.errno in errno.errorcode
    ):  # not always the system's own words otherwise
        return os.strerror(error.errno)
    return error.strerror or type(error).__name__
