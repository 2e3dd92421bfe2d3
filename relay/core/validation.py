"""Header and parameter rules of ION: what is wrong with a value, and how to fix it.

Pure. Limits and formats: ION Connect developer guide, "Required message headers", "Optional message headers",
"Logical Id".
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from relay.core.model import TRACEPARENT, Draft

MAX_TENANT_ID = 22
MAX_DOCUMENT_NAME = 100
MAX_MESSAGE_ID = 250
MAX_LOGICAL_ID = 250
MAX_ORDERING_KEY = 250
MAX_INTEGER = 2**63 - 1
MAX_PARAMETERS = 65_536
"""Characters of all parameters together, as JSON."""
MAX_NESTING = 100
"""Levels of lists and objects within each other: programs that read JSON give up at some depth."""


@dataclass(frozen=True, slots=True)
class Problem:
    """An invalid value: its field, what is wrong with it, and the fix."""

    field: str
    what: str
    hint: str

    def __str__(self) -> str:
        """One sentence, on one line; characters that no store or terminal takes are escaped."""
        text = f"{self.field}: {self.what}; {self.hint}"
        return text if text.isprintable() else "".join(map(_escaped, text))


# --- message headers ------------------------------------------------------------------------------

_TENANT_ID = re.compile(r"[A-Za-z0-9_]+")
_LOGICAL_ID = re.compile(r"lid://[a-z0-9_-]+(\.[a-z0-9_-]+)*(:[a-z0-9._-]+)?(/[a-z0-9._-]+)*")
_CUSTOM_NAME = re.compile(r"[Cc]ustom_[A-Za-z0-9]{1,250}")
_CUSTOM = ("custom_", "Custom_")
"""The guide writes `Custom_`, the samples `custom_`; the case is kept."""
_BOD_NAME = re.compile(r"(?P<verb>[A-Z][A-Za-z]*)\.(?P<noun>[A-Za-z][A-Za-z0-9]*)")
_MAX_VERB, _MAX_NOUN = 11, 30


def tenant_id_problem(text: str) -> Problem | None:
    """1 to 22 letters, digits or `_` (guide; real tenant ids contain an underscore, `NAME_TST`)."""
    if not _TENANT_ID.fullmatch(text) or len(text) > MAX_TENANT_ID:
        return Problem(
            "tenant_id",
            f"{_quote(text)} is not a tenant id",
            f"use 1 to {MAX_TENANT_ID} letters, digits or underscores, e.g. ACME_PRD",
        )
    return None


def document_name_problem(text: str) -> Problem | None:
    """1 to 100 printable characters, case-sensitive (guide)."""
    return _text_problem("document_name", text, MAX_DOCUMENT_NAME)


def document_name_advice(text: str) -> str | None:
    """The guide's recommendation for BOD names `Verb.Noun`: a warning only, any other name is allowed."""
    match = _BOD_NAME.fullmatch(text)
    if match is None:
        return None
    if len(match["verb"]) > _MAX_VERB:
        return f"the verb {match['verb']} is longer than the recommended {_MAX_VERB} characters"
    if len(match["noun"]) > _MAX_NOUN:
        return f"the noun {match['noun']} is longer than the recommended {_MAX_NOUN} characters"
    return None


def message_id_problem(text: str) -> Problem | None:
    """1 to 250 printable characters (guide)."""
    return _text_problem("message_id", text, MAX_MESSAGE_ID)


def ordering_key_problem(text: str) -> Problem | None:
    """1 to 250 printable characters; ION does not receive it."""
    return _text_problem("ordering_key", text, MAX_ORDERING_KEY)


def logical_id_problem(text: str, name: str = "logical_id") -> Problem | None:
    """`lid://provider.product.instance[:connection][/path]`: lower case, at most 250 characters (guide)."""
    if not text.startswith("lid://"):
        return Problem(name, f"{_quote(text)} does not begin with lid://", "write lid:// before it")
    if not _LOGICAL_ID.fullmatch(text) or len(text) > MAX_LOGICAL_ID:
        return Problem(
            name,
            f"{_quote(text)} is not a logical id",
            f"use lid:// and at most {MAX_LOGICAL_ID} of a-z 0-9 . _ -, e.g. lid://acme.orders.1",
        )
    return None


def draft_problems(draft: Draft) -> list[Problem]:
    """Everything that would prevent this message from being sent; empty if it is valid."""
    found = [
        tenant_id_problem(draft.tenant_id),
        document_name_problem(draft.document_name),
        message_id_problem(draft.message_id) if draft.message_id is not None else None,
        logical_id_problem(draft.to_logical_id, "to_logical_id"),
        ordering_key_problem(draft.ordering_key) if draft.ordering_key is not None else None,
        None if draft.payload else Problem("payload", "is empty", "enqueue the document's bytes"),
    ]
    return [problem for problem in found if problem is not None] + parameter_problems(draft.parameters)


# --- optional IMS properties ----------------------------------------------------------------------

