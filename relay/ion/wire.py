"""IMS v3 on the wire: request URLs, headers and bodies as bytes, and response bodies as values.

Pure: nothing is sent here, nothing is random, and no response, however hostile, raises. Its *meaning* is
decided in `answers.py`. Sources: [G] ION Connect developer guide, "IMS v3"; [S] Infor's IMS v3 sample
code and its swagger; [R] this relay's own choice where the sources are silent.
"""

import json
import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from json.encoder import encode_basestring_ascii as _quoted
from typing import Any, Literal
from urllib.parse import quote, urlsplit

from relay.core.model import TRACEPARENT, DocumentName, LogicalId, Message
from relay.core.parameters import read_parameters
from relay.core.ports import EncodedPost
from relay.core.replies import Accepted, Form, NoReply, Versions
from relay.core.validation import MAX_DOCUMENT_NAME, Problem

IonCall = Literal["ping", "versions", "acceptedDocuments", "post"]

MAX_DETAIL = 300
"""Characters of a server's error text that are kept for logs, statuses and reasons."""

# --- URLs: already percent-encoded, to be sent as they are --------------------------------------------------

_ESCAPE = re.compile(r"%[0-9A-F]{2}")


def ping_url(base: str) -> str:
    """GET: 200 when ION accepts messages [G]. `base`: the service's URL, `…/service`."""
    return f"{base.rstrip('/')}/ping"


def versions_url(base: str) -> str:
    """GET: the supported versions of the messaging service [G]."""
    return f"{base.rstrip('/')}/versions"


def accepted_documents_url(base: str, logical_id: LogicalId) -> str:
    """GET: the documents that ION accepts from this logical id, which is one escaped path segment [S].

    >>> accepted_documents_url("https://ion.example/service", LogicalId("lid://acme.orders.1"))
    'https://ion.example/service/v3/lid%3a%2f%2facme.orders.1/acceptedDocuments'
    """
    segment = _ESCAPE.sub(lambda escape: escape[0].lower(), quote(logical_id, safe=""))
    return f"{base.rstrip('/')}/v3/{segment}/acceptedDocuments"


def multipart_message_url(base: str) -> str:
    """POST: one message [G]."""
    return f"{base.rstrip('/')}/v3/multipartMessage"


# --- the body of a post ---------------------------------------------------------------------------

_BOUNDARY = b"ion-relay-4f1d0c6be27a93585f3e"
"""Used unless it occurs in the content: a constant, so that nothing random is needed."""

_PARAMETERS_HEADER = (
    b'\r\nContent-Disposition: form-data; name="ParameterRequest"\r\nContent-Type: application/json\r\n\r\n'
)
_PAYLOAD_HEADER = (
    b'\r\nContent-Disposition: form-data; name="MessagePayload"\r\n'
    b"Content-Type: application/octet-stream\r\nContent-Transfer-Encoding: binary\r\n\r\n"
)
_RESERVED = frozenset(
    {"documentName", "fromLogicalId", "toLogicalId", "messageId", "encoding", "characterSet", TRACEPARENT}
)
"""Parameters that the relay sets or uses itself; stored ones are not sent."""

_COMMON_HEADERS = {"Accept": "application/json", "Accept-Encoding": "identity"}


def request_headers(tenant_id: str, user_agent: str) -> dict[str, str]:
    """The headers of every request to ION, without the credentials [G] [S]."""
    return {**_COMMON_HEADERS, "X-TenantId": tenant_id, "User-Agent": user_agent}


def encode_post(message: Message, sender: LogicalId, deflate_from: int) -> EncodedPost:
    """The two parts of multipartMessage, in this order, as one byte string [S].

    The payload is compressed from `deflate_from` bytes on. Raises ValueError if the stored parameters
    cannot be read (`validation.parameter_problems` reports their other problems when they are enqueued).
    """
    compressed = len(message.payload) >= deflate_from
    payload = zlib.compress(message.payload) if compressed else message.payload
    parameters = _parameters(message, sender, "DEFLATE" if compressed else "NONE")
    boundary = _BOUNDARY
    if boundary in payload or boundary in parameters:
        boundary = _unused_boundary(payload, parameters)
    first, second = b"--" + boundary + _PARAMETERS_HEADER, b"\r\n--" + boundary + _PAYLOAD_HEADER
    data = b"".join((first, parameters, second, payload, b"\r\n--", boundary, b"--\r\n"))
    return EncodedPost(f"multipart/form-data; boundary={boundary.decode('ascii')}", data)


