"""The ports: what the relay needs from the outside world, in the domain's words.

Each port is pinned by a suite that every implementation passes (`tests/contract/`).
"""

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, Protocol

from relay.core.activity import Activity, ActivityKey
from relay.core.admin import Admin
from relay.core.model import (
    DocumentName,
    Draft,
    Message,
    MessageId,
    MessageKey,
    OrderingKey,
    RowId,
    Settlement,
    TenantId,
    TenantState,
)
from relay.core.replies import Accepted, Answer, Versions

RELAY = "relay"
"""The actor in the audit where the relay paused a tenant."""

CALL_SECONDS = 30.0
"""The longest that any call to an outbox takes: a disk or a database that hangs must not hang the relay."""


LARGE_PAYLOAD = 64 * 1024
"""Bytes beyond which a payload is not read with others, but alone when its post is due."""


class StoreError(Exception):
    """The call failed; nothing of it was stored. The text gives what happened, where, and the hint.

    `lasting`: waiting will not help (not an outbox, wrong schema); otherwise it is worth trying again.
    `answer_lost`: the store may have done it nevertheless, for its answer to the call never came.
    """

    def __init__(self, text: str, *, lasting: bool = False, answer_lost: bool = False) -> None:
        super().__init__(text)
        self.lasting = lasting
        self.answer_lost = answer_lost


class RowRefusedError(StoreError):
    """The store works, but refuses what a row would become: a constraint or a trigger of the application."""


class ConflictError(Exception):
    """A message id is already in the outbox with another content; nothing of this call was stored."""

    def __init__(self, tenant: TenantId, message_id: MessageId) -> None:
        super().__init__(
            f"message id {message_id!r} of tenant {tenant} is already in the outbox with another content; "
            "enqueue the changed document under a new id"
        )
        self.tenant, self.message_id = tenant, message_id


@dataclass(frozen=True, slots=True)
class StoreIncident:
    """Something that is wrong with a store though calls succeed. `kind`: as in the log's incidents."""

    kind: str
    detail: str
    hint: str
    is_warning: bool = False
    """Nothing fails for it: `relay check` ends with 0."""


@dataclass(frozen=True, slots=True)
class Control:
    """What operators decided about a tenant. `revision` grows with each of their changes.

    `paused`: the reason the tenant is paused for, or None.
    """

    revision: int = 0
    paused: str | None = None


@dataclass(frozen=True, slots=True)
class Notification:
    """A hint who has work: tenants with pending rows, and the controls of all tenants that have any."""

    pending: frozenset[TenantId]
    controls: Mapping[TenantId, Control]


@dataclass(frozen=True, slots=True)
class NotSettled:
    """Which settlements of a group were not written, while the others were.

    `replaced`: the row exists, and holds another message now. `refused`: the store refuses the change, in its
    words; it may be tried again.
    """

    replaced: frozenset[MessageKey] = frozenset()
    refused: Mapping[MessageKey, str] = field(default_factory=dict[MessageKey, str])


class Outbox(Protocol):
    """The durable store, as workers see it. All tenant ids are upper case here.

    Every call may raise StoreError. Calls may overlap; each is one transaction, and ends within CALL_SECONDS.
    """

    async def add(self, drafts: Sequence[Draft]) -> Sequence[MessageId]:
        """Store all, or nothing; return their ids in order. Idempotent on (tenant, message id).

        The same id with the same content again is no error; with another it raises ConflictError.
        The drafts were checked (`validation.draft_problems`).
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
        whose back-off still runs is returned too (`holds_for` > 0): it holds its lane. At most `limit`
        messages and about `max_bytes` of payload, but never none where there is one; a payload larger
        than LARGE_PAYLOAD or `max_bytes` stays unread (`payload` empty, `size` true).
        """

    async def message(self, row: RowId, max_bytes: int) -> Message | None:
        """The pending message in this row, if any; a payload larger than `max_bytes` stays unread."""

    async def documents(self, tenant: TenantId) -> frozenset[DocumentName]:
        """The document names of the tenant's pending messages, accepted or not; cheap at any backlog."""

    async def settle(self, settlements: Sequence[tuple[MessageKey, Settlement]]) -> NotSettled:
        """Write what became of messages, durable when it returns; what could not be written.

        One transaction, unless the store refuses a row: then that row alone is left out. A row that is gone
        is no error. Delivered wins over parked and dropped; a message that is delivered stays so; Released
        and Parked change only what is pending, and one that was written already (the same `id`) changes
        nothing. Released: reason kept, `attempts` + 1 if counted, `not_before` = the store's now + `wait`.
        """

    async def arrivals(self, within: float) -> Notification:
        """Return once a message may have arrived or an operator acted; after `within` s anyway."""

    async def notification(self) -> Notification:
        """The notification as it is now, without waiting."""

    async def pause(self, tenant: TenantId, reason: str, who: str = RELAY) -> None:
        """Pause the tenant until an operator resumes it; over restarts. Audited."""

    async def may_write(self) -> None:
        """Return once a write could begin, and write nothing; StoreError where none can."""

    async def close(self) -> None:
        """Close files and connections; running calls end first."""


@dataclass(frozen=True, slots=True)
class RefusedRows:
    """Settled rows that the store refuses to delete or change: how many, the first one, and why."""

    count: int
    row: RowId
    reason: str


@dataclass(frozen=True, slots=True)
class RestoredBackup:
    """The outbox is older than when a relay last used it: a backup was put in its place.

    `sent_again`: how many messages that were delivered since may be sent again; None: unknown. `exact`: not
    more than that, besides what was in flight at the last end.
    """

    sent_again: int | None
    exact: bool


