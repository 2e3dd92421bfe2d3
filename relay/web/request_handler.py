"""aiohttp's handler of a connection, with the headers of every answer also on those to what is no request.

What goes wrong in a handler is logged with its traceback, the same place once a minute: callers could fill
the log otherwise. Malformed requests are not logged.
"""

import asyncio
import logging
import time
from traceback import walk_tb

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web_protocol import RequestHandler as AiohttpHandler
from typing_extensions import override

from relay.web.access_control import HEADERS

_CLIENT_ERRORS = (HttpProcessingError, web.RequestPayloadError)
_REPORT_SECONDS = 60.0
_MOST_PLACES = 1000


class RequestHandler(AiohttpHandler):
    """It is given what `Server.__call__` gives, which is not documented."""

    def __init__(self, server: web.Server) -> None:
        super().__init__(server, loop=asyncio.get_running_loop(), **server._kwargs)  # noqa: SLF001

    @override
    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        answer = super().handle_error(request, status, exc, message)
        answer.headers.update(HEADERS)
        return answer


class _Folded(logging.Filter):
    """Lets an error of the server pass once a minute for each place, and no error of a client."""

    def __init__(self) -> None:
        super().__init__()
        self._passed_at: dict[tuple[str, int], float] = {}

    @override
    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if error is None:
            return True
        if isinstance(error, _CLIENT_ERRORS):
            return False
        place, now = _place(error), time.monotonic()
        if now - self._passed_at.get(place, float("-inf")) < _REPORT_SECONDS:
            return False
        if len(self._passed_at) >= _MOST_PLACES:
            self._passed_at.clear()
        self._passed_at[place] = now
        return True


def _place(error: BaseException) -> tuple[str, int]:
    """The file and the line where it was raised."""
    frames = list(walk_tb(error.__traceback__))
    return (frames[-1][0].f_code.co_filename, frames[-1][1]) if frames else ("", 0)


server_errors = logging.getLogger(__name__)
"""The log of what goes wrong in handlers."""
server_errors.addFilter(_Folded())
