"""The simulator's responses: their status, IMS code and body, how a fault spoils them, how they are sent.

The code of a response is the one that ims-v3 names; where it names none, the HTTP status takes its place
(the simulator's choice: the full list is not known outside Infor).
"""

import json
import zlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from email.utils import format_datetime
from http import HTTPStatus
from itertools import repeat

from aiohttp import web

from relay.sandbox.fault_spec import BODILESS, Compression, FaultSpec
from relay.sandbox.raw_answers import frame, send_raw

_HUGE = 64 * 1024 * 1024
_CHUNK = b"x" * 65536
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
"""Their Location does not exist: a client that follows it shows up in the request log as an unknown call."""

_HTML = b"<!DOCTYPE html><html><head><title>Gateway</title></head><body><h1>Upstream error</h1></body></html>"
_REQUEST_REJECTED = (
    b"<html><head><title>Request Rejected</title></head><body>The requested URL was rejected. Please consult "
    b"with your administrator.<br><br>Your support ID is: 1234567890123456789</body></html>"
)
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
_MANY_NAMES = [f"Sync.Document{number:05}" for number in range(10_000)]
_IMPOSSIBLE_NAMES = ["", " ", "Sync.\nOrder", "Sync.\u0000", "\x1b[2J", "x" * 101, "Sync.Order "]
_CODE_TEXTS = {
    418: "Tenant id is missing",
    419: "fromLogicalId is required",
    448: "Tenant id has more than 22 characters",
    450: "Message payload is not in the declared encoding",
    453: "Message body is empty",
    456: "Invalid tenant id",
    458: "Invalid tenant id",
    470: "Wrong message part",
    471: "Invalid client id provided",
    477: "The message must have two parts",
    540: "Internal error",
}
_INTERNAL_ERROR = 540
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
    """The response that a fault asks for by its status or a refusal's body, or None where it names none."""
    if spec.status is None and not spec.refuses:
        return None
    status = spec.status or 200
    text = spec.error or _CODE_TEXTS.get(spec.code or 0, "a fault was injected")
    if status in BODILESS:
        return Response(status, b"", status, text)
    if call == "token" and (status >= 400 or spec.refuses):
        return fail_oauth(status, "invalid_grant" if status <= 400 else "server_error", text)
    usual = _INTERNAL_ERROR if spec.refuses and status < 300 else status
    code = usual if spec.code is None else spec.code
    if status < 300 and not spec.refuses:
        return Response(status, json.dumps({"status": "OK", "code": code}).encode(), code)
    headers = {"Location": "/moved"} if status in _REDIRECTS else {}
    return fail(Refusal(status, code, text), headers)


def spoil(response: Response, spec: FaultSpec, call: str, now: datetime) -> Response:
    """The response with the fault's Retry-After and body; `send` takes care of `truncated` and `huge`.

    `now`: by the clock of the tenant's ION.
    """
    headers = dict(response.headers)
    if spec.retry_after is not None:
        headers["Retry-After"] = _format_retry_after(spec.retry_after, spec.retry_after_date, now)
    body, content_type = response.body, response.content_type
    match spec.body:
        case "not-json" | "not-utf8" | "empty":
            body = _SPOILT[spec.body]
        case "wrong-types":
            body = json.dumps(_WRONG_TYPES.get(call, _WRONG_TYPES_ELSEWHERE)).encode()
        case "html":
            body, content_type = _HTML, "text/html"
        case "request-rejected":
            body, content_type = _REQUEST_REJECTED, "text/html"
        case "gateway-error":
            body = json.dumps({"error": spec.error or _phrase(response.status)}).encode()
        case "gateway-fault":
            detail = {
                "faultstring": spec.error or _phrase(response.status),
                "detail": {"errorcode": "gateway"},
            }
            body = json.dumps({"fault": detail}).encode()
        case "many-names" | "impossible-names":
            body = _list_names(body, spec.body)
        case "errors-text" | "message-text":
            name = spec.body.removesuffix("-text")
            body = json.dumps({"status": "FAIL", "code": response.code, name: response.why}).encode()
        case "fail" | "truncated" | "huge" | None:
            pass
    if spec.compress is not None:
        headers["Content-Encoding"] = spec.compress.removeprefix("raw-")
        body = body if spec.body == "huge" else compress(body, spec.compress)
    return replace(response, body=body, headers=headers, content_type=content_type)


