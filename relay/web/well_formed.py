"""What a request must be before a handler sees it: one well-formed `Host`.

Names with a path, a query or a fragment in them would change what a signature covers, or which URL is built.
"""

import re

from aiohttp import web
from aiohttp.typedefs import Handler

_HOST = re.compile(r"(?:[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::([0-9]{1,5}))?", re.ASCII)
_LAST_PORT = 65_535
_WITHOUT_HOST = frozenset({"/livez", "/readyz", "/healthz", "/metrics"})
"""Probes of version 1.0 of HTTP give none."""


@web.middleware
async def require_host(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer 400 where `Host` is missing, given twice, or no host with an optional port."""
    if not _is_host(request):
        raise web.HTTPBadRequest(text="the Host header is not a host name with an optional port\n")
    return await handler(request)


def _is_host(request: web.Request) -> bool:
    given = request.headers.getall("Host", [])
    if not given:
        return request.path in _WITHOUT_HOST
    found = _HOST.fullmatch(given[0])
    return len(given) == 1 and found is not None and int(found[1] or 0) <= _LAST_PORT
