"""A tenant's connections to one server: opened when needed, kept for a while, and counted with all others."""

import asyncio
import socket
from collections import deque

import aiohappyeyeballs
from typing_extensions import override

from relay.ion.connection_errors import describe_error
from relay.ion.connections import Connections, Pool
from relay.ion.http_connection import ExchangeError, HttpConnection
from relay.ion.http_messages import NotHttpError, ResponseReader, request_head
from relay.ion.network import NetworkAccess, Origin, Proxy, Way, way_of

KEEP_ALIVE_SECONDS = 15.0
"""For idle connections: shorter than servers use, so that a post rarely meets a closed one."""
_MARGIN_SECONDS = 1.0
"""Before the end that a server has named itself."""

_NEXT_ADDRESS_SECONDS = 0.25
"""Where a name has several addresses, the next is tried beside one that does not answer (RFC 8305)."""


_UNAUTHENTICATED = 407


class NoConnectionError(Exception):
    """There is no connection within the time for it; the text says to whom, and by which proxy."""


class ProxyError(Exception):
    """The proxy opens no tunnel: what it answered, or what went wrong with it."""


class ConnectionPool(Pool):
    """Raises OSError, ssl.SSLError, UnicodeError, NetworkError and ProxyError where none can be made."""

    def __init__(
        self, origin: Origin, connect: float, access: NetworkAccess, connections: Connections | None
    ) -> None:
        """`connect`: seconds for name, connection and TLS. `connections`: of the process, where limited."""
        self._origin, self._connect, self._access, self._connections = origin, connect, access, connections
        self._idle: deque[HttpConnection] = deque()
        self._in_use: set[HttpConnection] = set()
        self._sweep: asyncio.TimerHandle | None = None
        self._is_closed = False
        self.way: Way | None = None
        """How the server was reached the last time."""
        if connections is not None:
            connections.add(self)

    async def take(self, *, is_fresh: bool = False) -> HttpConnection:
        """The connection that was used last, or a new one. `is_fresh`: a new one."""
        while self._idle and not is_fresh:
            connection = self._idle.pop()
            if connection.is_usable() and not _is_old(connection):
                self._in_use.add(connection)
                return connection
            connection.close()
        if self._connections is not None:
            await self._connections.make_room()
        connection = await self._open()
        if self._is_closed:  # meanwhile
            connection.close()
        self._in_use.add(connection)
        return connection

    def give_back(self, connection: HttpConnection) -> None:
        """Its request ended; it is kept unless it was closed."""
        self._in_use.discard(connection)
        if connection.is_closed:
            return
        self._idle.append(connection)
        if self._sweep is None:
            self._plan_sweep()

    def close(self) -> None:
        """Close all connections, for good; running requests end without an answer."""
        self._is_closed = True
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        for connection in (*self._idle, *self._in_use):
            connection.close()
        self._idle.clear()
        self._in_use.clear()

    # --- the port of Connections ------------------------------------------------------------------------

    @override
    def idle(self) -> int:
        return len(self._idle)

    @override
    def close_idle(self) -> None:
        self._idle.popleft().close()

    # --- opening --------------------------------------------------------------------------------------------

    async def _open(self) -> HttpConnection:
        origin, proxy = self._origin, self._access.proxy_for(self._origin)
        try:
            async with asyncio.timeout(self._connect):
                connection = await (self._dial(origin) if proxy is None else self._tunnel(proxy))
        except TimeoutError:
            by = "" if proxy is None else f" by the proxy {proxy.origin}"
            raise NoConnectionError(f"no connection to {origin}{by} within {self._connect:g} s") from None
        self.way = way_of(origin, proxy, connection.session if origin.is_tls else None)
        return connection

    async def _dial(self, origin: Origin) -> HttpConnection:
        loop = asyncio.get_running_loop()
        context = self._access.context() if origin.is_tls else None
        found = await loop.getaddrinfo(origin.host, origin.port, type=socket.SOCK_STREAM)
        connected = await aiohappyeyeballs.start_connection(
            found, happy_eyeballs_delay=_NEXT_ADDRESS_SECONDS, interleave=1
        )
        connection = HttpConnection()
        try:
            await loop.create_connection(
                lambda: connection,
                sock=connected,
                ssl=context,
                server_hostname=origin.tls_name if origin.is_tls else None,
            )
        except BaseException:
            connection.close()  # first: the loop must not be left with a socket that is closed
            connected.close()
            raise
        return connection

    async def _tunnel(self, proxy: Proxy) -> HttpConnection:
        """By CONNECT (RFC 9110, section 9.3.6): TLS is spoken with the server itself."""
        try:
            connection = await self._dial(proxy.origin)
        except (OSError, UnicodeError) as error:  # it is the proxy that cannot be reached
            what = describe_error(error, proxy.origin).partition(": ")[2] or "it cannot be resolved"
            raise ProxyError(f"no connection to the proxy {proxy.origin}: {what}") from None
        try:
            await self._connect_through(connection, proxy)
            if self._origin.is_tls:
                await connection.start_tls(self._access.context(), self._origin.tls_name)
        except BaseException:
            connection.close()
            raise
        return connection

    async def _connect_through(self, connection: HttpConnection, proxy: Proxy) -> None:
        target, fields = str(self._origin), {}
        if proxy.authorization is not None:
            fields["Proxy-Authorization"] = proxy.authorization
        reader = ResponseReader(0, is_tunnel=True)
        try:
            await connection.exchange(
                request_head("CONNECT", target, target, fields), b"", reader, self._connect, self._connect
            )
        except (NotHttpError, ExchangeError):
            raise ProxyError(
                f"the proxy {proxy.origin} does not answer CONNECT; is it an HTTP proxy?"
            ) from None
        if not reader.is_success:
            hint = "; check PROXY_CREDENTIALS_FILE" if reader.status == _UNAUTHENTICATED else ""
            refusal = f"refuses the way to {target}: HTTP {reader.status}{hint}"
            raise ProxyError(f"the proxy {proxy.origin} {refusal}")
        if connection.is_closed:  # there was something behind it
            raise ProxyError(f"the proxy {proxy.origin} answers CONNECT with a page, and not with a tunnel")

    # --- idle ones --------------------------------------------------------------------------------------

    def _plan_sweep(self) -> None:
        self._sweep = asyncio.get_running_loop().call_later(KEEP_ALIVE_SECONDS / 2, self._close_old)

    def _close_old(self) -> None:
        self._sweep = None
        for connection in self._idle:
            if _is_old(connection):
                connection.close()
        self._idle = deque(one for one in self._idle if not one.is_closed)
        if self._idle:
            self._plan_sweep()


def _is_old(connection: HttpConnection) -> bool:
    """Whether it has been idle for so long that its server may be closing it now."""
    keep, named = KEEP_ALIVE_SECONDS, connection.keep_alive
    if named is not None:
        keep = min(keep, max(named - _MARGIN_SECONDS, named / 2))
    return connection.idle_seconds() >= keep
