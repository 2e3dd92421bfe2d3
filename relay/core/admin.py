"""The store as operators see it: counts, messages, bulk actions, pauses and the audit; a port.

Pinned by the same suite as the other ports (`tests/contract/`). Every change bumps the tenant's revision, so
that a running relay discards what it has prefetched.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, Protocol

from relay.core.activity import Span, TenantActivity
from relay.core.model import (
    AuditId,
    DocumentName,
    MessageId,
    Ordering,
    OrderingKey,
    RowId,
    TenantId,
    TenantState,
)

MessageState = Literal["pending", "delivered", "parked", "dropped"]
Action = Literal["retry", "park", "drop"]
"""What an operator can do to messages."""
AuditAction = (
    Action | Literal["cancel", "pause", "resume", "ask", "show", "restore", "sign-in", "sign-out", "refused"]
)
"""What the audit records. `show`: a payload was displayed; `restore`: a backup was put back."""
Outcome = Literal["running", "done", "cancelled", "failed"]

AGES = (60.0, 300.0, 900.0, 3600.0, 14400.0, 86400.0)
"""The upper edges, in seconds, of the age buckets of a queue; one more bucket holds what is older."""


@dataclass(frozen=True, slots=True)
class Moment:
    """What was there at a preview, by the store's own clock: rows up to `upto`, in their state since `at`."""

    upto: RowId
    at: datetime


@dataclass(frozen=True, slots=True)
class Filter:
    """Which messages are selected; everything set must hold. `ids` are message ids.

    `reason`: a text that the message's reason contains. `moment`: only what was there then, and has not been
    retried, parked or dropped since.
    """

    tenant: TenantId | None = None
    document: DocumentName | None = None
    state: MessageState | None = None
    ids: tuple[MessageId, ...] = ()
    reason: str | None = None
    moment: Moment | None = None


