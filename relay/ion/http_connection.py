"""One connection, and one request after the other on it: bounded in time by phase, and never sent twice."""

import asyncio
import select
import socket
import ssl
import sys
from collections.abc import Callable
from typing import cast

from typing_extensions import override

from relay.ion.http_messages import NotHttpError, ResponseReader

_WRITE_AT_ONCE = 64 * 1024
"""Bytes of body that are written at once; a larger one goes in slices, as the server takes them."""
_CHECKS = 4
"""How often the progress is checked in the longest silence that is allowed."""
_TURNS_TO_READ = 2
"""Of the loop, until what the system has received is here."""
_ACKNOWLEDGED = 120
"""Where `tcpi_bytes_acked` stands in Linux' `struct tcp_info`, 64 bits; since Linux 4.1."""


class ExchangeError(Exception):
    """There is no answer. `cause`: the system's error, if there is one."""

    def __init__(self, what: str, cause: Exception | None = None) -> None:
        super().__init__(what)
        self.what, self.cause = what, cause

    @property
    def is_loss(self) -> bool:
        """Whether the connection ended."""
        return True


class SilenceError(ExchangeError):
    """The server neither took nor sent a byte for too long. `seconds`: the time-out."""

    def __init__(self, seconds: float) -> None:
        super().__init__("silence")
        self.seconds = seconds

    @property
    @override
    def is_loss(self) -> bool:
        return False


class NotSentError(Exception):
    """The request may not be sent any more; not a byte of it was."""


