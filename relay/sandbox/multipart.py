"""The parser of a multipartMessage body: exactly two parts.

Not aiohttp's reader, which costs more than the rest of the request. Codes as in ims-v3: 453 empty body, 477
not exactly the two parts, 470 a wrong part.
"""

import re
from dataclasses import dataclass

from relay.sandbox.responses import Refusal

PARAMETERS, PAYLOAD = "ParameterRequest", "MessagePayload"

_BOUNDARY = re.compile(r';\s*boundary=(?:"([^"]{1,70})"|([^\s";,]{1,70}))', re.IGNORECASE)
_NAME = re.compile(r';\s*name=(?:"([^"]*)"|([^\s";]*))', re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class BodyPart:
    """A part: its header fields (names in lower case) and its bytes."""

    headers: dict[str, str]
    content: bytes


def split_parts(content_type: str, body: bytes) -> tuple[BodyPart, BodyPart] | Refusal:
    """The two parts of a body, in order: parameters and payload, or why it is refused."""
    if content_type.partition(";")[0].strip().lower() != "multipart/form-data":
        return Refusal(415, 415, "Content-Type must be multipart/form-data")
    if not body:
        return Refusal(400, 453, "the body is empty")
    boundary = _BOUNDARY.search(content_type)
    if boundary is None:
        return Refusal(400, 477, "Content-Type names no boundary")
    parts = _read_parts((boundary[1] or boundary[2]).encode("latin-1", "replace"), body)
    if len(parts) != 2:
        return Refusal(
            400, 477, f"exactly the two parts {PARAMETERS} and {PAYLOAD} are required, found {len(parts)}"
        )
    first, second = parts
    refusal = _check_part(first, PARAMETERS, "application/json") or _check_part(
        second, PAYLOAD, "application/octet-stream"
    )
    return refusal or (first, second)


def _read_parts(boundary: bytes, body: bytes) -> list[BodyPart]:
    """Every complete part, up to three (three are too many already); none where the framing is broken."""
    delimiter = b"\r\n--" + boundary
    found: list[BodyPart] = []
    if body.startswith(delimiter[2:]):
        at = len(delimiter) - 2
    else:  # a preamble is allowed before the first delimiter (RFC 2046)
        start = body.find(delimiter)
        if start < 0:
            return []
        at = start + len(delimiter)
    while body[at : at + 2] != b"--":
        end = body.find(delimiter, at)
        part = _read_part(body, at, end)
        if part is None:
            return []
        found.append(part)
        if len(found) > 2:
            break
        at = end + len(delimiter)
    return found


def _read_part(body: bytes, at: int, end: int) -> BodyPart | None:
    if end < 0 or body[at : at + 2] != b"\r\n":
        return None
    blank = body.find(b"\r\n\r\n", at, end + 2)
    if blank < 0:
        return None
    headers = {}
    for line in body[at + 2 : blank].split(b"\r\n"):
        name, colon, value = line.partition(b":")
        if not colon:
            return None
        headers[name.decode("latin-1").strip().lower()] = value.decode("latin-1").strip()
    return BodyPart(headers, body[blank + 4 : end])


def _check_part(part: BodyPart, name: str, media: str) -> Refusal | None:
    disposition = part.headers.get("content-disposition", "")
    found = _NAME.search(disposition)
    if not disposition.lower().startswith("form-data") or found is None or (found[1] or found[2]) != name:
        return Refusal(400, 470, f'the part {name} must have Content-Disposition: form-data; name="{name}"')
    if part.headers.get("content-type", "").partition(";")[0].strip().lower() != media:
        return Refusal(400, 470, f"the part {name} must have Content-Type {media}")
    if name == PAYLOAD and part.headers.get("content-transfer-encoding", "binary").lower() != "binary":
        return Refusal(400, 470, f"the part {name} must have Content-Transfer-Encoding binary")
    return None
