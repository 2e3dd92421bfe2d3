"""This file is what the relay needs from the outside world, in the domain's words.

Each port is pinned by a suite that every implementation passes (`tests/contract/`).
"""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, Protocol

from relay.answers import Accepted, Answer, Versions
from relay.model import (
    AuditId,
    DocumentName,
    Draft,
    Message,
    MessageId,
    OrderingKey,
    RowId,
    Settlement,
    TenantId,
    TenantState,
)

RELAY = "relay"
"""Who it was, in the audit, where the relay itself paused a tenant."""


class StoreError(Exception):
    """The outbox could not do it; nothing of this call was stored. The text says what, where, and the mend.

    `lasting`: waiting will not help (not an outbox, wrong schema); otherwise it is worth trying again.
    """

    def __init__(self, text: str, *, lasting: bool = False) -> None:
        super().__init__(text)
        self.lasting = lasting


class ConflictError(Exception):
    """A message id is already in the outbox with another content; nothing of this call was stored."""

    def __init__(self, tenant: TenantId, message_id: MessageId) -> None:
        super().__init__(
            f"message id {message_id!r} of tenant {tenant} is already in the outbox with another content; "
            "hand the changed document over under a new id"
        )
        self.tenant, self.message_id = tenant, message_id


@dataclass(frozen=True, slots=True)
class Control:
    """What persons decided about a tenant. `revision` grows with each of their changes.

    `paused`: the reason the tenant is paused for, or None.
    """

    revision: int = 0
    paused: str | None = None


@dataclass(frozen=True, slots=True)
class Signals:
    """A hint who has work: tenants with pending rows, and the controls of all tenants that have any."""

    pending: frozenset[TenantId]
    controls: Mapping[TenantId, Control]


class Outbox(Protocol):
    """The durable store, as workers see it. All tenant ids are upper case here.

    Every call may raise StoreError. Calls may overlap; each is one transaction.
    """

    async def add(self, drafts: Sequence[Draft]) -> Sequence[MessageId]:
        """Store all, or nothing; answer their ids in order. Idempotent on (tenant, message id).

        The same id with the same content again is no error; with another it raises ConflictError.
        The drafts were checked (`model.draft_problems`).
        """

    async def due(
        self,
        tenant: TenantId,
        accepted: Set[DocumentName],
        held: Set[OrderingKey | None],
        known: Set[RowId],
        limit: int,
        max_bytes: int,
    ) -> Sequence[Message]:
        """Pending messages of the accepted documents in the order of their rows, by state.

        Not those of the `held` lanes (None: the messages without a key) nor the `known` rows. A message
        whose own delay still runs is returned too (`holds_for` > 0): it holds its lane. At most `limit`
        messages and about `max_bytes` of payload, but never none where there is one; a payload larger
        than `max_bytes` stays unread (`payload` empty, `size` true).
        """

    async def documents(self, tenant: TenantId) -> frozenset[DocumentName]:
        """The document names of the tenant's pending messages, accepted or not; cheap at any backlog."""

    async def settle(self, settlements: Sequence[tuple[RowId, Settlement]]) -> None:
        """Write what became of messages, all in one transaction, durable when it returns.

        Delivered wins over parked and dropped; a message that is delivered stays so; Released and Parked
        touch only what is pending. Released: reason kept, `attempts` + 1 if blamed, `not_before` = the
        store's now + `wait`.
        """

    async def arrivals(self, within: float) -> Signals:
        """Return once something may have arrived or a person changed something; after `within` s anyway."""

    async def signals(self) -> Signals:
        """The signals as they stand."""

    async def pause(self, tenant: TenantId, reason: str, who: str = RELAY) -> None:
        """Pause the tenant until a person resumes it; over restarts. Audited."""

    async def report(self, states: Sequence[TenantState]) -> None:
        """Keep the tenants' live states where `relay status` in another process reads them."""

    async def beat(self, relay: str, details: Mapping[str, str]) -> bool:
        """Write this relay process' heartbeat. False: it is this process' first (or it was swept)."""

    async def leave(self, relay: str) -> None:
        """Take the heartbeat back at a clean stop, and the live states with it."""

    async def unclean(self) -> bool:
        """Whether an earlier relay ended without `leave`, so that some posts may go out again. Asked once."""

    async def prune(self, older_than: float, limit: int) -> int:
        """Delete at most `limit` rows settled more than `older_than` s ago (delivered, dropped); how many."""

    async def shed(self, older_than: float, limit: int) -> int:
        """Let go of the payloads of messages delivered more than `older_than` s ago; their rows stay.

        It looks at the next `limit` of them, from the oldest on once the store is opened. How many it looked
        at: fewer than `limit` when it is through.
        """

    async def prune_audit(self, older_than: float, limit: int) -> int:
        """Delete at most `limit` audit entries that began more than `older_than` s ago; how many.

        Decisions that nobody went on with for an hour are marked as failed on this occasion.
        """

    async def close(self) -> None:
        """Let go of files and connections; calls under way end first."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How things stand between the relays that share an outbox: who lives (this one too), what it holds."""

    relays: frozenset[str]
    held: frozenset[TenantId]