_STRING_LIMITS = {"accountingEntity": 22, "location": 22, "revisionId": 22, "documentId": 100, "batchId": 250}
_INTEGERS = frozenset({"variationId", "batchSequence", "batchSize", "batchRevision"})
_BOOLEANS = frozenset({"batchAbortIndicator"})
_UNCHECKED = frozenset({"instances", "source"})  # the sources disagree about their types
_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
TOO_DEEP = Problem("parameters", f"are nested more than {MAX_NESTING} levels deep", "write them flat")
TOO_LONG = Problem(
    "parameters", f"have more than {MAX_PARAMETERS} characters", "send large content as the payload"
)
_BRACKETS = re.compile(r'"(?:[^"\\]|\\.)*"?|[^][{}"]+', re.DOTALL)
"""All but the brackets of a JSON text."""
_NOT_PARAMETERS = {
    "documentName": "use document_name",
    "messageId": "use message_id",
    "toLogicalId": "use to_logical_id",
    "fromLogicalId": "use the tenant's logical id in the settings",
    "encoding": "omit it, the relay chooses it",
    "characterSet": "omit it, it is always UTF-8",
}


def parameter_problems(parameters: Mapping[str, Any]) -> list[Problem]:
    """What is wrong with the names, types and lengths of the optional IMS properties."""
    unwritable = json_problem(parameters)
    if unwritable is not None:
        return [unwritable]
    found = (_parameter_problem(name, value) for name, value in parameters.items())
    return [problem for problem in found if problem is not None]


def json_problem(parameters: Mapping[str, Any]) -> Problem | None:
    """Why no JSON that every program can read can be made of the properties."""
    if not parameters:
        return None
    try:
        text = json.dumps(dict(parameters), ensure_ascii=False, allow_nan=False)
        text.encode()
    except UnicodeEncodeError:
        what = "contain half of a surrogate pair, which is no character"
        return Problem("parameters", what, "write whole characters")
    except RecursionError:
        return TOO_DEEP
    except (TypeError, ValueError):  # no JSON type; NaN or infinite, as 1e999 is; too many digits; a circle
        what = "contain a value that JSON cannot hold"
        return Problem("parameters", what, "use finite numbers, strings, true, false and null")
    if is_nested_too_deep(text):
        return TOO_DEEP
    return TOO_LONG if len(text) > MAX_PARAMETERS else None


def is_nested_too_deep(text: str) -> bool:
    """Whether lists and objects stand in each other more than MAX_NESTING deep, in this JSON text."""
    if text.count("[") + text.count("{") <= MAX_NESTING:
        return False
    depth = deepest = 0
    for bracket in _BRACKETS.sub("", text):
        depth += 1 if bracket in "[{" else -1
        deepest = max(deepest, depth)
    return deepest > MAX_NESTING


def _parameter_problem(name: str, value: object) -> Problem | None:
    field = f"parameters.{name[:80]}"
    if name.startswith(_CUSTOM) and not _CUSTOM_NAME.fullmatch(name):
        hint = "use custom_ (or Custom_) and 1 to 250 letters or digits"
        return Problem(field, "is not a custom property's name", hint)
    if name in _NOT_PARAMETERS:
        return Problem(field, "is not a parameter", _NOT_PARAMETERS[name])
    if name in _UNCHECKED:
        return None
    rule = _parameter_rule(name, value)
    if rule is None:
        return Problem(field, "is not an IMS property", "check its spelling, or name it custom_<Name>")
    is_valid, hint = rule
    return None if is_valid else Problem(field, "is not valid", hint)


def _parameter_rule(name: str, value: object) -> tuple[bool, str] | None:
    """Whether the value is valid, and what would be; None: no such property."""
    if name in _STRING_LIMITS:
        limit = _STRING_LIMITS[name]
        is_valid = isinstance(value, str) and 1 <= len(value) <= limit
        return is_valid, f"use a string of 1 to {limit} characters"
    if name in _INTEGERS:
        is_valid = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_INTEGER
        return is_valid, "use an integer from 0 to 2^63-1"
    if name in _BOOLEANS:
        return isinstance(value, bool), "use true or false"
    if name == TRACEPARENT:
        is_valid = isinstance(value, str) and _TRACEPARENT.fullmatch(value) is not None
        return is_valid, "use a W3C traceparent, 00-…-…-01, or omit it"
    return (isinstance(value, str), "use a string") if name.startswith(_CUSTOM) else None


def _text_problem(name: str, text: str, limit: int) -> Problem | None:
    if 1 <= len(text) <= limit and text.isprintable() and not text.isspace():
        return None
    what = f"has {len(text)} characters" if len(text) > limit else f"{_quote(text)} is not valid"
    return Problem(name, what, f"use 1 to {limit} printable characters")


def _escaped(character: str) -> str:
    return character if character.isprintable() else json.dumps(character)[1:-1]


def _quote(text: str) -> str:
    return repr(text) if len(text) <= 60 else f"{text[:60]!r}…"


LAST_PORT = 65_535
_PORT = re.compile(r"[0-9]{1,5}", re.ASCII)


def port_problem(port: str) -> Problem | None:
    """What is wrong with the text of a port to connect to."""
    if _PORT.fullmatch(port) and 1 <= int(port) <= LAST_PORT:
        return None
    shown = f"the port {port[:20]}" if port.isdecimal() else "a port that is not a number"
    return Problem("", f"has {shown}", f"write a number from 1 to {LAST_PORT}")
