"""This file is the words of the domain and the header rules of ION that bind them.

Pure: no clock, no chance, no store. Whatever is random (a new message id) is handed in.
Limits and formats: ION Connect developer guide, "Required message headers", "Optional message
headers", "Logical Id".
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, NewType

TenantId = NewType("TenantId", str)
DocumentName = NewType("DocumentName", str)
MessageId = NewType("MessageId", str)
LogicalId = NewType("LogicalId", str)
OrderingKey = NewType("OrderingKey", str)
RowId = NewType("RowId", int)
"""The outbox's own growing key of a message; order within a lane follows it."""
AuditId = NewType("AuditId", int)
"""The audit's growing key of what a person did."""

DEFAULT_TO = LogicalId("lid://default")
"""Lets ION's document flows route the message."""

MAX_TENANT_ID = 22
MAX_DOCUMENT_NAME = 100
MAX_MESSAGE_ID = 250
MAX_LOGICAL_ID = 250
MAX_ORDERING_KEY = 250
MAX_INTEGER = 2**63 - 1

# --- messages -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Draft:
    """A message as an application hands it over; everything unset gets the outbox's default.

    `message_id` None: the outbox mints a classic one. `parameters`: optional IMS properties.
    """

    tenant_id: TenantId
    document_name: DocumentName
    payload: bytes
    message_id: MessageId | None = None
    to_logical_id: LogicalId = DEFAULT_TO
    ordering_key: OrderingKey | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True)
class Message:
    """A pending message as the outbox gives it to a worker.

    `size` is the payload's length in bytes; where it exceeds what the reader asked for, `payload` is
    empty and the message must not be sent. `parameters` is the stored JSON text. `attempts` counts the
    blamed releases so far. `holds_for` is the seconds until its own delay ends (0: may go now), and
    `age` the seconds since it was queued, both by the outbox's clock.
    """

    row: RowId
    tenant_id: TenantId
    document_name: DocumentName
    message_id: MessageId
    payload: bytes
    size: int
    to_logical_id: LogicalId = DEFAULT_TO
    ordering_key: OrderingKey | None = None
    parameters: str = "{}"
    attempts: int = 0
    holds_for: float = 0.0
    age: float = 0.0


# --- settlements: what became of a message --------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Delivered:
    """ION took custody."""


@dataclass(frozen=True, slots=True)
class Released:
    """Back to waiting, at its place in its lane. `blamed`: counts towards the message's own attempts.

    `wait`: seconds that must pass before it may go again (0: as soon as the tenant may send).
    """

    reason: str
    counted: bool = False
    wait: float = 0.0


@dataclass(frozen=True, slots=True)
class Parked:
    """Out of the queue until a person retries or drops it."""

    reason: str


Settlement = Delivered | Released | Parked

Ordering = Literal["key", "tenant", "none"]
"""`key`: a lane an ordering key (one for all without); `tenant`: one lane; `none`: no order."""

StateName = Literal["initialising", "pinging", "sending", "backing-off", "halted", "paused", "idle"]
"""What `relay status` shows for a tenant."""


NOT_ACCEPTED, BACK_OFF = "not-accepted", "back-off"
"""Wait reasons that follow from no answer: documents that ION does not accept; a message's own back-off."""


@dataclass(frozen=True, slots=True)
class TenantState:
    """A tenant's live state, as its worker last reported it. Instants are UTC.

    `relay`: the relay process that owns the tenant; the outbox knows it, whatever a report says. Why it is in
    this state is data: `kind` is the name of a row of `protocol.ROWS`, `NOT_ACCEPTED`, `BACK_OFF` or empty,
    `documents` are those that wait to be accepted, and `reason` is an answer or an operator's text, verbatim.
    """

    tenant_id: TenantId
    state: StateName
    reason: str
    since: datetime
    next_try: datetime | None = None
    relay: str = ""
    kind: str = ""
    documents: tuple[DocumentName, ...] = ()