class Housekeeping(Protocol):
    """Heartbeats, live tenant states, retention. Every call may raise StoreError."""

    async def report(self, states: Sequence[TenantState]) -> None:
        """Keep the tenants' live states where `relay status` in another process reads them."""

    async def beat(self, relay: str, details: Mapping[str, str]) -> bool:
        """Write this relay process' heartbeat. False: it is this process' first (or it was removed)."""

    async def leave(self, relay: str) -> None:
        """Deregister at a clean stop: remove the heartbeat, and the live states with it."""

    async def unclean(self) -> bool:
        """Whether an earlier relay ended without `leave`, so that some posts may go out again. Asked once."""

    async def restored(self) -> RestoredBackup | None:
        """Whether a backup was put in its place since a relay last used it. Asked once."""

    async def clock(self) -> datetime:
        """The store's time of day, by which it judges what is due and what is old."""

    async def prune(self, older_than: float, limit: int) -> int:
        """Delete at most `limit` rows settled more than `older_than` s ago (delivered, dropped).

        How many, those included that the store refuses to delete: fewer than `limit` where no more are left,
        or the rest can wait.
        """

    async def purge_payloads(self, older_than: float, limit: int) -> int:
        """Purge the payloads of messages delivered more than `older_than` s ago; their rows stay.

        It examines the next `limit` of them, from the oldest on once the store is opened. How many it
        examined: fewer than `limit` when all are purged, or the rest can wait.
        """

    @property
    def refused_rows(self) -> Sequence[RefusedRows]:
        """What `prune` and `purge_payloads` passed by: the store refused it. It is tried again later."""

    async def prune_audit(self, older_than: float, limit: int) -> int:
        """Delete at most `limit` audit entries that began more than `older_than` s ago; how many.

        Bulk actions without progress for an hour are marked as failed on this occasion.
        """

    async def record_activity(self, counts: Mapping[ActivityKey, Activity]) -> None:
        """Replace these counts."""

    async def record_waiting(self, at: float) -> None:
        """Note how many messages of each tenant wait now. `at`: now, in seconds since 1970."""

    async def prune_activity(self, limit: int) -> int:
        """Delete at most `limit` rows of activity that are kept no longer; how many."""

    async def incidents(self) -> Sequence[StoreIncident]:
        """What is wrong with the store itself now, at most one of each kind; cheap at any backlog."""


@dataclass(frozen=True, slots=True)
class LeaseStatus:
    """The replicas that share an outbox: which are alive (this one too), and which tenants this one owns."""

    relays: frozenset[str]
    held: frozenset[TenantId]


class Leases(Protocol):
    """Which tenants this relay process owns, where several processes share an outbox.

    A lease is a row with a fencing token, new at each acquisition by another holder; it lives as long as its
    holder's heartbeat, by the store's clock. The store checks the token at every settlement, so that a relay
    that lost a lease without noticing settles nothing. Whoever renews counts validity from *before* the call.
    """

    @property
    def seconds(self) -> float:
        """How long a heartbeat lasts."""

    async def renew(self) -> LeaseStatus:
        """One heartbeat for all of this process' leases; those it lost are no longer in the result."""

    async def acquire(self, tenants: Sequence[TenantId]) -> frozenset[TenantId]:
        """Take those that nobody alive holds; all of these that are held now. Needs a living heartbeat."""

    async def release(self, tenants: Sequence[TenantId]) -> None:
        """Release them, so that another may take them at once. Releasing what is not held is no error."""


@dataclass(frozen=True, slots=True)
class EncodedPost:
    """The body of a post, ready to be sent: its `Content-Type` and its bytes."""

    content_type: str
    data: bytes = field(repr=False)


class Ion(Protocol):
    """A tenant's ION. Never raises for what ION or the network does; bounds each call in time and bytes."""

    async def ping(self) -> Answer:
        """GET ping."""

    async def versions(self) -> Versions | Answer:
        """GET versions."""

    async def accepted_documents(self) -> Accepted | Answer:
        """GET acceptedDocuments of this tenant's logical id."""

    async def encode(self, message: Message) -> EncodedPost:
        """The body of the message's post, built and compressed before it is sent; large ones off the loop."""

    async def post(self, encoded: EncodedPost, traceparent: str | None = None) -> Answer:
        """POST it, once. Also waits for the tenant's rate limit. `traceparent`: its span."""

    def credentials_changed(self) -> bool:
        """Whether the credential files on disk differ from what was last read."""

    def drop_refused_token(self) -> None:
        """An operator acted: a token that ION refused since it last served is not used again."""

    async def close(self) -> None:
        """Close the session."""


Mode = Literal["notify", "poll"]
"""How changes are found: by a notification of the store, or by polling."""


class Store(Outbox, Housekeeping, Admin, Protocol):
    """What opening an outbox returns: all views of it, and the leases where several relays may share it."""

    @property
    def mode(self) -> Mode:
        """How changes are found now; it may change while the store is open."""

    def when_changed(self, changed: Callable[[str], None]) -> None:
        """Have `changed` called, in the loop, with the reason, once the store is another one than before.

        A backup was put back, a standby was promoted, the tables were made anew: rows that were read may be
        gone, and their ids may belong to other messages. It is called before a result of the new store is
        returned; it is noticed where the store is open for a relay (`exclusive`, or with leases).
        """

    @property
    def leases(self) -> Leases | None:
        """None: one process has the whole outbox, or it was opened without leases."""
