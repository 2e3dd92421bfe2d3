"""Response bodies as values: what ION, or whoever answers in its place, says in them.

Pure, and no response, however hostile, raises. Its *meaning* is decided in `answers.py`. Sources: [S] Infor's
IMS v3 sample code and its swagger; [R] this relay's own choice where the sources are silent.
"""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from html import unescape
from typing import Any
from urllib.parse import urlsplit

from relay.core.model import DocumentName
from relay.core.replies import Accepted, Form, NoReply, Versions
from relay.core.validation import MAX_DOCUMENT_NAME
from relay.ion.wire import MAX_DETAIL, one_line

_TITLE = re.compile(r"<title(?:\s[^>]{0,100})?>(.{0,200}?)</title>", re.IGNORECASE | re.DOTALL)
_HEADING = re.compile(r"<h1(?:\s[^>]{0,100})?>(.{0,200}?)</h1>", re.IGNORECASE | re.DOTALL)
_TAG = re.compile(r"<[^<>]{0,200}>")
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
    if names and not any(isinstance(name, str) for name in names):
        return f'expected {{"{key}": ["…"]}}, and the first entry is {_shape(names[0])}'
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


_HTML = re.compile(
    rb"<(?:!doctype\s+html|html)\b|\A[\xef\xbb\xbf\s]*+<(?:head|body|title|meta|script|style|iframe|center|h1)\b",
    re.IGNORECASE,
)
_FAIL = re.compile(r"(?<![\w-])FAIL(?:ED|URE)?(?![\w-])|\A\W*+(?i:fail(?:ed|ure)?)(?![\w-])")
_SEARCHED, _STATEMENT = 64 * 1024, 300
"""Bytes in which a page is searched for, and characters for FAIL: further on, a text may be an echo."""


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
        if "html" in content_type.lower() or _HTML.search(body[:_SEARCHED].replace(b"\0", b"")):
            return Said("html", detail=_html_heading(body, mask) or f"an HTML page ({len(body)} bytes)")
        return Said("other", failed=_says_fail(body[:_STATEMENT].decode("latin-1")), detail=found.what)
    objects = list(_objects(found))
    outer = objects[0] if isinstance(found, dict) else {}
    said = _read_object(outer, mask)
    if said.form != "ims":
        inner = (one for one in objects if _says_fail(one.get("status")))
        said = next((_read_object(one, mask) for one in inner), said)
    if isinstance(found, dict) or said.failed:
        return said
    return Said("other", failed=_says_fail(found), detail=f"the answer is {_shape(found)}")


def _objects(found: object, depth: int = 0) -> Iterator[dict[str, object]]:
    """The JSON objects of an answer, the outer ones first, with their names in lower case.

    A wrapper suite may put ION's answer into one of its own [R].
    """
    if isinstance(found, dict):
        yield {name.lower(): value for name, value in found.items()}
        found = list(found.values())
    if isinstance(found, list) and depth < _DEEPEST:
        for one in found[:_MANY]:
            yield from _objects(one, depth + 1)


def _read_object(found: dict[str, object], mask: Callable[[str], str]) -> Said:
    """IMS's status is a word: a number there is a gateway's, and so is a code in quotes that stands alone."""
    status, code = found.get("status"), found.get("code")
    in_words = isinstance(status, str) and any(map(str.isalpha, status))
    number = _number(code)
    failed = _says_fail(status) or max(number, _number(status)) >= _LEAST_ERROR
    is_code = 0 <= number <= _GREATEST_CODE and (in_words or not isinstance(code, str))
    form: Form = "ims" if in_words or is_code else "other"
    return Said(form, failed, number if is_code else None, _error_text(found, mask))


_DEEPEST, _MANY = 3, 20
_LEAST_ERROR, _GREATEST_CODE = 400, 99_999


def _says_fail(value: object) -> bool:
    return isinstance(value, str) and _FAIL.search(value) is not None


def _number(value: object) -> int:
    """Of a JSON number without a fraction, or of a text of digits; -1 where it is neither."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= _DIGITS:
        return int(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else -1


_DIGITS = 9
_TEXTS = (
    "errors", "message", "error_description", "errordescription", "errormessage", "error", "fault",
    "faultstring", "detail", "moreinformation", "httpmessage", "description", "msg", "title", "reason",
)  # fmt: skip
"""Where errors stand, in lower case: ION's first, then those of gateways and token services."""


def _error_text(value: object, mask: Callable[[str], str], depth: int = 0) -> str:
    match value:
        case str():
            return mask(value)[: 2 * MAX_DETAIL]
        case list() if depth <= _DEEPEST:
            return "; ".join(filter(None, (_error_text(one, mask, depth + 1) for one in value[:5])))
        case dict() if depth <= _DEEPEST:
            named = {name.lower(): inner for name, inner in value.items()}
            texts = (one_line(_error_text(named.get(name), mask, depth + 1)) for name in _TEXTS)
            return next(filter(None, texts), "")
        case _:
            return ""


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


def _html_title(body: bytes, mask: Callable[[str], str], element: re.Pattern[str] = _TITLE) -> str | None:
    """The error pages of gateways and proxies name the error in their title."""
    found = element.search(body[:4096].decode("utf-8", "replace"))
    text = "" if found is None else one_line(mask(unescape(_TAG.sub(" ", found[1]))), 100)
    return f"an HTML page: {text}" if text else None


def _html_heading(body: bytes, mask: Callable[[str], str]) -> str | None:
    return _html_title(body, mask) or _html_title(body, mask, _HEADING)


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
