"""Response bodies as values: what ION, or whoever answers in its place, says in them.

Pure, and no response, however hostile, raises. Its *meaning* is decided in `answers.py`. Sources: [S] Infor's
IMS v3 sample code and its swagger; [R] this relay's own choice where the sources are silent.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from relay.core.model import DocumentName
from relay.core.replies import Accepted, Form, NoReply, Versions
from relay.core.validation import MAX_DOCUMENT_NAME
from relay.ion.wire import MAX_DETAIL, one_line

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