# --- rules: what is wrong with a value, in words for the person who set it ------------------------


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong: the field, what is wrong with it, and the mend."""

    field: str
    what: str
    hint: str

    def __str__(self) -> str:
        """One sentence for a person."""
        return f"{self.field}: {self.what}; {self.hint}"


_TENANT_ID = re.compile(r"[A-Za-z0-9_]+")
_LOGICAL_ID = re.compile(r"lid://[a-z0-9_-]+(\.[a-z0-9_-]+)*(:[a-z0-9._-]+)?(/[a-z0-9._-]+)*")
_CUSTOM_NAME = re.compile(r"[A-Za-z0-9]{1,250}")
_BOD_NAME = re.compile(r"(?P<verb>[A-Z][A-Za-z]*)\.(?P<noun>[A-Za-z][A-Za-z0-9]*)")
_VERB_ADVISED, _NOUN_ADVISED = 11, 30


def tenant_id_problem(text: str) -> Problem | None:
    """Letters, digits and `_`, at most 22 (guide; real tenants carry an underscore, `NAME_TST`)."""
    if not _TENANT_ID.fullmatch(text) or len(text) > MAX_TENANT_ID:
        return Problem(
            "tenant_id",
            f"{_shown(text)} is not a tenant id",
            f"use 1 to {MAX_TENANT_ID} letters, digits or underscores, e.g. ACME_PRD",
        )
    return None


def document_name_problem(text: str) -> Problem | None:
    """1 to 100 printable characters, case-sensitive (guide)."""
    return _text_problem("document_name", text, MAX_DOCUMENT_NAME)


def document_name_advice(text: str) -> str | None:
    """What the guide advises for BOD names `Verb.Noun`; advice only, any other name is allowed."""
    match = _BOD_NAME.fullmatch(text)
    if match is None:
        return None
    if len(match["verb"]) > _VERB_ADVISED:
        return f"the verb {match['verb']} is longer than the advised {_VERB_ADVISED} characters"
    if len(match["noun"]) > _NOUN_ADVISED:
        return f"the noun {match['noun']} is longer than the advised {_NOUN_ADVISED} characters"
    return None


def message_id_problem(text: str) -> Problem | None:
    """Any printable text of 1 to 250 characters (guide)."""
    return _text_problem("message_id", text, MAX_MESSAGE_ID)


def ordering_key_problem(text: str) -> Problem | None:
    """Any printable text of 1 to 250 characters; it never leaves the outbox."""
    return _text_problem("ordering_key", text, MAX_ORDERING_KEY)


def logical_id_problem(text: str, name: str = "logical_id") -> Problem | None:
    """`lid://provider.product.instance[:connection][/path]`, at most 250, lower case (guide)."""
    if not text.startswith("lid://"):
        return Problem(name, f"{_shown(text)} does not begin with lid://", "write lid:// before it")
    if not _LOGICAL_ID.fullmatch(text) or len(text) > MAX_LOGICAL_ID:
        return Problem(
            name,
            f"{_shown(text)} is not a logical id",
            f"use lid:// and at most {MAX_LOGICAL_ID} of a-z 0-9 . _ -, e.g. lid://acme.orders.1",
        )
    return None


def draft_problems(draft: Draft) -> list[Problem]:
    """Everything that keeps this message from ever being sent; empty when it is fine."""
    found = [
        tenant_id_problem(draft.tenant_id),
        document_name_problem(draft.document_name),
        message_id_problem(draft.message_id) if draft.message_id is not None else None,
        logical_id_problem(draft.to_logical_id, "to_logical_id"),
        ordering_key_problem(draft.ordering_key) if draft.ordering_key is not None else None,
        None if draft.payload else Problem("payload", "is empty", "hand over the document's bytes"),
    ]
    return [problem for problem in found if problem is not None] + parameter_problems(draft.parameters)


# --- optional IMS properties ----------------------------------------------------------------------

_TEXTS = {"accountingEntity": 22, "location": 22, "revisionId": 22, "documentId": 100, "batchId": 250}
_INTEGERS = frozenset({"variationId", "batchSequence", "batchSize", "batchRevision"})
_FLAGS = frozenset({"batchAbortIndicator"})
_AS_THEY_ARE = frozenset({"instances", "source"})  # their types differ between sources: passed through
TRACEPARENT = "traceparent"
"""A parameter that the relay takes for itself: the application's trace. It is not sent to ION as one."""
_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_COLUMNS = {
    "documentName": "document_name",
    "messageId": "message_id",
    "toLogicalId": "to_logical_id",
    "fromLogicalId": "the tenant's logical id in the settings",
    "encoding": "nothing: the relay decides",
    "characterSet": "nothing: it is always UTF-8",
}