class HttpConnection(asyncio.Protocol):
    """Used by one request at a time; whoever cancels one ends the connection."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.transport: asyncio.Transport | None = None
        self.is_closed = False
        self.requests = 0
        self._lost_by: Exception | None = None
        self.keep_alive: int | None = None
        """After how many seconds the server closes it while it is idle, if it says so."""
        self._idle_since = 0.0
        self._readable: select.poll | None = None
        self._reader: ResponseReader | None = None
        self._answered: asyncio.Future[None] | None = None
        self._writable: asyncio.Future[None] | None = None
        self._is_sending = False
        self._timer: asyncio.TimerHandle | None = None
        self._silence = self._total = self._progress_at = self._deadline = 0.0
        self._taken = 0

    # --- the request ------------------------------------------------------------------------------------

    async def exchange(
        self,
        data: bytes,
        body: bytes,
        reader: ResponseReader,
        silence: float,
        total: float,
        may_send: Callable[[], bool] | None = None,
    ) -> None:
        """Send both, and read the answer into the reader. Raises ExchangeError and NotHttpError.

        Time-outs in seconds: `silence` without any progress, `total` for all of it. `may_send` is asked right
        before the first byte; if it may not, NotSentError, and the connection can be used again. Otherwise it
        is closed afterwards unless the answer allows another request.
        """
        assert self.transport is not None, "it is connected"
        assert self._reader is None, "one request at a time"
        if self.is_closed or self.transport.is_closing():  # since it was opened, or taken
            self.close()
            raise ExchangeError("closed" if self._lost_by is None else "broke", self._lost_by)
        self._reader, self._answered = reader, self._loop.create_future()
        self.requests += 1
        self._progress_at = now = self._loop.time()
        self._silence, self._total, self._deadline = silence, total, now + total
        self._taken = self._count_taken()
        self._arm(now)
        is_sent = True
        try:
            await self._send(data, body, may_send)
            await self._answered
        except NotSentError:
            is_sent = False
            raise
        finally:
            self._finish(reader, is_sent=is_sent)

    def _finish(self, reader: ResponseReader, *, is_sent: bool) -> None:
        answered, self._reader, self._answered = self._answered, None, None
        if answered is not None and answered.done() and not answered.cancelled():
            answered.exception()  # of a cancelled request nobody asks for it
        self._idle_since = self._loop.time()
        if not is_sent:
            return
        self.keep_alive = reader.keep_alive
        is_over = reader.is_done and reader.is_reusable and not self._is_sending
        if not is_over or self.transport is None or self.transport.get_write_buffer_size():
            self.close()  # what the server has not taken would hold up the next request

    async def _send(self, data: bytes, body: bytes, may_send: Callable[[], bool] | None) -> None:
        transport, answered = self.transport, self._answered
        assert transport is not None
        assert answered is not None
        is_large = len(body) > _WRITE_AT_ONCE
        first = data if is_large or not body else data + body
        if may_send is not None and not may_send():
            raise NotSentError
        transport.write(first)
        if not is_large:
            return
        self._is_sending = True
        view = memoryview(body)
        for start in range(0, len(body), _WRITE_AT_ONCE):
            if self._writable is None:
                await asyncio.sleep(0)  # a fast server holds the loop no longer than a slow one
            else:
                await asyncio.wait((self._writable, answered), return_when=asyncio.FIRST_COMPLETED)
            await self._read_first()
            if answered.done() or transport.is_closing():  # it was refused before all was sent, or broke
                return
            transport.write(view[start : start + _WRITE_AT_ONCE])
        self._is_sending = False
        if self._reader is not None and self._reader.is_done:
            self._succeed()

    async def _read_first(self) -> None:
        """What has come is read before more is sent: a write that fails would throw a refusal away."""
        for _ in range(_TURNS_TO_READ):
            if self._has_news():
                await asyncio.sleep(0)

    async def start_tls(self, context: ssl.SSLContext, host: str) -> None:
        """Speak TLS from now on, with the server at the end of a tunnel."""
        assert self.transport is not None
        upgraded = await self._loop.start_tls(self.transport, self, context, server_hostname=host)
        if upgraded is None:
            raise OSError("the tunnel was closed")
        self.transport, self.requests = upgraded, 0

    @property
    def session(self) -> ssl.SSLObject | None:
        """What is known about TLS; None without it."""
        return None if self.transport is None else self.transport.get_extra_info("ssl_object")

    # --- the protocol of asyncio --------------------------------------------------------------------------

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is none by its class

    @override
    def data_received(self, data: bytes) -> None:
        reader = self._reader
        if reader is None:  # nothing was asked
            self.close()
            return
        if reader.is_done:  # it is not taken for the next one's answer
            reader.is_reusable = False
            return
        self._progress_at = self._loop.time()
        try:
            reader.feed(data)
        except NotHttpError as error:
            self._fail(error)
        else:
            if reader.is_done and not (self._is_sending and reader.is_success):  # the rest belongs to it
                self._succeed()

    @override
    def eof_received(self) -> bool | None:
        reader = self._reader
        if reader is not None:
            try:
                reader.end()
            except NotHttpError:
                return False  # `connection_lost` follows, and knows why: an alert of TLS, perhaps
            if self._is_sending:  # it takes nothing more, whatever it said
                self._fail(ExchangeError("closed"))
            self._succeed()
        return False  # the transport is closed

    @override
    def connection_lost(self, error: Exception | None) -> None:
        self._lost_by = error
        if error is None and not self.is_closed:  # uvloop: TLS that ends without a farewell
            self.eof_received()
        if self._reader is not None and self._reader.is_done and not self._is_sending:
            self._succeed()
        else:
            self._fail(ExchangeError("closed" if error is None else "broke", error))
        self.close()

    @override
    def pause_writing(self) -> None:
        self._writable = self._loop.create_future()

    @override
    def resume_writing(self) -> None:
        self._progress_at = self._loop.time()
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)
        self._writable = None

    # --- idle, closed -------------------------------------------------------------------------------------

    def is_usable(self) -> bool:
        """Whether a request may be sent on it: the server has neither closed it nor sent anything."""
        return not (self.is_closed or self._has_news())

    def idle_seconds(self) -> float:
        """How long ago its last request ended."""
        return self._loop.time() - self._idle_since

    def _has_news(self) -> bool:
        """Whether the system has something to read, also the end, which the loop has not seen yet."""
        if self.transport is None or self.transport.is_closing():
            return True
        if self._readable is None:
            self._readable = select.poll()
            self._readable.register(self.transport.get_extra_info("socket").fileno(), select.POLLIN)
        return bool(self._readable.poll(0))

    def close(self) -> None:
        """At once, without a farewell to the server, for which TLS would wait."""
        self.is_closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.transport is not None:
            self.transport.abort()

    def _succeed(self) -> None:
        if self._answered is not None and not self._answered.done():
            self._answered.set_result(None)

    def _fail(self, error: Exception) -> None:
        if self._answered is not None and not self._answered.done():
            self._answered.set_exception(error)

    # --- time ---------------------------------------------------------------------------------------------

    def _arm(self, now: float) -> None:
        """One timer serves many requests: it is moved when it fires, not with each of them."""
        at = min(self._deadline, now + self._silence / _CHECKS)
        if self._timer is None or self._timer.when() > at:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self._loop.call_at(at, self._check)

    def _check(self) -> None:
        self._timer = None
        if self._reader is None:
            return
        now, taken = self._loop.time(), self._count_taken()
        if taken > self._taken:
            self._taken, self._progress_at = taken, now
        if now >= self._deadline:
            self._fail(SilenceError(self._total))
        elif now - self._progress_at >= self._silence:
            self._fail(SilenceError(self._silence))
        else:
            self._arm(now)

    def _count_taken(self) -> int:
        """Bytes that the server's system has taken so far; 0 where this system does not say."""
        transport = self.transport
        if transport is None or transport.is_closing() or sys.platform != "linux":
            return 0
        try:
            info = transport.get_extra_info("socket").getsockopt(
                socket.IPPROTO_TCP, socket.TCP_INFO, _ACKNOWLEDGED + 8
            )
        except OSError:
            return 0
        return int.from_bytes(info[_ACKNOWLEDGED:], sys.byteorder)
