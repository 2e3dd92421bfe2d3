"""Messages, tenants and settlements: the values that every layer of the relay shares.

Pure: no clock, no chance, no store; random bytes for a new message id are an argument. What a valid value is
stands in `validation.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, NamedTuple, NewType

TenantId = NewType("TenantId", str)
DocumentName = NewType("DocumentName", str)
MessageId = NewType("MessageId", str)
LogicalId = NewType("LogicalId", str)
OrderingKey = NewType("OrderingKey", str)
RowId = NewType("RowId", int)
"""The outbox's increasing key of a message; messages of a lane are sent in its order."""
AuditId = NewType("AuditId", int)
"""The increasing key of an entry in the audit of operators' actions."""
SettlementId = NewType("SettlementId", str)
"""Identifies one settlement, so that writing it again, after an answer that was lost, changes nothing."""

DEFAULT_TO = LogicalId("lid://default")
"""Lets ION's document flows route the message."""

TRACEPARENT = "traceparent"
"""The parameter with the application's trace context (W3C). The relay uses it; ION does not receive it."""


def classic_message_id(sixteen_random_bytes: bytes) -> MessageId:
    """A version 4 UUID as 32 hex digits without hyphens (guide, "Message id").

    >>> classic_message_id(bytes(16))
    '00000000000040008000000000000000'
    """
    raw = bytearray(sixteen_random_bytes)
    raw[6] = raw[6] & 0x0F | 0x40
    raw[8] = raw[8] & 0x3F | 0x80
    return MessageId(bytes(raw).hex())


# --- messages -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Draft:
    """A message as an application enqueues it; everything unset gets the outbox's default.

    `message_id`: None lets the outbox generate a classic one. `parameters`: optional IMS properties.
    """

    tenant_id: TenantId
    document_name: DocumentName
    payload: bytes
    message_id: MessageId | None = None
    to_logical_id: LogicalId = DEFAULT_TO
    ordering_key: OrderingKey | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict[str, Any])


class MessageKey(NamedTuple):
    """Which message a row holds: after a restore or a failover, the same row id may be another message's.

    A tuple, since each delivery makes one: cheaper to make and to hash than a frozen dataclass.
    """

    row: RowId
    tenant_id: TenantId
    message_id: MessageId


@dataclass(frozen=True, slots=True)
class Message:
    """A pending message as a worker reads it from the outbox.

    `size`: length of the payload in bytes; where it exceeds the limit of the query, `payload` is empty and
    must be read before the message is sent. `parameters`: the stored JSON text. `attempts`: counted attempts
    so far. `holds_for`: seconds until its back-off ends (0: it is due). `age`: seconds since it was queued.
    Both are measured by the outbox's clock. `flaw`: why it is not as the application wrote it, and must not
    be sent.
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
    flaw: str | None = None

    @property
    def key(self) -> MessageKey:
        """What its settlement names."""
        return MessageKey(self.row, self.tenant_id, self.message_id)


# --- settlements: what became of a message --------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Delivered:
    """ION took custody of the message."""


@dataclass(frozen=True, slots=True)
class Released:
    """Waiting again, at its place in its lane.

    `counted`: it counts towards the message's attempts. `wait`: its back-off in seconds (0: due as soon as
    the tenant may send). `id`: None where it is written once only.
    """

    reason: str
    counted: bool = False
    wait: float = 0.0
    id: SettlementId | None = None


@dataclass(frozen=True, slots=True)
class Parked:
    """Taken out of the queue until an operator retries or drops it. `counted`, `id`: as in `Released`."""

    reason: str
    counted: bool = False
    id: SettlementId | None = None


Settlement = Delivered | Released | Parked

# --- tenants --------------------------------------------------------------------------------------

Ordering = Literal["key", "tenant", "none"]
"""`key`: a lane for each ordering key (one for all without a key); `tenant`: one lane; `none`: no order."""

StateName = Literal["initialising", "pinging", "sending", "backing-off", "halted", "paused", "idle"]
"""A tenant's state as `relay status` shows it."""


NOT_ACCEPTED, BACK_OFF = "not-accepted", "back-off"
"""Wait reasons that follow from no answer: documents that ION does not accept; a message's own back-off."""


@dataclass(frozen=True, slots=True)
class TenantState:
    """A tenant's live state, as its worker last reported it. Instants are UTC.

    `relay`: the replica that owns the tenant. The outbox sets it; a value in a report is ignored. Why the
    tenant is in this state is data: `kind` is the name of a row of `protocol.ROWS`, `NOT_ACCEPTED`,
    `BACK_OFF` or empty; `documents` are those that wait to be accepted; `reason` is an answer or an
    operator's text, verbatim.
    """

    tenant_id: TenantId
    state: StateName
    reason: str
    since: datetime
    next_try: datetime | None = None
    relay: str = ""
    kind: str = ""
    documents: tuple[DocumentName, ...] = ()