def parameter_problems(parameters: Mapping[str, Any]) -> list[Problem]:
    """Check names, types and limits of the optional IMS properties."""
    found = (_parameter_problem(name, value) for name, value in parameters.items())
    return [problem for problem in found if problem is not None]


def _parameter_problem(name: str, value: object) -> Problem | None:
    shown = f"parameters.{name[:80]}"
    if name in _COLUMNS:
        return Problem(shown, "is not a parameter", f"use {_COLUMNS[name]}")
    if name in _TEXTS:
        return None if _is_text(value, _TEXTS[name]) else Problem(shown, "is wrong", _text_rule(_TEXTS[name]))
    if name in _INTEGERS:
        fits = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_INTEGER
        return None if fits else Problem(shown, "is wrong", "give a whole number from 0 to 2^63-1")
    if name in _FLAGS:
        return None if isinstance(value, bool) else Problem(shown, "is wrong", "give true or false")
    if name in _AS_THEY_ARE:
        return None
    if name == TRACEPARENT:
        fits = isinstance(value, str) and _TRACEPARENT.fullmatch(value) is not None
        return (
            None if fits else Problem(shown, "is wrong", "give a W3C traceparent, 00-…-…-01, or leave it out")
        )
    if name.startswith("custom_"):
        return _custom_problem(shown, name.removeprefix("custom_"), value)
    return Problem(shown, "is not an IMS property", "check its spelling, or name it custom_<Name>")


def _custom_problem(shown: str, name: str, value: object) -> Problem | None:
    if not _CUSTOM_NAME.fullmatch(name):
        return Problem(shown, "is not a custom property's name", "use custom_ and 1 to 250 letters or digits")
    return None if isinstance(value, str) else Problem(shown, "is wrong", "give a text")


def _is_text(value: object, limit: int) -> bool:
    return isinstance(value, str) and 1 <= len(value) <= limit


def _text_rule(limit: int) -> str:
    return f"give a text of 1 to {limit} characters"


def _text_problem(name: str, text: str, limit: int) -> Problem | None:
    if 1 <= len(text) <= limit and text.isprintable() and not text.isspace():
        return None
    what = f"has {len(text)} characters" if len(text) > limit else f"{_shown(text)} cannot be used"
    return Problem(name, what, f"use 1 to {limit} printable characters")


def _shown(text: str) -> str:
    return repr(text) if len(text) <= 60 else f"{text[:60]!r}…"


# --- message ids ----------------------------------------------------------------------------------

_MARK = ":-ION-:"
_SOURCE_CROP = 128
_UUID_LENGTH = 32
_EXTENDED = re.compile(r"(?P<source>.*):-ION-:(?P<unique>[0-9a-fA-F]{32})", re.DOTALL)


def classic_message_id(sixteen_random_bytes: bytes) -> MessageId:
    """32 hex digits: a version 4 UUID without hyphens (guide, "Message id").

    >>> classic_message_id(bytes(16))
    '00000000000040008000000000000000'
    """
    raw = bytearray(sixteen_random_bytes)
    raw[6] = raw[6] & 0x0F | 0x40
    raw[8] = raw[8] & 0x3F | 0x80
    return MessageId(bytes(raw).hex())


def extended_message_id(source: str, sixteen_random_bytes: bytes) -> MessageId:
    """The source's own id, cropped to 128 characters, `:-ION-:`, and a new 32-digit UUID (guide)."""
    return MessageId(source[:_SOURCE_CROP] + _MARK + classic_message_id(sixteen_random_bytes))


def split_message_id(message_id: str) -> tuple[str | None, str]:
    """Source part and unique part. The last `:-ION-:` separates them; a classic id has no source part."""
    match = _EXTENDED.fullmatch(message_id)
    return (match["source"], match["unique"]) if match else (None, message_id)


def hop_message_id(incoming: str, sixteen_random_bytes: bytes) -> MessageId:
    """The id after a network hop from tenant to tenant: the incoming id counts as the source's (guide)."""
    return extended_message_id(incoming, sixteen_random_bytes)
