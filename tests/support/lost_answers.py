"""A way to a PostgreSQL server on which the answer to a COMMIT can be lost."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from urllib.parse import urlsplit, urlunsplit


class LossyWay:
    """While `losing` is greater than 0, so many commits take effect, and the connection ends before the answer."""

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self.losing = self.lost = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass on one connection."""
        server_reader, server_writer = await asyncio.open_connection(self._host, self._port)
        cutting = asyncio.Event()
        upward = asyncio.create_task(self._pass_up(reader, server_writer, cutting))
        try:
            while data := await server_reader.read(65536):
                if cutting.is_set():  # the server has answered: it is committed
                    break
                writer.write(data)
                await writer.drain()
        finally:
            upward.cancel()
            for one in (writer, server_writer):
                one.close()

    async def _pass_up(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, cutting: asyncio.Event
    ) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                if self.losing and b"COMMIT" in data:
                    self.losing, self.lost = self.losing - 1, self.lost + 1
                    cutting.set()
                writer.write(data)
                await writer.drain()
            writer.write_eof()


@contextlib.asynccontextmanager
async def lossy_way(url: str) -> AsyncIterator[tuple[str, LossyWay]]:
    """The URL that leads to the server this way."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    assert parts.port is not None
    way = LossyWay(parts.hostname, parts.port)
    server = await asyncio.start_server(way.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    credentials = f"{parts.netloc.rpartition('@')[0]}@" if "@" in parts.netloc else ""
    try:
        yield urlunsplit(parts._replace(netloc=f"{credentials}127.0.0.1:{port}")), way
    finally:
        server.close()
