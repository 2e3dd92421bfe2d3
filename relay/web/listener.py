"""A listening port: an application behind limits on time, bytes and connections.

aiohttp limits the length of lines and headers, and the idle time between two requests. This adds the limits
that it lacks: on the time for a request's head (`HEAD_SECONDS`) and on the number of connections (`MOST`).
"""

import asyncio
import errno
import logging
from collections.abc import Callable
from typing import cast
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from relay.config.settings import SettingsError
from relay.core.validation import Problem
from relay.observability.open_files import open_files

HEAD_SECONDS = 10.0
"""The time in which a new connection must send the head of its first request."""

MOST = 200
"""Maximum number of connections, fewer under a low limit of open files; one more is closed at once."""

_KEEP_ALIVE = 15.0
_LONGEST_LINE = 4096
_LONGEST_FIELD = 8190
_END_OF_HEAD = b"\r\n\r\n"
_CLIENT_ERRORS = (HttpProcessingError, web.RequestPayloadError)


def _is_server_error(line: logging.LogRecord) -> bool:
    """Whether the error is the server's: malformed requests are not logged, or callers could fill the log."""
    error = line.exc_info[1] if line.exc_info else None
    return not isinstance(error, _CLIENT_ERRORS)


_log = logging.getLogger(__name__)
_log.addFilter(_is_server_error)


class Listener:
    """A port and its application. `setting`: the variable with the address, for the error's text."""

    def __init__(self, setting: str, at: str, application: web.Application) -> None:
        self._setting, self._at = setting, at
        self._runner = web.AppRunner(
            application,
            access_log=None,
            logger=_log,
            keepalive_timeout=_KEEP_ALIVE,
            max_line_size=_LONGEST_LINE,
            max_field_size=_LONGEST_FIELD,
            lingering_time=2.0,
            shutdown_timeout=1.0,
        )
        self._connections: set[_Connection] = set()
        self._server: asyncio.Server | None = None

    async def open(self) -> str:
        """Listen; the address with the actual port. Raises SettingsError."""
        await self._runner.setup()
        assert self._runner.server is not None
        make = cast("Callable[[], asyncio.Protocol]", self._runner.server)
        parts = urlsplit(f"//{self._at}")
        loop = asyncio.get_running_loop()
        try:
            self._server = await loop.create_server(
                lambda: _Connection(make(), self._connections), parts.hostname, parts.port or 0, backlog=128
            )
        except OSError as error:
            await self._runner.cleanup()
            raise SettingsError([self._problem(error)]) from error
        host, port = self._server.sockets[0].getsockname()[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    async def close(self) -> None:
        """Accept no more connections, and end the requests in progress."""
        if self._server is not None:
            self._server.close()
        await self._runner.cleanup()

    def _problem(self, error: OSError) -> Problem:
        in_use = error.errno == errno.EADDRINUSE
        what = "the port is in use" if in_use else error.strerror or str(error)
        hint = "give an address of this machine and a free port, or off"
        return Problem(self._setting, f"cannot listen on {self._at}: {what}", hint)


class _Connection(asyncio.Protocol):
    """One connection: what it sends is passed to aiohttp, within the time for a head."""

    def __init__(self, inner: asyncio.Protocol, connections: "set[_Connection]") -> None:
        self._inner, self._connections = inner, connections
        self._timer: asyncio.TimerHandle | None = None
        self._tail = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Accept it, if there is room."""
        self._connections.add(self)
        assert isinstance(transport, asyncio.Transport)
        self._inner.connection_made(transport)
        if len(self._connections) > min(MOST, open_files().web or MOST):
            transport.abort()
            return
        self._timer = asyncio.get_running_loop().call_later(HEAD_SECONDS, transport.abort)

    def data_received(self, data: bytes) -> None:
        """Pass it on; the first complete head ends the timer."""
        if self._timer is not None:
            if _END_OF_HEAD in self._tail + data:
                self._timer.cancel()
                self._timer = None
            self._tail = (self._tail + data)[-len(_END_OF_HEAD) :]
        self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        """The client sends no more."""
        return self._inner.eof_received()

    def connection_lost(self, error: Exception | None) -> None:
        """The connection is closed."""
        self._connections.discard(self)
        if self._timer is not None:
            self._timer.cancel()
        self._inner.connection_lost(error)

    def pause_writing(self) -> None:
        """The client does not read its response."""
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        """The client reads again."""
        self._inner.resume_writing()
