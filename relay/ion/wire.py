"""This file is how requests to ION and its replies look as bytes.

Pure: nothing is sent here, nothing is random, and no reply, however hostile, raises. What a reply *means*
is decided in `protocol.py`. Sources: [G] ION Connect developer guide, "IMS v3"; [S] Infor's IMS v3 sample
code and its swagger; [R] this relay's own choice where the sources are silent.
"""

import json
import re
import zlib
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from json.encoder import encode_basestring_ascii as _quoted
from typing import Any
from urllib.parse import quote, urlsplit

from relay.core.model import TRACEPARENT, DocumentName, LogicalId, Message
from relay.core.replies import Accepted, NoReply, Versions

DEFLATE_FROM = 8 * 1024
"""Bytes of payload from which it is compressed, unless the settings say otherwise."""

LONGEST_DETAIL = 300
"""Characters of the far side's own words that are kept for logs, statuses and reasons."""

# --- URLs: strings, ready to be sent as they are --------------------------------------------------

_ESCAPE = re.compile(r"%[0-9A-F]{2}")


def ping_url(base: str) -> str:
    """GET: 200 when ION takes messages [G]. `base`: the service's URL, `…/service`."""
    return f"{base.rstrip('/')}/ping"


def versions_url(base: str) -> str:
    """GET: the supported versions of the messaging service [G]."""
    return f"{base.rstrip('/')}/versions"


def accepted_documents_url(base: str, logical_id: LogicalId) -> str:
    """GET: the documents that ION takes from this logical id, which is one escaped path segment [S].

    >>> accepted_documents_url("https://ion.example/service", LogicalId("lid://acme.orders.1"))
    'https://ion.example/service/v3/lid%3a%2f%2facme.orders.1/acceptedDocuments'
    """
    segment = _ESCAPE.sub(lambda escape: escape[0].lower(), quote(logical_id, safe=""))
    return f"{base.rstrip('/')}/v3/{segment}/acceptedDocuments"


def multipart_message_url(base: str) -> str:
    """POST: one message [G]."""
    return f"{base.rstrip('/')}/v3/multipartMessage"


# --- the body of a post ---------------------------------------------------------------------------

_MARK = b"ion-relay-4f1d0c6be27a93585f3e"
"""The boundary, unless it occurs in what is sent: always the same, nothing random is needed."""

_FIRST_PART = (
    b'\r\nContent-Disposition: form-data; name="ParameterRequest"\r\nContent-Type: application/json\r\n\r\n'
)
_SECOND_PART = (
    b'\r\nContent-Disposition: form-data; name="MessagePayload"\r\n'
    b"Content-Type: application/octet-stream\r\nContent-Transfer-Encoding: binary\r\n\r\n"
)
_DECIDED = frozenset(
    {"documentName", "fromLogicalId", "toLogicalId", "messageId", "encoding", "characterSet", TRACEPARENT}
)
"""Parameters that the relay decides or takes for itself; stored ones are not sent."""

_COMMON_HEADERS = {"Accept": "application/json", "Accept-Encoding": "identity"}


@dataclass(frozen=True, slots=True)
class Body:
    """A multipart body: its `Content-Type` and its bytes."""

    content_type: str
    data: bytes = field(repr=False)


def headers(tenant_id: str, user_agent: str) -> dict[str, str]:
    """What every request to ION carries, the credentials apart [G] [S]."""
    return {**_COMMON_HEADERS, "X-TenantId": tenant_id, "User-Agent": user_agent}


def body(message: Message, sender: LogicalId, deflate_from: int = DEFLATE_FROM) -> Body:
    """The two parts of multipartMessage, in their order, as one piece of bytes [S].

    The payload is compressed from `deflate_from` bytes on. Raises ValueError where the stored parameters
    are not a JSON object (`model.parameter_problems` tells beforehand what else is wrong with them).
    """
    compressed = len(message.payload) >= deflate_from
    payload = zlib.compress(message.payload) if compressed else message.payload
    parameters = _parameters(message, sender, "DEFLATE" if compressed else "NONE")
    if _MARK in payload or _MARK in parameters:
        return _joined(_other_boundary(payload, parameters), parameters, payload)
    return _joined(_MARK, parameters, payload)


def _joined(mark: bytes, parameters: bytes, payload: bytes) -> Body:
    first, second = b"--" + mark + _FIRST_PART, b"\r\n--" + mark + _SECOND_PART
    data = b"".join((first, parameters, second, payload, b"\r\n--", mark, b"--\r\n"))
    return Body(f"multipart/form-data; boundary={mark.decode('ascii')}", data)


def _parameters(message: Message, sender: LogicalId, encoding: str) -> bytes:
    """Always these, written by hand for the hot path; then the optional ones that were stored."""
    fixed = (
        f'{{"documentName": {_quoted(message.document_name)}, "fromLogicalId": {_quoted(sender)}, '
        f'"toLogicalId": {_quoted(message.to_logical_id)}, "messageId": {_quoted(message.message_id)}, '
        f'"encoding": "{encoding}", "characterSet": "UTF-8"'
    )
    return f"{fixed}{_stored(message.parameters)}}}".encode("ascii")


