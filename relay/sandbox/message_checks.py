"""Checks of a posted message: its parameters, and its payload after inflating.

Fields and limits as in ims-v3 section 1. The simulator's own choices: unknown fields are allowed, null is
refused, a missing `encoding` means NONE, and the size limit holds before and after inflating.
"""

import json
import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from relay.sandbox.multipart import split_parts
from relay.sandbox.responses import Refusal

_MAX_LENGTHS = {
    "documentName": 100,
    "fromLogicalId": 250,
    "toLogicalId": 250,
    "messageId": 250,
    "accountingEntity": 22,
    "location": 22,
    "revisionId": 22,
    "documentId": 100,
    "batchId": 250,
}
_INTEGERS = ("variationId", "batchSequence", "batchSize", "batchRevision")
_MAX_INTEGER = 2**63 - 1
_LOGICAL_IDS = ("fromLogicalId", "toLogicalId")
_CUSTOM = re.compile(r"custom_[A-Za-z0-9]{1,250}", re.IGNORECASE)
_ZLIB_HEADERS = (b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda")


@dataclass(frozen=True, slots=True)
class ReceivedMessage:
    """A posted message as far as it could be read. `document`: the payload, inflated.

    `refusal`: why the message itself is refused, whoever sent it.
    """

    parameters: Mapping[str, Any] = field(default_factory=dict[str, Any])
    document: bytes = b""
    refusal: Refusal | None = None

    @property
    def message_id(self) -> str | None:
        """The message's id, if it has one."""
        return self._text("messageId")

    @property
    def document_name(self) -> str | None:
        """The document's name, if it has one."""
        return self._text("documentName")

    def _text(self, name: str) -> str | None:
        value = self.parameters.get(name)
        return value if isinstance(value, str) else None


def read_message(content_type: str, body: bytes, limit: int) -> ReceivedMessage:
    """Read a multipartMessage. `limit`: maximum size of a document in bytes, before and after inflating."""
    parts = split_parts(content_type, body)
    if isinstance(parts, Refusal):
        return ReceivedMessage(refusal=parts)
    parameters = _read_object(parts[0].content)
    if isinstance(parameters, Refusal):
        return ReceivedMessage(refusal=parameters)
    wrong = list(_check_parameters(parameters))
    payload = parts[1].content
    if len(payload) > limit:
        return ReceivedMessage(parameters, b"", Refusal(413, 413, f"the payload has more than {limit} bytes"))
    document = _inflate(parameters.get("encoding", "NONE"), payload, limit)
    if isinstance(document, Refusal):
        return ReceivedMessage(parameters, b"", wrong[0] if wrong else document)
    return ReceivedMessage(parameters, document, wrong[0] if wrong else None)


def _read_object(content: bytes) -> dict[str, Any] | Refusal:
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        return Refusal(400, 470, "the part ParameterRequest is not JSON")
    if not isinstance(found, dict):
        return Refusal(400, 470, "the part ParameterRequest is not a JSON object")
    return found


def _check_parameters(parameters: Mapping[str, Any]) -> Iterator[Refusal]:
    if "fromLogicalId" not in parameters:
        yield Refusal(400, 419, "fromLogicalId is required")
    if "documentName" not in parameters:
        yield Refusal(400, 400, "documentName is required")
    for name, value in parameters.items():
        if rule := _find_broken_rule(name, value):
            yield Refusal(400, 419 if name == "fromLogicalId" else 400, f"{name[:260]} {rule}")


def _find_broken_rule(name: str, value: object) -> str | None:
    """The rule that this parameter breaks, as a text that follows its name."""
    if value is None:
        return "is null: leave it out instead"
    if name in _MAX_LENGTHS:
        if not isinstance(value, str) or not 1 <= len(value) <= _MAX_LENGTHS[name]:
            return f"must be a text of 1 to {_MAX_LENGTHS[name]} characters"
        if name in _LOGICAL_IDS and not value.startswith("lid://"):
            return "must begin with lid://"
    elif name in _INTEGERS:
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _MAX_INTEGER:
            return "must be a whole number from 0 to 2^63-1"
    elif name == "batchAbortIndicator":
        return None if isinstance(value, bool) else "must be true or false"
    elif name.lower().startswith("custom_"):
        if not _CUSTOM.fullmatch(name) or not isinstance(value, str):
            return "must be custom_ and up to 250 letters or digits, and its value a text"
    elif name == "characterSet":
        return None if isinstance(value, str) and value.upper() == "UTF-8" else "must be UTF-8"
    return None


def _inflate(encoding: object, payload: bytes, limit: int) -> bytes | Refusal:
    if not payload:
        return Refusal(400, 453, "the payload is empty")
    if encoding == "NONE":
        return payload
    if encoding != "DEFLATE":
        return Refusal(400, 450, "encoding must be NONE or DEFLATE")
    if payload[:2] not in _ZLIB_HEADERS:
        return Refusal(
            400, 450, "the payload is not in zlib format (RFC 1950): it does not begin with 78 01, 5E, 9C, DA"
        )
    inflate = zlib.decompressobj()
    try:  # never more than the limit and one byte, however small the compressed payload is
        document = inflate.decompress(payload, limit + 1)
    except zlib.error as error:
        return Refusal(400, 450, f"the payload is not in zlib format (RFC 1950): {error}")
    if len(document) > limit:
        return Refusal(413, 413, f"the inflated payload has more than {limit} bytes")
    if not inflate.eof:
        return Refusal(400, 450, "the payload's zlib stream ends too early")
    if inflate.unused_data:
        return Refusal(400, 450, "bytes follow the payload's zlib stream")
    return document