def _parameters(message: Message, sender: LogicalId, encoding: str) -> bytes:
    """The mandatory ones, formatted without `json` for the hot path; then the stored optional ones."""
    fixed = (
        f'{{"documentName": {_quoted(message.document_name)}, "fromLogicalId": {_quoted(sender)}, '
        f'"toLogicalId": {_quoted(message.to_logical_id)}, "messageId": {_quoted(message.message_id)}, '
        f'"encoding": "{encoding}", "characterSet": "UTF-8"'
    )
    return f"{fixed}{_optional_members(message.parameters)}}}".encode("ascii")


def _optional_members(parameters: str) -> str:
    """The stored parameters as further JSON members; a null is omitted rather than sent [S]."""
    if parameters == "{}":
        return ""
    match read_parameters(parameters):
        case Problem() as problem:
            raise ValueError(str(problem))
        case found:
            sent = {
                name: value for name, value in found.items() if value is not None and name not in _RESERVED
            }
            return f", {json.dumps(sent, allow_nan=False)[1:-1]}" if sent else ""


def _unused_boundary(*parts: bytes) -> bytes:
    """The first of a fixed series of boundaries that none of the parts contains."""
    number = 1
    while any(b"%b-%d" % (_BOUNDARY, number) in part for part in parts):
        number += 1
    return b"%b-%d" % (_BOUNDARY, number)


# --- reading responses ------------------------------------------------------------------------------

_TITLE = re.compile(r"<title(?:\s[^>]{0,100})?>(.{0,200}?)</title>", re.IGNORECASE | re.DOTALL)
_MAX_VERSION_LENGTH, _MAX_VERSIONS = 10, 20
_NOT_IN_A_ROW = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
"""Control characters, which the outbox refuses, and halves of surrogate pairs, which are no text."""


def read_versions(body: bytes) -> Versions | NoReply:
    """`{"supportedVersions": ["v1", "v2", "v3"]}` [S]."""
    names = _read_names(body, "supportedVersions")
    if isinstance(names, str):
        return NoReply(f"versions: {names}")
    possible = (one for one in names if isinstance(one, str) and len(one) <= _MAX_VERSION_LENGTH)
    return Versions(tuple(map(one_line, possible))[:_MAX_VERSIONS])


def read_accepted(body: bytes) -> Accepted | NoReply:
    """`{"logicalId": "lid://…", "acceptedDocuments": ["Sync.SalesOrder", …]}`; case-sensitive names [S].

    What no row of the outbox can have as its name is left out: a store refuses a NUL or half a surrogate pair
    in a query, and that would stop the other documents too [R].
    """
    names = _read_names(body, "acceptedDocuments")
    if isinstance(names, str):
        return NoReply(f"acceptedDocuments: {names}")
    texts = {name for name in names if isinstance(name, str)}
    possible = frozenset(DocumentName(name) for name in texts if _is_possible_document(name))
    odd = sum(not isinstance(name, str) for name in names)
    return Accepted(possible, ignored=odd + len(texts) - len(possible))


def _is_possible_document(name: str) -> bool:
    """What the constraint of the outbox admits, which is more than `document_name_problem` does."""
    return 1 <= len(name) <= MAX_DOCUMENT_NAME and not name.isspace() and not _NOT_IN_A_ROW.search(name)


def _read_names(body: bytes, key: str) -> list[object] | str:
    """The array under this key, or what the answer is instead."""
    found = _parse(body)
    if isinstance(found, _Unreadable):
        return found.what
    names = found.get(key) if isinstance(found, dict) else None
    if not isinstance(names, list):
        return f'expected {{"{key}": […]}}, and the answer is {_shape(found)}'
    return names


def _shape(value: object) -> str:
    match value:
        case dict():
            names = ", ".join(one_line(str(name), 40) for name in list(value)[:5])
            return f"a JSON object with {names}" if names else "an empty JSON object"
        case list():
            return "a JSON array"
        case _:
            return f"a JSON {'null' if value is None else type(value).__name__}"