@dataclass(frozen=True, slots=True)
class Record:
    """A message as operators see it. Instants are UTC. `history`: (when, what, detail), only from `show`.

    `parameters`: as `parameters.shown_parameters` gives them.
    """

    row: RowId
    tenant_id: TenantId
    document_name: DocumentName
    message_id: MessageId
    to_logical_id: str
    ordering_key: OrderingKey | None
    parameters: Mapping[str, Any]
    size: int
    state: MessageState
    reason: str | None
    attempts: int
    not_before: datetime | None
    created_at: datetime
    queued_at: datetime
    settled_at: datetime | None
    history: tuple[tuple[datetime, str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Count:
    """A tenant's messages by state, and the age in seconds of the oldest pending one that is due."""

    pending: int = 0
    delivered: int = 0
    parked: int = 0
    dropped: int = 0
    oldest_due_seconds: float | None = None


FIRST = RowId(-(2**63))
"""Before every row: an id that an application gave may be negative."""


@dataclass(frozen=True, slots=True)
class QueueAges:
    """The pending messages of a tenant's document by age; `counts`: for each of AGES, and beyond.

    `more`: there are further ones, which were not examined.
    """

    tenant: TenantId
    document: DocumentName
    counts: tuple[int, ...]
    more: bool = False


@dataclass(frozen=True, slots=True)
class Preview:
    """What an action would change. `groups`: tenant, document, state, how many; `sample`: the first ones."""

    what: Action
    wanted: Filter
    total: int
    groups: tuple[tuple[TenantId, DocumentName, MessageState, int], ...]
    sample: Sequence[Record]


@dataclass(frozen=True, slots=True)
class BulkAction:
    """A retry, park or drop of messages, by whom and why; the reason is shown with the messages."""

    what: Action
    wanted: Filter
    who: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """What an operator did. `selection`: which messages, in words; `messages`: how many are changed."""

    id: AuditId
    at: datetime
    who: str
    what: AuditAction
    tenant: TenantId | None
    selection: str
    reason: str
    messages: int
    outcome: Outcome
    ended_at: datetime | None


@dataclass(frozen=True, slots=True)
class ActionCount:
    """How many messages of a retry are in this state now; `reason`: of parked ones, else empty."""

    state: MessageState
    reason: str
    messages: int


@dataclass(frozen=True, slots=True)
class RelayBeat:
    """A relay process: when it last beat, whether that is recent enough to call it running."""

    relay: str
    details: Mapping[str, str]
    started_at: datetime
    beat_at: datetime
    alive: bool


class Admin(Protocol):
    """The store as operators see it. Every change bumps the tenant's revision and reaches a running relay."""

    async def counts(self) -> Mapping[TenantId, Count]:
        """By tenant, all tenants with rows."""

    async def states(self) -> Mapping[TenantId, TenantState]:
        """The live states that workers last wrote, of relays that are alive."""

    async def relays(self) -> Sequence[RelayBeat]:
        """The relay processes that wrote a heartbeat and did not leave."""

    async def size(self) -> int:
        """Bytes on disk, about: of the file, or of the table of messages with its indexes."""

    async def log_bytes(self) -> int | None:
        """The size of the write-ahead log beside the file; None: the outbox is no file."""

    async def notification_queue(self) -> float | None:
        """How full the server's queue of notifications is, from 0 to 1; None: the store has no such queue."""

    async def find(self, wanted: Filter, limit: int, after: RowId = FIRST) -> Sequence[Record]:
        """In the order of their rows, those behind `after`; without payload and history."""

    async def show(self, message_id: MessageId, tenant: TenantId | None) -> Sequence[Record]:
        """With history; several where tenants use the same id."""

    async def before(
        self, record: Record, ordering: Ordering, skipped: Collection[DocumentName], limit: int
    ) -> Sequence[Record]:
        """The pending messages before this one in its lane, at most `limit`, but for skipped documents."""

    async def payload(self, row: RowId, limit: int) -> bytes | None:
        """The first `limit` bytes of it; None: it is not kept any more."""

    async def queue_ages(self, tenant: TenantId | None, limit: int) -> Sequence[QueueAges]:
        """How old the pending messages are, by tenant and document; never a full scan.

        At most `limit` rows are examined for each document, those with the lowest ids.
        """

    async def activity(
        self, span: Span, starts: Sequence[int], tenants: Sequence[TenantId]
    ) -> Sequence[TenantActivity]:
        """What is recorded in the stretches of time that began then, in their order; also of EVERYONE.

        Of all processes together. What nobody recorded is left out.
        """

    async def deliveries(
        self, span: Span, starts: Sequence[int], tenants: Sequence[TenantId]
    ) -> Mapping[TenantId, Mapping[int, int]]:
        """How many messages were delivered, by tenant and start; for many tenants. Zeros are left out."""

    # --- bulk actions: preview, begin, advance chunk by chunk; or all at once ---------------------

    async def preview(self, what: Action, wanted: Filter, sample: int = 5) -> Preview:
        """What the action would change now; its `wanted` is frozen at this moment. Changes nothing."""

    async def begin(self, order: BulkAction) -> AuditId:
        """Write the action into the audit, as `running`; no message is changed yet.

        Without a moment of its own it applies to what is there now.
        """

    async def advance(self, audit_id: AuditId) -> AuditEntry:
        """Change the next chunk of messages, in one short transaction with the progress in the audit.

        The entry as it is then: call again while its `outcome` is "running". Any process may.
        """

    async def outcome(self, audit_id: AuditId, limit: int) -> Sequence[ActionCount]:
        """What became of the messages of a retry, at most `limit` of them; those that are still stored."""

    async def decide(self, order: BulkAction) -> int:
        """Begin, and advance to the end; how many messages it changed.

        retry: parked and dropped ones become pending again, at their row's place, with no attempts, queued
        now; pending ones lose their back-off. park: pending ones. drop: pending and parked ones, for good.
        """

    async def cancel(self, audit_id: AuditId, who: str) -> bool:
        """End a running action after the current chunk; False: it was over. What is done stays done."""

    # --- the audit: what operators did ------------------------------------------------------------

    async def audit(self, limit: int, tenant: TenantId | None = None) -> Sequence[AuditEntry]:
        """The newest first. `tenant`: its own, and those about messages of any tenant."""

    async def entry(self, audit_id: AuditId) -> AuditEntry | None:
        """One of them."""

    async def note(self, who: str, what: AuditAction, tenant: TenantId | None, selection: str) -> None:
        """Record something that changed nothing, such as showing a payload."""

    # --- tenants; all of it is audited ------------------------------------------------------------

    async def pause(self, tenant: TenantId, reason: str, who: str) -> None:
        """The tenant sends nothing until resumed."""

    async def resume(self, tenant: TenantId, who: str) -> None:
        """Paused or halted: initialise again at once."""

    async def ask(self, tenant: TenantId, who: str) -> None:
        """Try ION again now: ends the wait between two tries, and a halt's. A pause stays."""
