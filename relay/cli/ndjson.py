"""Messages from lines of NDJSON, and what can be wrong with a line.

    {"tenant_id": "ACME_PRD", "document_name": "Sync.SalesOrder", "payload": "<SyncSalesOrder …/>"}

`payload` is text, stored as UTF-8; `payload_base64` is for bytes. Optional: `message_id`, `to_logical_id`,
`ordering_key`, `parameters` (an object). An unknown key is an error.
"""

import base64
import binascii
import difflib
import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any, BinaryIO, NoReturn

from relay.core.model import DEFAULT_TO, DocumentName, Draft, LogicalId, MessageId, OrderingKey, TenantId
from relay.core.validation import Problem, draft_problems

_TEXTS = (
    "tenant_id",
    "document_name",
    "payload",
    "payload_base64",
    "message_id",
    "to_logical_id",
    "ordering_key",
)
_KEYS = (*_TEXTS, "parameters")
_MAX_OTHER_BYTES = 64 * 1024
"""Limit of a line apart from its payload."""


class BadLineError(Exception):
    """The line is not a valid message. `problems`: what is wrong with it."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(map(str, self.problems)))


def lines(file: BinaryIO, max_payload: int) -> Iterator[tuple[int, bytes | None]]:
    r"""Number and bytes of each line that is not blank; None for a line longer than any allowed message.

    JSON can take six bytes for one byte of a payload (`\u0041`); more than that is not read.
    """
    longest = 6 * max_payload + _MAX_OTHER_BYTES
    number = 0
    while line := file.readline(longest):
        number += 1
        whole = line.endswith(b"\n") or len(line) < longest
        if number == 1:
            line = line.removeprefix(b"\xef\xbb\xbf")
        if not whole:
            while (rest := file.readline(_MAX_OTHER_BYTES)) and not rest.endswith(b"\n"):
                pass
            yield number, None
        elif line.strip():
            yield number, line.strip()


def draft_of(line: bytes | None, check: Callable[[Draft], list[Problem]]) -> Draft:
    """The message of a line. `check` adds the problems that depend on the settings. Raises BadLineError."""
    if line is None:
        raise BadLineError([Problem("line", "is longer than any tenant's limit", "send a smaller document")])
    fields = _object(line)
    problems = [
        *(_unknown(key) for key in fields if key not in _KEYS),
        *(_not_text(key) for key in _TEXTS if key in fields and not isinstance(fields[key], str)),
        *(Problem(key, "is missing", "add it") for key in _KEYS[:2] if key not in fields),
    ]
    if not isinstance(fields.get("parameters", {}), dict):
        problems.append(Problem("parameters", "is not an object", 'write it like {"variationId": 3}'))
    if problems:
        raise BadLineError(problems)
    draft = Draft(
        tenant_id=TenantId(fields["tenant_id"].upper()),
        document_name=DocumentName(fields["document_name"]),
        payload=_payload(fields),
        message_id=MessageId(fields["message_id"]) if "message_id" in fields else None,
        to_logical_id=LogicalId(fields.get("to_logical_id", DEFAULT_TO)),
        ordering_key=OrderingKey(fields["ordering_key"]) if "ordering_key" in fields else None,
        parameters=fields.get("parameters", {}),
    )
    problems = [*draft_problems(draft), *check(draft)]
    if problems:
        raise BadLineError(problems)
    return draft


def _object(line: bytes) -> dict[str, Any]:
    try:
        value = json.loads(line.decode(), object_pairs_hook=_unique_keys, parse_constant=_refuse_constant)
    except UnicodeDecodeError as error:
        raise BadLineError(
            [Problem("line", f"is not UTF-8 at byte {error.start}", "write it in UTF-8")]
        ) from None
    except json.JSONDecodeError as error:
        what = f"is not JSON at character {error.colno} ({error.msg})"
        raise BadLineError([Problem("line", what, "write one JSON object on one line")]) from None
    except (RecursionError, ValueError):
        raise BadLineError([Problem("line", "is not JSON", "write one JSON object on one line")]) from None
    if not isinstance(value, dict):
        raise BadLineError([Problem("line", "is not a JSON object", "write one JSON object on one line")])
    return value


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise BadLineError([Problem(key[:80], "is given twice", "keep one")])
        found[key] = value
    return found


def _refuse_constant(text: str) -> NoReturn:
    raise BadLineError([Problem("line", f"holds {text}, which is not JSON", "write a number, or omit it")])


def _unknown(key: str) -> Problem:
    close = difflib.get_close_matches(key, _KEYS, n=1)
    hint = f"did you mean {close[0]}?" if close else f"known keys: {', '.join(_KEYS)}"
    return Problem(key[:80], "is not known", hint)


def _not_text(key: str) -> Problem:
    return Problem(key, "is not a string", "write it in quotes, or omit it")


def _payload(fields: dict[str, Any]) -> bytes:
    if "payload" in fields and "payload_base64" in fields:
        raise BadLineError(
            [Problem("payload_base64", "is given together with payload", "keep one of the two")]
        )
    if "payload_base64" in fields:
        try:
            return base64.b64decode(fields["payload_base64"], validate=True)
        except (binascii.Error, ValueError):
            raise BadLineError(
                [Problem("payload_base64", "is not base64", "encode the bytes again")]
            ) from None
    if "payload" not in fields:
        raise BadLineError([Problem("payload", "is missing", "add it, or payload_base64 for bytes")])
    try:
        return bytes(fields["payload"].encode())
    except UnicodeEncodeError:
        raise BadLineError(
            [Problem("payload", "contains a lone surrogate", "send bytes as payload_base64")]
        ) from None
