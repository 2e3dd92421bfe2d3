"""ION's own calls to the relay: ping, versions and protocol. No documents are received.

For bidirectional connection points: ION calls `<Application>/service/ping` while it activates one (developer
guide, "ION sends a message to an application"; the answers are those of Infor's sample server). Each tenant
is an application of its own, `/<TENANT>/service/…`, with a consumer key of its own.
"""

import asyncio
import json
import math
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal

from aiohttp import web

from relay.core.answers import FaultOwner
from relay.core.model import TenantId
from relay.ion.inbound_auth import InboundVerifier, RefusalReason, Refused, SignedRequest
from relay.observability.incidents import Incidents
from relay.web.login_throttle import LoginThrottle
from relay.web.well_formed import require_host

_CALL = re.compile(r"/(?P<tenant>[A-Za-z0-9_]{1,22})/service/(?P<what>ping|versions|protocol)(\?.*)?")
_OF_A_TENANT = re.compile(r"/[A-Za-z0-9_]{1,22}/service(/.*)?")

_ANSWERS = {
    "ping": {"status": "OK", "code": 200},
    "versions": {"supportedVersions": ["v3"]},
    "protocol": {
        "version": "v3",
        "messageMethod": "multipartMessage",
        "supportedEncoding": "DEFLATE",
        "supportedCharacterSet": "UTF-8",
        "hasDiscovery": False,
    },
}

_STATUS: dict[RefusalReason, int] = {"unauthenticated": 401, "wrong-tenant": 403, "too-many-calls": 429}
_HEADERS = {401: {"WWW-Authenticate": 'OAuth realm="ion-relay"'}, 429: {"Retry-After": "60"}}
_RETRY_SECONDS = 10
_QUIET_SECONDS = 60.0

Hindrance = Callable[[], Awaitable[str | None]]
"""Why no message would be delivered now; None: it would."""


@dataclass(frozen=True, slots=True)
class InboundContext:
    """What the inbound calls need.

    `base_url`: the URL that ION calls, where there is a proxy; None: the host of the request.
    `wall`: seconds since the epoch.
    """

    verifier: InboundVerifier
    base_url: str | None
    hindrance: Hindrance
    incidents: Incidents
    wall: Callable[[], float]


def application(context: InboundContext) -> web.Application:
    """One route for all: the signature covers the path as it was sent, not as a router decodes it."""
    app = web.Application(client_max_size=0, middlewares=[require_host])
    app.router.add_route("*", "/{tail:.*}", _Inbound(context).answer)
    return app


class _Inbound:
    def __init__(self, context: InboundContext) -> None:
        self._context = context
        self._failures = LoginThrottle()
        self._quiet: asyncio.TimerHandle | None = None

    async def answer(self, request: web.Request) -> web.Response:
        """The response to any call."""
        target = request.raw_path
        known = _CALL.fullmatch(target)
        if known is None:
            return _unknown(target)
        if request.method not in ("GET", "HEAD"):
            return _error(405, "use GET", {"Allow": "GET, HEAD"})
        refused = self._refused(request, TenantId(known["tenant"].upper()))
        if refused is not None:
            return self._refuse(refused, request.remote or "")
        return await self._accept(known["what"])

    def _refused(self, request: web.Request, tenant: TenantId) -> Refused | None:
        base = self._context.base_url or f"{request.scheme}://{request.host}"
        method: Literal["GET", "HEAD"] = "HEAD" if request.method == "HEAD" else "GET"
        call = SignedRequest(method, base + request.raw_path, request.headers.get("Authorization", ""))
        return self._context.verifier.verify(call, tenant, self._context.wall())

    def _refuse(self, refused: Refused, caller: str) -> web.Response:
        """A caller that fails too often gets 429; a valid call from the same address is still accepted."""
        now = asyncio.get_running_loop().time()
        wait = self._failures.wait(caller, now)
        self._failures.failed(caller, now)
        self._report(refused, caller)
        if wait > 0:
            return _error(429, "too many refused calls", {"Retry-After": str(math.ceil(wait))})
        status = _STATUS[refused.why]
        return _error(status, refused.detail, _HEADERS.get(status))

    def _report(self, refused: Refused, caller: str) -> None:
        """One incident for many refused calls; it is resolved when none was refused for a while."""
        self._context.incidents.report(
            "inbound",
            detail=f"a call from {caller} was refused: {refused.detail}",
            fault=FaultOwner.CALLER,
            hint="check the consumer key and secret at ION's connection point, its URL, and both clocks",
        )
        if self._quiet is not None:
            self._quiet.cancel()
        self._quiet = asyncio.get_running_loop().call_later(_QUIET_SECONDS, self._context.incidents.resolved)

    async def _accept(self, what: str) -> web.Response:
        hindrance = await self._context.hindrance()
        if hindrance is not None:
            return _error(503, hindrance, {"Retry-After": str(_RETRY_SECONDS)})
        return _json(200, _ANSWERS[what])


def _unknown(target: str) -> web.Response:
    if _OF_A_TENANT.fullmatch(target):
        return _error(
            501, "this relay sends documents and receives none; it answers ping, versions and protocol"
        )
    return _error(404, "this port serves only /<TENANT>/service/ping, …/versions and …/protocol")


def _error(status: int, text: str, headers: dict[str, str] | None = None) -> web.Response:
    """In the form of ION's own answers, so that its log shows the reason."""
    return _json(status, {"status": "FAIL", "code": status, "errors": [text]}, headers)


def _json(status: int, body: object, headers: dict[str, str] | None = None) -> web.Response:
    every = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
    text = json.dumps(body, ensure_ascii=False)
    return web.Response(
        status=status, text=text, content_type="application/json", headers={**every, **(headers or {})}
    )
