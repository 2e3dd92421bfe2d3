"""This file is how an answer leaves the simulator: as it is, or as the faults spoils it.

The only other place beside server.py that touches aiohttp's requests.
"""

import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

from aiohttp import web

from relay.sandbox.fault_fields import FaultSpec
from relay.sandbox.responses import Reply, oauth_error

_HUGE = 64 * 1024 * 1024
_CHUNK = b"x" * 65536
_BODILESS = frozenset({204, 205, 304})
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
"""Their Location leads nowhere: a client that follows shows up in the log as an unknown call."""

_NOT_JSON = b'{"status": "OK", "code": 2'
_NOT_UTF8 = b'\xff\xfe{"status":\xc3\x28"OK"}'
_HTML = b"<!DOCTYPE html><html><head><title>Gateway</title></head><body><h1>Upstream error</h1></body></html>"
_WRONG_TYPES = {
    "versions": {"supportedVersions": {"v3": True}},
    "acceptedDocuments": {"logicalId": 7, "acceptedDocuments": "all"},
    "token": {"access_token": 5, "token_type": ["Bearer"], "expires_in": "soon"},
}
_WRONG_TYPES_ELSEWHERE = {"status": 5, "code": "x", "errors": {"a": [1]}, "message": None}


def ordered(spec: FaultSpec, call: str) -> Reply | None:
    """The answer that a rule orders by its status, or None where it names none."""
    if spec.status is None:
        return None
    text = spec.error or "the faults was ordered so"
    if spec.status in _BODILESS:
        return Reply(spec.status, b"", spec.status, text)
    if call == "token" and spec.status >= 400:
        return oauth_error(spec.status, "invalid_grant" if spec.status == 400 else "server_error", text)
    fine = spec.status < 300
    code = spec.code if spec.code is not None else spec.status
    body: dict[str, object] = {"status": "OK" if fine else "FAIL", "code": code}
    if not fine:
        body["errors"] = [text]
    headers = {"Location": "/moved"} if spec.status in _REDIRECTS else {}
    return Reply(spec.status, json.dumps(body).encode(), code, "" if fine else text, headers)


def spoilt(reply: Reply, spec: FaultSpec, call: str) -> Reply:
    """The answer with the rule's hint and body; `truncated` and `huge` are left to the sending."""
    headers = dict(reply.headers)
    if spec.retry_after is not None:
        headers["Retry-After"] = _retry_after(spec.retry_after, spec.retry_after_date)
    body, content_type = reply.body, reply.content_type
    match spec.body:
        case "not-json":
            body = _NOT_JSON
        case "not-utf8":
            body = _NOT_UTF8
        case "wrong-types":
            body = json.dumps(_WRONG_TYPES.get(call, _WRONG_TYPES_ELSEWHERE)).encode()
        case "empty":
            body = b""
        case "html":
            body, content_type = _HTML, "text/html"
        case "errors-text":
            body = json.dumps({"status": "FAIL", "code": reply.code, "errors": reply.why}).encode()
        case "message-text":
            body = json.dumps({"status": "FAIL", "code": reply.code, "message": reply.why}).encode()
        case _:
            pass
    return Reply(reply.status, body, reply.code, reply.why, headers, content_type)


def _retry_after(hint: float | str, as_date: bool) -> str:
    if isinstance(hint, str):
        return hint
    if as_date:
        return format_datetime(datetime.now(UTC) + timedelta(seconds=hint), usegmt=True)
    return str(int(hint)) if hint == int(hint) else str(hint)


async def send(request: web.BaseRequest, reply: Reply, how: str | None) -> web.StreamResponse:
    """Write the answer. `how`: `truncated`, `huge`, or anything else for as it is."""
    if how in {"truncated", "huge"}:
        return await _send_badly(request, reply, how)
    response = web.Response(
        status=reply.status, body=reply.body, headers=reply.headers, content_type=reply.content_type
    )
    await response.prepare(request)
    await response.write_eof()
    return response


async def _send_badly(request: web.BaseRequest, reply: Reply, how: str) -> web.StreamResponse:
    response = web.StreamResponse(status=reply.status, headers=reply.headers)
    response.content_type = reply.content_type
    response.content_length = _HUGE if how == "huge" else len(reply.body) + 64
    await response.prepare(request)
    if how == "huge":
        await response.write(b'{"status":"OK","padding":"')
        for _ in range(_HUGE // len(_CHUNK) - 1):
            await response.write(_CHUNK)
        await response.write(b"x" * (len(_CHUNK) - 28) + b'"}')
        await response.write_eof()
    else:
        await response.write(reply.body[: max(1, len(reply.body) // 2)])
        if request.transport is not None:
            request.transport.close()  # what was written still leaves, then the connection ends
    return response


def cut(request: web.BaseRequest) -> web.StreamResponse:
    """Break the connection without a word; what is returned goes nowhere."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response()
