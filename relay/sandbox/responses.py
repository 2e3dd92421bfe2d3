"""The simulator's responses: their status, IMS code and body, how a fault spoils them, how they are sent.

The code of a response is the one that ims-v3 names; where it names none, the HTTP status takes its place
(the simulator's choice: the full list is not known outside Infor).
"""

import json
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

from aiohttp import web

from relay.sandbox.fault_spec import FaultSpec

_HUGE = 64 * 1024 * 1024
_CHUNK = b"x" * 65536
_BODILESS = frozenset({204, 205, 304})
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
"""Their Location does not exist: a client that follows it shows up in the request log as an unknown call."""

_HTML = b"<!DOCTYPE html><html><head><title>Gateway</title></head><body><h1>Upstream error</h1></body></html>"
_SPOILT = {
    "not-json": b'{"status": "OK", "code": 2',
    "not-utf8": b'\xff\xfe{"status":\xc3\x28"OK"}',
    "empty": b"",
}
_WRONG_TYPES = {
    "versions": {"supportedVersions": {"v3": True}},
    "acceptedDocuments": {"logicalId": 7, "acceptedDocuments": "all"},
    "token": {"access_token": 5, "token_type": ["Bearer"], "expires_in": "soon"},
}
_WRONG_TYPES_ELSEWHERE = {"status": 5, "code": "x", "errors": {"a": [1]}, "message": None}


@dataclass(frozen=True, slots=True)
class Response:
    """A response before faults are applied to it. `why`: what was wrong, for the request log."""

    status: int
    body: bytes
    code: int = 0
    why: str = ""
    headers: dict[str, str] = field(default_factory=dict[str, str])
    content_type: str = "application/json"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request is refused: HTTP status, IMS code and text."""

    status: int
    code: int
    text: str


ACCEPTED = Response(202, b'{"status":"OK","code":202}', 202)


def succeed(content: object) -> Response:
    """A success with a JSON body."""
    return Response(200, json.dumps(content, separators=(",", ":")).encode(), 200)


def fail(refusal: Refusal, headers: dict[str, str] | None = None) -> Response:
    """A refusal in IMS's own form: the text is in a list under `errors`."""
    body = {"status": "FAIL", "code": refusal.code, "errors": [refusal.text]}
    return Response(refusal.status, json.dumps(body).encode(), refusal.code, refusal.text, headers or {})


def fail_oauth(status: int, error: str, text: str) -> Response:
    """A refusal in the form of a token service (RFC 6749 section 5.2)."""
    headers = {"Cache-Control": "no-store"}
    if status == 401:
        headers["WWW-Authenticate"] = 'Basic realm="sandbox"'
    body = json.dumps({"error": error, "error_description": text}).encode()
    return Response(status, body, status, f"{error}: {text}", headers)


# --- faults ---------------------------------------------------------------------------------------


def respond_with_fault(spec: FaultSpec, call: str) -> Response | None:
    """The response that a fault asks for by its status, or None where it names none."""
    if spec.status is None:
        return None
    text = spec.error or "a fault was injected"
    if spec.status in _BODILESS:
        return Response(spec.status, b"", spec.status, text)
    if call == "token" and spec.status >= 400:
        return fail_oauth(spec.status, "invalid_grant" if spec.status == 400 else "server_error", text)
    code = spec.status if spec.code is None else spec.code
    if spec.status < 300:
        return Response(spec.status, json.dumps({"status": "OK", "code": code}).encode(), code)
    headers = {"Location": "/moved"} if spec.status in _REDIRECTS else {}
    return fail(Refusal(spec.status, code, text), headers)


def spoil(response: Response, spec: FaultSpec, call: str) -> Response:
    """The response with the fault's Retry-After and body; `send` takes care of `truncated` and `huge`."""
    headers = dict(response.headers)
    if spec.retry_after is not None:
        headers["Retry-After"] = _format_retry_after(spec.retry_after, spec.retry_after_date)
    body, content_type = response.body, response.content_type
    match spec.body:
        case "not-json" | "not-utf8" | "empty":
            body = _SPOILT[spec.body]
        case "wrong-types":
            body = json.dumps(_WRONG_TYPES.get(call, _WRONG_TYPES_ELSEWHERE)).encode()
        case "html":
            body, content_type = _HTML, "text/html"
        case "errors-text" | "message-text":
            name = spec.body.removesuffix("-text")
            body = json.dumps({"status": "FAIL", "code": response.code, name: response.why}).encode()
        case "truncated" | "huge" | None:
            pass
    return replace(response, body=body, headers=headers, content_type=content_type)


def _format_retry_after(hint: float | str, as_date: bool) -> str:
    if isinstance(hint, str):
        return hint
    if as_date:
        return format_datetime(datetime.now(UTC) + timedelta(seconds=hint), usegmt=True)
    return str(int(hint)) if hint == int(hint) else str(hint)


# --- sending --------------------------------------------------------------------------------------


async def send(request: web.BaseRequest, response: Response, body: str | None) -> web.StreamResponse:
    """Send the response. `body`: the fault's; `truncated` and `huge` are made here."""
    if body in {"truncated", "huge"}:
        return await _send_badly(request, response, is_huge=body == "huge")
    sent = web.Response(
        status=response.status,
        body=response.body,
        headers=response.headers,
        content_type=response.content_type,
    )
    await sent.prepare(request)
    await sent.write_eof()
    return sent


async def _send_badly(request: web.BaseRequest, response: Response, *, is_huge: bool) -> web.StreamResponse:
    sent = web.StreamResponse(status=response.status, headers=response.headers)
    sent.content_type = response.content_type
    sent.content_length = _HUGE if is_huge else len(response.body) + 64
    await sent.prepare(request)
    if is_huge:
        await sent.write(b'{"status":"OK","padding":"')
        for _ in range(_HUGE // len(_CHUNK) - 1):
            await sent.write(_CHUNK)
        await sent.write(b"x" * (len(_CHUNK) - 28) + b'"}')
        await sent.write_eof()
    else:
        await sent.write(response.body[: max(1, len(response.body) // 2)])
        if request.transport is not None:
            request.transport.close()  # what was written is still sent, then the connection ends
    return sent


def cut(request: web.BaseRequest) -> web.StreamResponse:
    """Break the connection without a response; what is returned is never sent."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response()
