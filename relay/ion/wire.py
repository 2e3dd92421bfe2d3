"""IMS v3 on the wire: request URLs, headers and bodies as bytes.

Pure: nothing is sent here, and nothing is random. Responses are read in `response_bodies.py`. Sources:
[G] ION Connect developer guide, "IMS v3"; [S] Infor's IMS v3 sample code and its swagger; [R] this relay's
own choice where the sources are silent.
"""

import json
import re
import zlib
from json.encoder import encode_basestring_ascii as _quoted
from urllib.parse import quote

from relay.core.model import TRACEPARENT, LogicalId, Message
from relay.core.parameters import read_parameters
from relay.core.ports import EncodedPost
from relay.core.validation import Problem

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


# --- foreign text ---------------------------------------------------------------------------------


def one_line(text: str, limit: int = MAX_DETAIL) -> str:
    """Foreign text made safe for a log line: one line, printable, at most `limit` characters."""
    start = text[: 4 * limit]
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in start).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"
