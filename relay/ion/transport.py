"""HTTP transport: one request, and its response or the reason why there is none.

Whatever the server or the network does becomes a value. Every request is bounded in time by phase, and in
bytes by how much of a response is read. Why not an HTTP client's session: decision 0023.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from asyncio_throttle.throttler import Throttler
from yarl import URL

from relay.core.replies import NoReply
from relay.ion.connection_errors import describe_error
from relay.ion.connection_pool import ConnectionPool, NoConnectionError, ProxyError
from relay.ion.connections import Connections
from relay.ion.content_encoding import decoded
from relay.ion.http_connection import ExchangeError, HttpConnection, NotSentError
from relay.ion.http_messages import NotHttpError, ResponseReader, request_head
from relay.ion.network import Network, NetworkAccess, NetworkError, Origin, Way
from relay.ion.wire import one_line

Headers = Callable[[], Mapping[str, str]]
"""Made anew for each request: a signature is valid once."""


@dataclass(frozen=True, slots=True)
class TimeLimits:
    """Time-outs of a request, in seconds; `least_rate` in bytes a second.

    `connect`: for a connection. `silence`: without a byte taken or sent by the server. `total`: for all of a
    request, and for each `least_rate` bytes of its body a second more.
    """

    connect: float
    silence: float
    total: float
    least_rate: int

    def total_for(self, size: int) -> float:
        """The time that a request with a body of so many bytes may take."""
        return self.total + size // self.least_rate


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """An HTTP response. `is_complete`: the body was not longer than the limit for reading it.

    The header fields as they came: `retry_after`, `date`, `location`, `content_type`.
    """

    status: int
    body: bytes = field(repr=False)
    is_complete: bool
    retry_after: str | None = None
    location: str | None = None
    content_type: str | None = None
    date: str | None = None


@dataclass(frozen=True, slots=True)
class _Lost:
    """A kept-alive connection broke before the first byte of a response."""

    detail: str


class Transport:
    """Opens its connections when they are needed. It may be used again after `close`.

    TLS certificates are always verified; redirects and cookies are ignored.
    """

    def __init__(
        self,
        limits: TimeLimits,
        rate_limit: float | None = None,
        may_send: Callable[[], bool] | None = None,
        connections: Connections | None = None,
        network: Network | None = None,
    ) -> None:
        """`connections`: of the process, where limited. `network`: by default that of the environment.

        `may_send` is called when the first byte of a post is about to be written: a process that was frozen
        between its decision to post and this moment must not post any more.
        """
        self._limits, self._may_send, self._connections = limits, may_send, connections
        self._throttler = _throttler(rate_limit)
        self._access = NetworkAccess(network or Network())
        self._pools: dict[Origin, ConnectionPool] = {}

    async def get(self, url: URL, headers: Headers, limit: int) -> HttpResponse | NoReply:
        """GET; repeated once, at once, if a kept-alive connection broke: that is not a failure of ION yet."""
        began, total = time.monotonic(), self._limits.total
        result = await self._request("GET", url, headers(), limit, b"", total)
        if isinstance(result, _Lost):
            left = max(0.001, total - (time.monotonic() - began))
            result = await self._request("GET", url, headers(), limit, b"", left, is_fresh=True)
        return NoReply(result.detail) if isinstance(result, _Lost) else result

    async def post(
        self, url: URL, headers: Mapping[str, str], limit: int, data: bytes, total: float | None = None
    ) -> HttpResponse | NoReply:
        """POST, never repeated. `total`: its own time-out in seconds."""
        sent = {**headers, "Content-Length": str(len(data))}
        total = self._limits.total_for(len(data)) if total is None else total
        result = await self._request("POST", url, sent, limit, data, total)
        return NoReply(result.detail) if isinstance(result, _Lost) else result

    def ways(self) -> list[Way]:
        """How each server was reached the last time."""
        return [pool.way for pool in self._pools.values() if pool.way is not None]

    async def close(self) -> None:
        """Close all connections; running requests end without a reply."""
        pools, self._pools = self._pools, {}
        for pool in pools.values():
            pool.close()

    async def _request(
        self,
        method: str,
        url: URL,
        headers: Mapping[str, str],
        limit: int,
        data: bytes,
        total: float,
        *,
        is_fresh: bool = False,
    ) -> HttpResponse | NoReply | _Lost:
        if self._throttler is not None:
            await self._throttler.acquire()  # type: ignore[no-untyped-call]
        try:
            origin = Origin.of(url)
            head = request_head(method, url.raw_path_qs, url.host_port_subcomponent or "", headers)
        except (ValueError, UnicodeError):
            return NoReply(f"the URL or a header of the request to {url.host} cannot be used")
        if self._connections is None:
            return await self._exchange(origin, head, data, limit, total, is_fresh=is_fresh)
        async with self._connections.request():
            return await self._exchange(origin, head, data, limit, total, is_fresh=is_fresh)

    async def _exchange(
        self, origin: Origin, head: bytes, data: bytes, limit: int, total: float, *, is_fresh: bool
    ) -> HttpResponse | NoReply | _Lost:
        pool = self._pools.get(origin) or self._open_pool(origin)
        try:
            connection = await pool.take(is_fresh=is_fresh)
        except (NoConnectionError, NetworkError, ProxyError) as error:
            return NoReply(one_line(str(error)))
        except (OSError, UnicodeError) as error:
            return NoReply(describe_error(error, origin))
        try:
            return await self._answer(origin, connection, head, data, limit, total)
        finally:
            pool.give_back(connection)

    async def _answer(
        self, origin: Origin, connection: HttpConnection, head: bytes, data: bytes, limit: int, total: float
    ) -> HttpResponse | NoReply | _Lost:
        reader, is_used = ResponseReader(limit), connection.requests > 0
        try:
            may_send = self._may_send if data else None
            await connection.exchange(head, data, reader, self._limits.silence, total, may_send)
        except NotSentError:
            return NoReply("not sent: this relay does not own the tenant any more")
        except NotHttpError as error:
            what = str(error) if reader.status else f"the answer of {origin} cannot be read: {error}"
            return NoReply(_then(reader, what))
        except ExchangeError as error:
            if is_used and not reader.has_begun and error.is_loss:
                return _Lost(describe_error(error, origin))
            is_cut = reader.status and error.is_loss
            what = "the answer was cut" if is_cut else describe_error(error, origin)
            if origin.is_tls and error.is_loss and not is_used and not reader.has_begun:
                what += self._access.hint_at_first_loss
            return NoReply(_then(reader, what), timed_out=not error.is_loss)
        return _response(reader, limit)

    def _open_pool(self, origin: Origin) -> ConnectionPool:
        pool = self._pools[origin] = ConnectionPool(
            origin, self._limits.connect, self._access, self._connections
        )
        return pool


def _then(reader: ResponseReader, what: str) -> str:
    """Also where the rest cannot be read, the status line says something."""
    return f"HTTP {reader.status}, then {what}" if reader.status else what


def _response(reader: ResponseReader, limit: int) -> HttpResponse:
    fields = reader.fields
    body, is_whole = decoded(reader.body, fields.get("content-encoding"), limit)
    return HttpResponse(
        reader.status,
        body,
        reader.is_complete and is_whole,
        fields.get("retry-after"),
        fields.get("location"),
        fields.get("content-type"),
        fields.get("date"),
    )


def _throttler(rate_limit: float | None) -> Throttler | None:
    """Delays requests to the limit, which holds on average also if it is not an integer."""
    if rate_limit is None:
        return None
    burst = max(1, int(rate_limit))
    return Throttler(rate_limit=burst, period=burst / rate_limit)