def _stored(parameters: str) -> str:
    """The optional parameters as further members; a field is left out rather than sent as null [S]."""
    if parameters == "{}":
        return ""
    match json.loads(parameters):
        case dict() as found:
            kept = {
                name: value for name, value in found.items() if value is not None and name not in _DECIDED
            }
            return f", {json.dumps(kept, allow_nan=False)[1:-1]}" if kept else ""
        case _:
            raise ValueError("the stored parameters are not a JSON object")


def _other_boundary(*parts: bytes) -> bytes:
    """The first of a fixed row of boundaries that none of the parts contains."""
    turn = 1
    while any(b"%b-%d" % (_MARK, turn) in part for part in parts):
        turn += 1
    return b"%b-%d" % (_MARK, turn)


# --- reading replies ------------------------------------------------------------------------------

_TITLE = re.compile(r"<title(?:\s[^>]{0,100})?>(.{0,200}?)</title>", re.IGNORECASE | re.DOTALL)
_LONGEST_VERSION, _MOST_VERSIONS = 10, 20
_SECONDS = re.compile(r"[0-9]{1,12}")


def read_versions(reply: bytes) -> Versions | NoReply:
    """`{"supportedVersions": ["v1", "v2", "v3"]}` [S]."""
    listed = _listed(reply, "supportedVersions")
    if isinstance(listed, str):
        return NoReply(f"versions: {listed}")
    return Versions(
        tuple(one_line(name) for name in listed if len(name) <= _LONGEST_VERSION)[:_MOST_VERSIONS]
    )


def read_accepted(reply: bytes) -> Accepted | NoReply:
    """`{"logicalId": "lid://…", "acceptedDocuments": ["Sync.SalesOrder", …]}`; case-sensitive names [S]."""
    listed = _listed(reply, "acceptedDocuments")
    if isinstance(listed, str):
        return NoReply(f"acceptedDocuments: {listed}")
    return Accepted(frozenset(DocumentName(name) for name in listed))


def _listed(reply: bytes, name: str) -> list[str] | str:
    """The texts listed under this name, or what is wrong."""
    found = _json(reply)
    if isinstance(found, _Nonsense):
        return found.what
    listed = found.get(name) if isinstance(found, dict) else None
    if not isinstance(listed, list) or not all(isinstance(entry, str) for entry in listed):
        return f"the answer has no list of texts under {name}"
    return listed


def read_reply(reply: bytes) -> tuple[int | None, str]:
    """IMS's internal code and its text, from whichever of the three shapes it uses [S]; else what it is.

    The text stands under `errors` (one text or a list) or under `message`.
    """
    found = _json(reply)
    if isinstance(found, _Nonsense):
        return None, found.what if reply.strip() else ""
    if not isinstance(found, dict):
        return None, "the answer is not a JSON object"
    said = _texts(found.get("errors")) or _texts(found.get("message"))
    return _code(found.get("code")), one_line("; ".join(said))


def _texts(said: object) -> list[str]:
    listed: list[object] = said[:5] if isinstance(said, list) else [said]
    return [text[: 2 * LONGEST_DETAIL] for text in listed if isinstance(text, str) and text]


def _code(code: object) -> int | None:
    if isinstance(code, bool) or not isinstance(code, int):
        return None
    return code if 0 <= code <= 99_999 else None


@dataclass(frozen=True, slots=True)
class _Nonsense:
    what: str


def _json(reply: bytes) -> Any:
    """What the bytes say as JSON, or `_Nonsense`. Parts of the reply are only shown where they help."""
    if not reply.strip():
        return _Nonsense("the answer is empty")
    try:
        return json.loads(reply)
    except (ValueError, RecursionError):  # ValueError: not JSON, not UTF-8, a number of 5,000 digits
        return _Nonsense(_title(reply) or f"the answer is not JSON ({len(reply)} bytes)")


def _title(reply: bytes) -> str | None:
    """A gateway's or proxy's HTML page says what happened in its title."""
    found = _TITLE.search(reply[:4096].decode("utf-8", "replace"))
    return one_line(f"an HTML page: {found[1]}", 120) if found else None


def read_retry_after(header: str | None, now: datetime) -> float | None:
    """`Retry-After` in seconds from `now` (aware), given as seconds or as a date (RFC 9110); else None."""
    if header is None:
        return None
    text = header.strip()
    if _SECONDS.fullmatch(text):
        return float(text)
    try:
        date = parsedate_to_datetime(text[:64])
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    at = date if date.tzinfo is not None else date.replace(tzinfo=UTC)
    return max(0.0, (at - now).total_seconds())


def redirect_target(location: str) -> str:
    """Where a redirect leads, in words, without its path and query, which may hold secrets.

    >>> redirect_target("https://login.example/as?state=secret")
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


def one_line(text: str, limit: int = LONGEST_DETAIL) -> str:
    """Somebody else's words made safe for a log line: one line, printable, at most `limit` characters."""
    begin = text[: 4 * limit]
    words = "".join(letter if letter.isprintable() else " " for letter in begin).split()
    line = " ".join(words)
    return line if len(line) <= limit else line[: limit - 1] + "…"