def _phrase(status: int) -> str:
    """The words of a gateway that refuses, also where it does so with a success."""
    return HTTPStatus(status if status in set(HTTPStatus) and status >= 300 else 400).phrase


def _list_names(body: bytes, kind: str) -> bytes:
    """The list of acceptedDocuments with more names; a refusal stays as it is."""
    content = json.loads(body)
    if "acceptedDocuments" not in content:
        return body
    content["acceptedDocuments"] += _MANY_NAMES if kind == "many-names" else _IMPOSSIBLE_NAMES
    return json.dumps(content).encode()


def _compressor(kind: Compression) -> "zlib._Compress":
    """`deflate` is in zlib's format (RFC 1950), as HTTP says; `raw-deflate` in RFC 1951, as some send it."""
    bits = {"gzip": 31, "deflate": 15, "raw-deflate": -15}[kind]
    return zlib.compressobj(1, zlib.DEFLATED, bits)


def compress(body: bytes, kind: Compression) -> bytes:
    """The body in this content encoding."""
    compressor = _compressor(kind)
    return compressor.compress(body) + compressor.flush()


def _format_retry_after(hint: float | str, as_date: bool, now: datetime) -> str:
    if isinstance(hint, str):
        return hint
    if as_date:
        return format_datetime(now + timedelta(seconds=hint), usegmt=True)
    return str(int(hint)) if hint == int(hint) else str(hint)


# --- sending --------------------------------------------------------------------------------------


async def send(
    request: web.BaseRequest,
    response: Response,
    spec: FaultSpec | None,
    delay: Callable[[float], Awaitable[None]],
) -> web.StreamResponse:
    """Send the response as the fault says; `delay` waits."""
    if spec is not None and spec.body == "truncated":
        return await _send_truncated(request, response)
    if spec is not None and spec.body == "huge":
        return await _send_huge(request, response, spec.compress)
    if spec is not None and (spec.wire is not None or spec.write_rate is not None):
        headers = {"Content-Type": response.content_type, **response.headers}
        frames = frame(response.status, headers, response.body, spec.wire)
        return await send_raw(request, response.status, frames, spec.wire, spec.write_rate, delay)
    sent = web.Response(
        status=response.status,
        body=response.body,
        headers=response.headers,
        content_type=response.content_type,
    )
    await sent.prepare(request)
    await sent.write_eof()
    return sent


async def _send_truncated(request: web.BaseRequest, response: Response) -> web.StreamResponse:
    sent = web.StreamResponse(status=response.status, headers=response.headers)
    sent.content_type = response.content_type
    sent.content_length = len(response.body) + 64
    await sent.prepare(request)
    await sent.write(response.body[: max(1, len(response.body) // 2)])
    if request.transport is not None:
        request.transport.close()  # what was written is still sent, then the connection ends
    return sent


async def _send_huge(
    request: web.BaseRequest, response: Response, kind: Compression | None
) -> web.StreamResponse:
    """64 MiB of JSON; compressed, some 300 KB that become as much."""
    sent = web.StreamResponse(status=response.status, headers=response.headers)
    sent.content_type = response.content_type
    compressor = None if kind is None else _compressor(kind)
    if compressor is None:
        sent.content_length = _HUGE
    await sent.prepare(request)
    first, last = b'{"status":"OK","padding":"', b'"}'
    rest = _CHUNK[: len(_CHUNK) - len(first) - len(last)]
    for block in (first, *repeat(_CHUNK, _HUGE // len(_CHUNK) - 1), rest + last):
        if piece := block if compressor is None else compressor.compress(block):
            await sent.write(piece)
    await sent.write_eof(b"" if compressor is None else compressor.flush())
    return sent


def cut(request: web.BaseRequest) -> web.StreamResponse:
    """Break the connection without a response; what is returned is never sent."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response()
