"""A server that sends raw bytes, for what no well-behaved server does: cuts, silence, nonsense."""

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self

Handler = Callable[["Line", "ReceivedRequest"], Awaitable[None]]
"""What is done with one request. The connection stays open unless the line is hung up."""


class ReceivedRequest:
    """One request, as it came."""

    def __init__(self, head: bytes, body: bytes, on_line: int) -> None:
        first, *rest = head.decode("latin-1").split("\r\n")
        self.method, self.target, _ = first.split(" ")
        self.headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in rest)}
        self.body, self.on_line = body, on_line


class Line:
    """One connection, the n-th."""

    def __init__(self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.number, self._reader, self._writer, self.hung_up = number, reader, writer, False

    async def say(self, data: bytes) -> None:
        """Send bytes as they are; OSError where the other side has gone."""
        self._writer.write(data)
        await self._writer.drain()

    async def reply(self, status: str = "200 OK", body: bytes = b"", *headers: str) -> None:
        """A whole answer that keeps the connection."""
        lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]
        await self.say("\r\n".join(lines).encode() + body)

    async def until_gone(self) -> None:
        """Say nothing until the other side has closed the connection."""
        await self._reader.read()
        self.hung_up = True

    async def finish(self) -> None:
        """Say that nothing more will come, and wait until the other side has closed the connection."""
        self._writer.write_eof()
        await self.until_gone()

    def hang_up(self) -> None:
        """Close the connection now."""
        self.hung_up = True
        self._writer.close()


class RawServer:
    """Listens on a free port of 127.0.0.1. `asked`: all requests; `lines`: connections that are open now."""

    def __init__(
        self,
        handler: Handler,
        tls: ssl.SSLContext | None = None,
        *,
        mute: bool = False,
        greeting: bytes = b"",
    ) -> None:
        """`mute`: accept connections and do nothing with them; `greeting`: say this and hang up."""
        self._handler, self._tls, self._mute, self._greeting = handler, tls, mute, greeting
        self.asked: list[ReceivedRequest] = []
        self.opened = 0
        self.lines: set[int] = set()
        self._news = asyncio.Condition()
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        """Listen."""
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0, ssl=self._tls)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the port and all lines."""
        self._server.close()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def port(self) -> int:
        """Where it listens."""
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def until(self, fact: Callable[[], bool]) -> None:
        """Wait until something is so: asked again after every request and every end of a line."""
        async with asyncio.timeout(10), self._news:
            await self._news.wait_for(fact)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        number = self.opened
        self.opened += 1
        self.lines.add(number)
        try:
            await self._serve(Line(number, reader, writer), reader)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the other side has gone, or the test has ended
        finally:
            writer.close()
            self.lines.discard(number)
            self._tasks.discard(task)
            async with self._news:
                self._news.notify_all()

    async def _serve(self, line: Line, reader: asyncio.StreamReader) -> None:
        if self._mute:
            await reader.read()
        if self._greeting:
            await line.say(self._greeting)
            line.hang_up()
        while not line.hung_up:
            head = (await reader.readuntil(b"\r\n\r\n"))[:-4]
            asked = ReceivedRequest(head, b"", line.number)
            asked.body = await reader.readexactly(int(asked.headers.get("content-length", "0")))
            self.asked.append(asked)
            async with self._news:
                self._news.notify_all()
            await self._handler(line, asked)