class Leases(Protocol):
    """Which tenants this relay process may carry, where several processes share an outbox.

    A lease is a row with a fencing token, new at each acquisition by another holder; it lives as long as its
    holder's heartbeat, by the store's clock. The store checks the token at every settlement, so that a relay
    that lost a lease without noticing settles nothing. Whoever renews counts validity from *before* the call.
    """

    @property
    def seconds(self) -> float:
        """How long a heartbeat lasts."""

    async def renew(self) -> Standing:
        """One heartbeat for all of this process' leases; those it lost are not in the answer any more."""

    async def acquire(self, tenants: Sequence[TenantId]) -> frozenset[TenantId]:
        """Take those that nobody alive holds; all of these that are held now. Needs a living heartbeat."""

    async def release(self, tenants: Sequence[TenantId]) -> None:
        """Give them back, so that another may take them at once. Giving back what is not held is no error."""


class Endpoint(Protocol):
    """A tenant's ION. Never raises for what the far side does; every call is bounded in time and bytes."""

    async def ping(self) -> Answer:
        """GET ping."""

    async def versions(self) -> Versions | Answer:
        """GET versions."""

    async def accepted_documents(self) -> Accepted | Answer:
        """GET acceptedDocuments of this tenant's logical id."""

    async def pack(self, message: Message) -> "Parcel":
        """The post's body, built (and compressed) ahead of its launch; large ones off the loop."""

    async def post(self, parcel: "Parcel") -> Answer:
        """POST it, once. Also waits for the tenant's rate limit."""

    def credentials_changed(self) -> bool:
        """Whether the credential files on disk differ from what was last read."""

    async def close(self) -> None:
        """Close the session."""


class Parcel(Protocol):
    """A message ready for the wire; what is in it is the endpoint's own affair."""


# --- the desk: what operators see and do ----------------------------------------------------------

MessageState = Literal["pending", "delivered", "parked", "dropped"]
What = Literal["retry", "park", "drop"]
"""What a person can decide about messages."""
Outcome = Literal["running", "done", "cancelled", "failed"]

AGES = (60.0, 300.0, 900.0, 3600.0, 14400.0, 86400.0)
"""The upper edges, in seconds, of a shape's age buckets; the last bucket is beyond."""


@dataclass(frozen=True, slots=True)
class Moment:
    """What was there at a preview, by the store's own clock: rows up to `upto`, in their state since `at`."""

    upto: RowId
    at: datetime