_FAIL = "FAIL"
_HTML = re.compile(
    rb"[\xef\xbb\xbf\s]*+(?:<\?xml[^>]{0,200}\?>\s*+)?+(?:(?><!--.{0,2000}?-->)\s*+)*+"
    rb"<(?:!doctype\s+html|html|head|body)\b",
    re.IGNORECASE | re.DOTALL,
)
"""Nothing is tried in two ways: else forty comments in a row are tried in more ways than end in a year."""


@dataclass(frozen=True, slots=True)
class Said:
    """What an answer's body says. `failed`: that the call failed. `detail`: its error text, or what it is."""

    form: Form
    failed: bool = False
    code: int | None = None
    detail: str = ""


def read_answer(body: bytes, content_type: str = "", mask: Callable[[str], str] = str) -> Said:
    """The form of an answer's body, IMS's internal code, and the error text in any of its formats [S].

    ION's text stands under `errors` (a string or an array) or under `message`; gateways have their own names.
    `mask`: applied to the text before it is cut, since half a secret is one too.
    """
    if not body.strip():
        return Said("empty")
    found = _parse(body, mask)
    if isinstance(found, _Unreadable):
        if "html" in content_type.lower() or _HTML.match(body):
            return Said("html", detail=_html_title(body, mask) or f"an HTML page ({len(body)} bytes)")
        return Said("other", detail=found.what)
    if not isinstance(found, dict):
        return Said("other", detail=f"the answer is {_shape(found)}")
    status, code = found.get("status"), _read_code(found.get("code"))
    is_ims = isinstance(status, str) or code is not None
    failed = (isinstance(status, str) and status.upper() == _FAIL) or (code is not None and code >= 400)
    return Said("ims" if is_ims else "other", failed, code, _error_text(found, mask))


_TEXTS = (
    "errors",
    "message",
    "error_description",
    "error",
    "fault",
    "faultstring",
    "detail",
    "title",
    "reason",
)
"""Where errors stand: ION's first, then those of gateways and token services."""
_DEEPEST = 3


def _error_text(found: dict[str, object], mask: Callable[[str], str], depth: int = 0) -> str:
    for name in _TEXTS:
        value = found.get(name)
        if isinstance(value, dict) and depth < _DEEPEST:
            text = _error_text(value, mask, depth + 1)
        else:
            text = one_line("; ".join(_strings(value, mask)))
        if text:
            return text
    return ""


def _strings(value: object, mask: Callable[[str], str]) -> list[str]:
    values: list[object] = value[:5] if isinstance(value, list) else [value]
    return [mask(text)[: 2 * MAX_DETAIL] for text in values if isinstance(text, str) and text]


def _read_code(code: object) -> int | None:
    if isinstance(code, bool) or not isinstance(code, int):
        return None
    return code if 0 <= code <= 99_999 else None


@dataclass(frozen=True, slots=True)
class _Unreadable:
    what: str


def _parse(body: bytes, mask: Callable[[str], str] = str) -> Any:
    """The body's JSON value, or `_Unreadable`. Other content is not quoted: it may echo what was sent."""
    if not body.strip():
        return _Unreadable("the answer is empty")
    try:
        return json.loads(body)
    except (ValueError, RecursionError):  # ValueError: not JSON, not UTF-8, a number of 5,000 digits
        return _Unreadable(_html_title(body, mask) or f"the answer is not JSON ({len(body)} bytes)")


def _html_title(body: bytes, mask: Callable[[str], str]) -> str | None:
    """The error pages of gateways and proxies name the error in their title."""
    found = _TITLE.search(body[:4096].decode("utf-8", "replace"))
    return one_line(f"an HTML page: {mask(found[1])}", 120) if found else None


def describe_redirect(location: str) -> str:
    """The target of a redirect as text, without path and query, which may contain secrets.

    >>> describe_redirect("https://login.example/as?state=secret")
    'redirected to https://login.example'
    """
    try:
        parts = urlsplit(location[:2000])
        host, port = parts.hostname, parts.port
    except ValueError:
        return "redirected to an unreadable URL"
    if not host:
        return "redirected on the same host"
    return one_line(f"redirected to {parts.scheme}://{host}" + (f":{port}" if port else ""), 120)


def one_line(text: str, limit: int = MAX_DETAIL) -> str:
    """Foreign text made safe for a log line: one line, printable, at most `limit` characters."""
    start = text[: 4 * limit]
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in start).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"
