"""Serve in place of ION for the benchmarks: read each request, answer, and record arrivals.

    python sink.py MILLISECONDS    response time of a post

An ordinary aiohttp server under uvloop, without any checks. It prints its port and serves until it is ended.
"""

import asyncio
import sys
import time
from collections.abc import Mapping

from aiohttp import web

DOCUMENT, LOGICAL_ID = "Sync.SalesOrder", "lid://bench.orders.1"

_ANSWERS: Mapping[str, object] = {
    "ping": {},
    "versions": {"supportedVersions": ["v1", "v2", "v3"]},
    "acceptedDocuments": {"logicalId": LOGICAL_ID, "acceptedDocuments": [DOCUMENT]},
    "token": {"access_token": "t", "token_type": "Bearer", "expires_in": 7200},
}
_MARK = b'"messageId":'


class Sink:
    """The arrivals: by message id, when its post was complete (monotonic seconds)."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._arrivals: dict[str, float] = {}
        self._awaited: dict[str, asyncio.Event] = {}

    def application(self) -> web.Application:
        """Return the routes: ION's calls, and the queries of a benchmark."""
        app = web.Application(client_max_size=2**30)
        app.router.add_get("/arrival/{id}", self._arrival)
        app.router.add_get("/summary", self._summary)
        app.router.add_get("/clear", self._clear)
        app.router.add_post("/token", self._answer)
        app.router.add_get("/{path:.*}", self._answer)
        app.router.add_post("/{path:.*}", self._take)
        return app

    async def _take(self, request: web.Request) -> web.Response:
        body = await request.read()
        at = body.find(_MARK) + len(_MARK)
        message_id = body[at : at + 1000].split(b'"', 2)[1].decode()
        self._arrivals[message_id] = time.monotonic()
        if message_id in self._awaited:
            self._awaited.pop(message_id).set()
        if self._seconds:
            await asyncio.sleep(self._seconds)
        return web.json_response({"status": "OK", "code": 202}, status=202)

    async def _answer(self, request: web.Request) -> web.Response:
        return web.json_response(_ANSWERS.get(request.path.rpartition("/")[2], {}))

    async def _arrival(self, request: web.Request) -> web.Response:
        """Answer when the message has arrived: polling would take processor time from the measured relay."""
        message_id = request.match_info["id"]
        if message_id not in self._arrivals:
            await self._awaited.setdefault(message_id, asyncio.Event()).wait()
        return web.json_response({"at": self._arrivals[message_id]})

    async def _summary(self, _: web.Request) -> web.Response:
        times = self._arrivals.values()
        summary = {"count": len(times), "first": min(times, default=0), "last": max(times, default=0)}
        return web.json_response(summary)

    async def _clear(self, _: web.Request) -> web.Response:
        self._arrivals.clear()
        return web.json_response({})


async def serve(milliseconds: float) -> None:
    """Serve on a free port of the loopback address, and print it first."""
    runner = web.AppRunner(Sink(milliseconds / 1000).application(), access_log=None)
    await runner.setup()
    assert runner.server is not None
    server = await asyncio.get_running_loop().create_server(runner.server, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    import uvloop

    uvloop.run(serve(float(sys.argv[1])))
