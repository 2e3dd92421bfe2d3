"""This file is one port that is served: an application behind bounds on time, bytes and connections.

aiohttp bounds the length of lines and headers, and the rest between two requests. Here are the bounds that it
lacks: a caller has to come to the point (`HEAD_SECONDS`), and there are never more than `MOST` of them.
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

HEAD_SECONDS = 10.0
"""A new connection has so long to send the head of its first request."""

MOST = 200
"""Connections at a time; one more is closed at once."""

_KEEP_ALIVE = 15.0
_LONGEST_LINE = 4096
_LONGEST_FIELD = 8190
_END_OF_HEAD = b"\r\n\r\n"
_CALLERS_OWN = (HttpProcessingError, web.RequestPayloadError)


def _concerns_us(line: logging.LogRecord) -> bool:
    """What is wrong with a request is its caller's matter: nobody fills the log from outside."""
    error = line.exc_info[1] if line.exc_info else None
    return not isinstance(error, _CALLERS_OWN)


_log = logging.getLogger(__name__)
_log.addFilter(_concerns_us)


class Listener:
    """A port and its application. `setting`: the variable that says where, for the error's text."""

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
        self._callers: set[_Caller] = set()
        self._server: asyncio.Server | None = None

    async def open(self) -> str:
        """Listen; the address, with the port that was taken. Raises SettingsError."""
        await self._runner.setup()
        assert self._runner.server is not None
        make = cast("Callable[[], asyncio.Protocol]", self._runner.server)
        parts = urlsplit(f"//{self._at}")
        loop = asyncio.get_running_loop()
        try:
            self._server = await loop.create_server(
                lambda: _Caller(make(), self._callers), parts.hostname, parts.port or 0, backlog=128
            )
        except OSError as error:
            await self._runner.cleanup()
            raise SettingsError([self._problem(error)]) from error
        host, port = self._server.sockets[0].getsockname()[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    async def close(self) -> None:
        """Let nobody in any more, and end what is under way."""
        if self._server is not None:
            self._server.close()
        await self._runner.cleanup()

    def _problem(self, error: OSError) -> Problem:
        taken = error.errno == errno.EADDRINUSE
        what = "the port is taken" if taken else error.strerror or str(error)
        hint = "give an address of this machine and a free port, or off"
        return Problem(self._setting, f"nothing can listen on {self._at}: {what}", hint)


class _Caller(asyncio.Protocol):
    """One connection: what it sends goes on to aiohttp, if it comes to the point."""

    def __init__(self, inner: asyncio.Protocol, callers: "set[_Caller]") -> None:
        self._inner, self._callers = inner, callers
        self._timer: asyncio.TimerHandle | None = None
        self._tail = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Let it in, if there is room."""
        self._callers.add(self)
        assert isinstance(transport, asyncio.Transport)
        self._inner.connection_made(transport)
        if len(self._callers) > MOST:
            transport.abort()
            return
        self._timer = asyncio.get_running_loop().call_later(HEAD_SECONDS, transport.abort)

    def data_received(self, data: bytes) -> None:
        """Go on; the first time that a head is whole ends the wait for it."""
        if self._timer is not None:
            if _END_OF_HEAD in self._tail + data:
                self._timer.cancel()
                self._timer = None
            self._tail = (self._tail + data)[-len(_END_OF_HEAD) :]
        self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        """It says no more."""
        return self._inner.eof_received()

    def connection_lost(self, error: Exception | None) -> None:
        """It is gone."""
        self._callers.discard(self)
        if self._timer is not None:
            self._timer.cancel()
        self._inner.connection_lost(error)

    def pause_writing(self) -> None:
        """It does not read what it is answered."""
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        """It does again."""
        self._inner.resume_writing()
