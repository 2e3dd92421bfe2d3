"""This file is the benchmarks' far side: it reads each request whole, answers at once, remembers arrivals.

    python sink.py aiohttp    an ordinary HTTP server, as most services are
    python sink.py raw        bytes on a socket, quicker than any server: the sender alone is measured

It judges nothing. It prints its port and serves until it is ended.
"""

import asyncio
import json
import sys
import time
from typing import cast

from aiohttp import web

DOCUMENT, LOGICAL_ID = "Sync.SalesOrder", "lid://bench.orders.1"

_ANSWERS = {
    b"/ping": {},
    b"/versions": {"supportedVersions": ["v1", "v2", "v3"]},
    b"/acceptedDocuments": {"logicalId": LOGICAL_ID, "acceptedDocuments": [DOCUMENT]},
    b"/token": {"access_token": "t", "token_type": "Bearer", "expires_in": 7200},
}
_MARK = b'"messageId":'


class Sink(asyncio.Protocol):
    """One connection. All share `arrivals`: when each post was complete, by message id."""

    def __init__(self, arrivals: dict[str, float]) -> None:
        self._arrivals = arrivals
        self._buffer = bytearray()
        self._transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember where answers go."""
        self._transport = cast("asyncio.WriteTransport", transport)  # uvloop's is one, without saying so

    def data_received(self, data: bytes) -> None:
        """Answer every request that is complete."""
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = bytes(self._buffer[:end])
            at = head.lower().find(b"content-length:")
            length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
            whole = end + 4 + length
            if len(self._buffer) < whole:
                return
            self._answer(head, bytes(self._buffer[end + 4 : min(whole, end + 1000)]))
            del self._buffer[:whole]

    def _answer(self, head: bytes, body: bytes) -> None:
        path = head.split(b" ", 2)[1]
        if path.endswith(b"/multipartMessage"):
            at = body.find(_MARK) + len(_MARK)
            self._arrivals[body[at:].split(b'"', 2)[1].decode()] = time.monotonic()
            self._send(202, b'{"status":"OK","code":202}')
        elif path == b"/record":
            self._send(200, json.dumps(self._arrivals).encode())
        elif path == b"/summary":
            times = self._arrivals.values()
            seen = {"count": len(times), "first": min(times, default=0), "last": max(times, default=0)}
            self._send(200, json.dumps(seen).encode())
        elif path == b"/clear":
            self._arrivals.clear()
            self._send(200, b"{}")
        else:
            answer = next((answer for end, answer in _ANSWERS.items() if path.endswith(end)), {})
            self._send(200, json.dumps(answer).encode())

    def _send(self, status: int, body: bytes) -> None:
        assert self._transport is not None
        head = (
            f"HTTP/1.1 {status} OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        self._transport.write(head.encode() + body)


def application(arrivals: dict[str, float]) -> web.Application:
    """The same as an ordinary aiohttp server."""

    async def post(request: web.Request) -> web.Response:
        body = await request.read()
        at = body.find(_MARK) + len(_MARK)
        arrivals[body[at : at + 1000].split(b'"', 2)[1].decode()] = time.monotonic()
        return web.json_response({"status": "OK", "code": 202}, status=202)

    async def get(request: web.Request) -> web.Response:
        path = request.path.encode()
        if path == b"/record":
            return web.json_response(arrivals)
        if path == b"/summary":
            times = arrivals.values()
            seen = {"count": len(times), "first": min(times, default=0), "last": max(times, default=0)}
            return web.json_response(seen)
        if path == b"/clear":
            arrivals.clear()
        return web.json_response(next((answer for end, answer in _ANSWERS.items() if path.endswith(end)), {}))

    app = web.Application(client_max_size=2**30)
    app.router.add_post("/token", get)
    app.router.add_post("/{path:.*}", post)
    app.router.add_get("/{path:.*}", get)
    return app


async def serve(kind: str) -> None:
    """Serve on a free port of the loopback, printed first."""
    arrivals: dict[str, float] = {}
    loop = asyncio.get_running_loop()
    if kind == "raw":
        server = await loop.create_server(lambda: Sink(arrivals), "127.0.0.1", 0)
    else:
        runner = web.AppRunner(application(arrivals), access_log=None)
        await runner.setup()
        assert runner.server is not None
        server = await loop.create_server(runner.server, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    import uvloop

    uvloop.run(serve(sys.argv[1]))
