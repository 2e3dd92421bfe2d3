"""A listening port: an application behind limits on time, bytes and connections.

aiohttp limits the length of lines and headers, and the idle time between two requests. This adds the limits
that it lacks: on the time for a request's head (`HEAD_SECONDS`), and on the connections (`room.py`).
"""

import asyncio
import errno
from urllib.parse import urlsplit

from aiohttp import web

from relay.config.settings import SettingsError
from relay.core.validation import Problem
from relay.web.request_handler import RequestHandler, server_errors
from relay.web.room import Room

HEAD_SECONDS = 10.0
"""The time in which a new connection must send the head of its first request."""
PROBE_SECONDS = 2.0
"""The same where there is room for probes alone."""

_KEEP_ALIVE = 15.0
_LONGEST_LINE = 4096
_LONGEST_FIELD = 8190
_END_OF_HEAD = b"\r\n\r\n"
_PROBES = (b"GET /livez ", b"GET /readyz ", b"HEAD /livez ", b"HEAD /readyz ")


class Listener:
    """A port and its application. `setting`: the variable with the address, for the error's text."""

    def __init__(self, setting: str, at: str, application: web.Application) -> None:
        self._setting, self._at = setting, at
        self._runner = web.AppRunner(
            application,
            access_log=None,
            logger=server_errors,
            keepalive_timeout=_KEEP_ALIVE,
            max_line_size=_LONGEST_LINE,
            max_field_size=_LONGEST_FIELD,
            lingering_time=2.0,
            shutdown_timeout=1.0,
        )
        self._room = Room(setting)
        self._server: asyncio.Server | None = None

    async def open(self) -> str:
        """Listen; the address with the actual port. Raises SettingsError."""
        await self._runner.setup()
        server = self._runner.server
        assert server is not None
        parts = urlsplit(f"//{self._at}")
        loop = asyncio.get_running_loop()
        try:
            self._server = await loop.create_server(
                lambda: _Connection(RequestHandler(server), self._room),
                parts.hostname,
                parts.port or 0,
                backlog=128,
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

    def __init__(self, inner: asyncio.Protocol, room: Room) -> None:
        self._inner, self._room = inner, room
        self._transport: asyncio.Transport | None = None
        self._caller = ""
        self._timer: asyncio.TimerHandle | None = None
        self._tail = b""
        self._probe: bytes | None = None
        """The beginning of its next request, where it may send probes alone."""

    @property
    def unsent(self) -> int:
        """Bytes that wait to be sent."""
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    def abort(self) -> None:
        """Close it at once."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Find a place for it."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._caller = str((transport.get_extra_info("peername") or ("",))[0])
        is_ordinary = self._room.enter(self, self._caller)
        self._probe = None if is_ordinary else b""
        self._inner.connection_made(transport)
        seconds = HEAD_SECONDS if is_ordinary else PROBE_SECONDS
        self._timer = asyncio.get_running_loop().call_later(seconds, self.abort)

    def data_received(self, data: bytes) -> None:
        """Pass it on; the first complete head ends the timer."""
        if self._probe is not None and not self._is_probe(data):
            self._room.turn_away(self, self._caller)
            return
        if self._timer is not None:
            if _END_OF_HEAD in self._tail + data:
                self._timer.cancel()
                self._timer = None
            self._tail = (self._tail + data)[-len(_END_OF_HEAD) :]
        self._inner.data_received(data)

    def _is_probe(self, data: bytes) -> bool:
        """Whether what came so far can be one probe, and nothing behind it."""
        begun = (self._probe or b"") + data
        head, end, behind = begun.partition(_END_OF_HEAD)
        self._probe = b"" if end else begun[:_LONGEST_LINE]
        return not behind and any(head.startswith(probe) or probe.startswith(head) for probe in _PROBES)

    def eof_received(self) -> bool | None:
        """The client sends no more."""
        return self._inner.eof_received()

    def connection_lost(self, error: Exception | None) -> None:
        """The connection is closed."""
        self._room.leave(self)
        if self._timer is not None:
            self._timer.cancel()
        self._inner.connection_lost(error)

    def pause_writing(self) -> None:
        """The client does not read its response."""
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        """The client reads again."""
        self._inner.resume_writing()
