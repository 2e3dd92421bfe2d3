"""A tenant's connections to one server: opened when needed, kept for a while, and counted with all others."""

import asyncio
import socket
import ssl
from collections import deque
from dataclasses import dataclass
from typing import Self

import aiohappyeyeballs
from typing_extensions import override
from yarl import URL

from relay.ion.connections import Connections, Pool
from relay.ion.http_connection import HttpConnection

KEEP_ALIVE_SECONDS = 15.0
"""For idle connections: shorter than servers use, so that a post rarely meets a closed one."""

_NEXT_ADDRESS_SECONDS = 0.25
"""Where a name has several addresses, the next is tried beside one that does not answer (RFC 8305)."""


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

    @override
    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


class NoConnectionError(Exception):
    """There is no connection within the time for it."""


class ConnectionPool(Pool):
    """Raises OSError, ssl.SSLError and UnicodeError where no connection can be made."""

    def __init__(self, origin: Origin, connect: float, connections: Connections | None) -> None:
        """`connect`: seconds for name, connection and TLS. `connections`: of the process, where limited."""
        self._origin, self._connect, self._connections = origin, connect, connections
        self._idle: deque[HttpConnection] = deque()
        self._in_use: set[HttpConnection] = set()
        self._sweep: asyncio.TimerHandle | None = None
        self._tls: ssl.SSLContext | None = None
        if connections is not None:
            connections.add(self)

    async def take(self, *, is_fresh: bool = False) -> HttpConnection:
        """The connection that was used last, or a new one. `is_fresh`: a new one."""
        while self._idle and not is_fresh:
            connection = self._idle.pop()
            if connection.is_usable():
                self._in_use.add(connection)
                return connection
            connection.close()
        if self._connections is not None:
            await self._connections.make_room()
        connection = await self._open()
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
        """Close all connections; running requests end without an answer."""
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
        try:
            async with asyncio.timeout(self._connect):
                return await self._dial()
        except TimeoutError:
            raise NoConnectionError from None

    async def _dial(self) -> HttpConnection:
        loop, origin = asyncio.get_running_loop(), self._origin
        found = await loop.getaddrinfo(origin.host, origin.port, type=socket.SOCK_STREAM)
        connected = await aiohappyeyeballs.start_connection(
            found, happy_eyeballs_delay=_NEXT_ADDRESS_SECONDS, interleave=1
        )
        try:
            _, connection = await loop.create_connection(
                HttpConnection,
                sock=connected,
                ssl=self._context() if origin.is_tls else None,
                server_hostname=origin.host if origin.is_tls else None,
            )
        except BaseException:
            connected.close()
            raise
        return connection

    def _context(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = ssl.create_default_context()
            self._tls.set_alpn_protocols(["http/1.1"])
        return self._tls

    # --- idle ones --------------------------------------------------------------------------------------

    def _plan_sweep(self) -> None:
        self._sweep = asyncio.get_running_loop().call_later(KEEP_ALIVE_SECONDS / 2, self._close_old)

    def _close_old(self) -> None:
        self._sweep = None
        while self._idle and (self._idle[0].is_closed or self._idle[0].idle_seconds() >= KEEP_ALIVE_SECONDS):
            self._idle.popleft().close()
        if self._idle:
            self._plan_sweep()