@dataclass(frozen=True, slots=True)
class Filter:
    """Which messages are meant; everything set must hold. `ids` are message ids.

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
    """A message as operators see it. Instants are UTC. `history`: (when, what, detail), only from `show`."""

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


@dataclass(frozen=True, slots=True)
class Shape:
    """The pending messages of a tenant's document by age; `counts`: for each of AGES, and beyond.

    `more`: there are further ones, which were not looked at.
    """

    tenant: TenantId
    document: DocumentName
    counts: tuple[int, ...]
    more: bool = False


@dataclass(frozen=True, slots=True)
class Preview:
    """What a decision would change. `groups`: tenant, document, state, how many; `sample`: the first ones."""

    what: What
    wanted: Filter
    total: int
    groups: tuple[tuple[TenantId, DocumentName, MessageState, int], ...]
    sample: Sequence[Record]


@dataclass(frozen=True, slots=True)
class Order:
    """A decision about messages, by whom and why; the reason is shown with the messages."""

    what: What
    wanted: Filter
    who: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """What a person did. `selection`: which messages, in words; `messages`: how many were changed so far."""

    id: AuditId
    at: datetime
    who: str
    what: str
    tenant: TenantId | None
    selection: str
    reason: str
    messages: int
    outcome: Outcome
    ended_at: datetime | None


@dataclass(frozen=True, slots=True)
class RelayBeat:
    """A relay process: when it last beat, whether that is recent enough to call it running."""

    relay: str
    details: Mapping[str, str]
    started_at: datetime
    beat_at: datetime
    alive: bool


class Desk(Protocol):
    """The store as operators see it. Every change bumps the tenant's revision and reaches a running relay."""

    async def counts(self) -> Mapping[TenantId, Count]:
        """By tenant, all tenants with rows."""

    async def states(self) -> Mapping[TenantId, TenantState]:
        """The live states that workers last wrote, of relays that are alive."""

    async def relays(self) -> Sequence[RelayBeat]:
        """The relay processes that wrote a heartbeat and did not leave."""

    async def find(self, wanted: Filter, limit: int) -> Sequence[Record]:
        """In the order of their rows, without payload and history."""

    async def show(self, message_id: MessageId, tenant: TenantId | None) -> Sequence[Record]:
        """With history; several where tenants use the same id."""

    async def ahead(self, record: Record) -> Record | None:
        """The head of this pending message's lane (by ordering key), if it is another message."""

    async def payload(self, row: RowId, limit: int) -> bytes | None:
        """The first `limit` bytes of it; None: it is not kept any more."""

    async def shape(self, tenant: TenantId | None, limit: int) -> Sequence[Shape]:
        """How old the pending messages are, by tenant and document; never a full scan.

        At most `limit` rows are looked at for each document, those with the lowest ids.
        """

    # --- deciding about messages: look, begin, go on chunk by chunk; or all at once ---------------

    async def preview(self, what: What, wanted: Filter, sample: int = 5) -> Preview:
        """What a decision would change now; its `wanted` is frozen at this moment. Changes nothing."""

    async def begin(self, order: Order) -> AuditId:
        """Write the decision into the audit, as `running`; no message is changed yet.

        Without a moment of its own the order means what is there now.
        """

    async def go_on(self, audit_id: AuditId) -> AuditEntry:
        """Decide about the next chunk of messages, in one short transaction with the progress in the audit.

        The entry as it is then: call again while its `outcome` is "running". Any process may.
        """

    async def decide(self, order: Order) -> int:
        """Begin, and go on to the end; how many messages it changed.

        retry: parked and dropped ones become pending again, at their row's place, with no attempts, queued
        now; pending ones lose their own delay. park: pending ones. drop: pending and parked ones, for good.
        """

    async def cancel(self, audit_id: AuditId, who: str) -> bool:
        """End a running decision after the chunk under way; False: it was over. What is done stays done."""

    # --- the audit: what persons did --------------------------------------------------------------

    async def audit(self, limit: int, tenant: TenantId | None = None) -> Sequence[AuditEntry]:
        """The newest first. `tenant`: its own, and those about messages of any tenant."""

    async def entry(self, audit_id: AuditId) -> AuditEntry | None:
        """One of them."""

    async def note(self, who: str, what: str, tenant: TenantId | None, selection: str) -> None:
        """Something was done that changes nothing, such as showing a payload."""

    # --- deciding about tenants; all of it is audited ---------------------------------------------

    async def pause(self, tenant: TenantId, reason: str, who: str) -> None:
        """The tenant sends nothing until resumed."""

    async def resume(self, tenant: TenantId, who: str) -> None:
        """Paused or halted: initialise again at once."""

    async def ask(self, tenant: TenantId, who: str) -> None:
        """Try ION again now: ends the wait between two tries, and a halt's. A pause stays."""


Mode = Literal["notify", "poll"]
"""How news are found: told by the store, or by looking from time to time."""


class Store(Outbox, Desk, Protocol):
    """What opening an outbox gives: both views of it, and the leases where several relays may share it."""

    @property
    def mode(self) -> Mode:
        """How news are found now; it may change while the store is open."""
        ...

    @property
    def leases(self) -> Leases | None:
        """None: one process has the whole outbox."""
