"""An outbox in memory, for tests in virtual time: no thread, no file, the clock handed in.

It passes the same contract suite as the real ones. A call awaits once, as one to a disk would, and then
does everything at one go: calls are transactions.
"""

import asyncio
import contextlib
import json
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, assert_never

from relay.core.activity import (
    EVERYONE,
    FUTURE_SECONDS,
    SPANS,
    Activity,
    ActivityKey,
    Span,
    TenantActivity,
    combined,
)
from relay.core.admin import (
    AGES,
    FIRST,
    Action,
    ActionCount,
    AuditAction,
    AuditEntry,
    BulkAction,
    Count,
    Filter,
    MessageState,
    Moment,
    Preview,
    QueueAges,
    Record,
    RelayBeat,
)
from relay.core.model import (
    DEFAULT_TO,
    AuditId,
    Delivered,
    DocumentName,
    Draft,
    LogicalId,
    Message,
    MessageId,
    MessageKey,
    Ordering,
    OrderingKey,
    Parked,
    Released,
    RowId,
    Settlement,
    SettlementId,
    TenantId,
    TenantState,
    classic_message_id,
)
from relay.core.ports import (
    LARGE_PAYLOAD,
    RELAY,
    ConflictError,
    Control,
    Mode,
    Notification,
    NotSettled,
    RefusedRows,
    RestoredBackup,
    StoreError,
    StoreIncident,
)
from relay.outbox.bulk import ABANDONED_SECONDS, ACTIONS, action_mark, run_to_end, states_of, summary
from relay.outbox.payload_digest import fingerprint, sha256
from relay.outbox.values import MAX_ATTEMPTS
from tests.support.leases import MemoryLeases, Register

ALIVE_SECONDS = 15.0
CHUNK = 500


@dataclass(slots=True)
class Row:
    """One message, as the table has it. Instants are seconds of the handed-in clock."""

    row: RowId
    tenant_id: TenantId
    document_name: DocumentName
    message_id: MessageId
    payload: bytes
    to_logical_id: LogicalId
    ordering_key: OrderingKey | None
    parameters: str
    created_at: float
    queued_at: float
    state: MessageState = "pending"
    reason: str | None = None
    attempts: int = 0
    not_before: float | None = None
    settled_at: float | None = None
    payload_size: int | None = None
    history: list[tuple[float, str, str]] = field(default_factory=list)
    settlements: set[SettlementId | None] = field(default_factory=set)

    def purge_payloads(self) -> None:
        if self.payload_size is None:
            self.payload_size, self.payload = len(self.payload), sha256(self.payload)

    @property
    def content(self) -> tuple[Any, ...]:
        return (
            self.document_name,
            fingerprint(self.payload, self.payload_size),
            self.to_logical_id,
            self.ordering_key,
            json.loads(self.parameters),
        )


@dataclass(slots=True)
class Beat:
    process: object
    details: dict[str, str]
    started_at: float
    beat_at: float


@dataclass(slots=True)
class Running:
    """How far a decision has come."""

    order: BulkAction
    moved_at: float
    after: int = 0


@dataclass(slots=True)
class Shelf:
    """What outlives a relay process: the rows and what is kept beside them."""

    clock: Callable[[], float]
    rows: dict[RowId, Row] = field(default_factory=dict)
    controls: dict[TenantId, Control] = field(default_factory=dict)
    states: dict[TenantId, tuple[object, TenantState]] = field(default_factory=dict)
    beats: dict[str, Beat] = field(default_factory=dict)
    register: Register = field(default_factory=Register)
    audit: dict[AuditId, AuditEntry] = field(default_factory=dict)
    orders: dict[AuditId, "Running"] = field(default_factory=dict)
    activity: dict[ActivityKey, Activity] = field(default_factory=dict)
    last_row: int = 0
    last_audit: int = 0
    changes: int = 0
    watchers: set[asyncio.Event] = field(default_factory=set)

    def changed(self) -> None:
        self.changes += 1
        for watcher in self.watchers:
            watcher.set()


class MemoryOutbox:
    """`ports.Store`. Two of them on one `shelf` are two processes on one file.

    With `lease_seconds` it is shared like one on PostgreSQL: `leases`, checked by every settlement.
    """

    mode: Mode = "notify"

    def __init__(
        self,
        clock: Callable[[], float],
        shelf: Shelf | None = None,
        lease_seconds: float | None = None,
        *,
        purging: bool = False,
    ) -> None:
        self._purging = purging
        self.shelf = shelf or Shelf(clock)
        self.leases = (
            None
            if lease_seconds is None
            else MemoryLeases(self.shelf.register, clock, lease_seconds, lambda: self._relay)
        )
        self._relay = "relay"  # until the first heartbeat brings the name
        self._read: dict[RowId, int | None] = {}  # under which fence
        self.broken: StoreError | None = None
        """While set, every call raises it and stores nothing."""
        self.refuses: dict[RowId, str] = {}
        """Rows that it neither settles nor deletes, and its words."""
        self.refused_rows: Sequence[RefusedRows] = ()
        self._report_change: Callable[[str], None] = lambda _: None
        self._process = object()
        self._purged = (0.0, RowId(0))
        self._seen = -1
        self._found_unclean = False
        self._closed = False

    def when_changed(self, changed: Callable[[str], None]) -> None:
        self._report_change = changed

    def replace(self, shelf: Shelf) -> None:
        """As a restored copy: another store from now on."""
        self.shelf = shelf
        self._report_change("a copy was put back")

    @property
    def rows(self) -> list[Row]:
        """In the order of their ids, for assertions."""
        return [row for _, row in sorted(self.shelf.rows.items())]

    def insert(self, draft: Draft, *, row: int | None = None) -> RowId:
        """As an application's INSERT. `row`: an id that was given out earlier and commits only now."""
        shelf, now = self.shelf, self.shelf.clock()
        shelf.last_row = max(shelf.last_row + 1, row or 0)
        new = RowId(shelf.last_row if row is None else row)
        assert new not in shelf.rows
        shelf.rows[new] = Row(
            row=new,
            tenant_id=TenantId(draft.tenant_id.upper()),
            document_name=draft.document_name,
            message_id=draft.message_id or classic_message_id(new.to_bytes(16, "big")),
            payload=draft.payload,
            to_logical_id=draft.to_logical_id or DEFAULT_TO,
            ordering_key=draft.ordering_key,
            parameters=json.dumps(dict(draft.parameters)),
            created_at=now,
            queued_at=now,
        )
        shelf.changed()
        return new

    async def _turn(self) -> None:
        """Where a store on disk would let others run; raises before anything is done."""
        if self._closed:
            raise StoreError("the outbox is closed", lasting=True)
        await asyncio.sleep(0)
        if self.broken is not None:
            raise self.broken

    # --- ports.Outbox ---------------------------------------------------------------------------

    async def add(self, drafts: Sequence[Draft]) -> Sequence[MessageId]:
        await self._turn()
        before, last = dict(self.shelf.rows), self.shelf.last_row
        try:
            return [self._add(draft) for draft in drafts]
        except ConflictError:
            self.shelf.rows, self.shelf.last_row = before, last
            raise

    def _add(self, draft: Draft) -> MessageId:
        same = self.shelf.rows.values() if draft.message_id is not None else ()
        for row in same:
            if (row.tenant_id, row.message_id) == (draft.tenant_id.upper(), draft.message_id):
                print_ = fingerprint(draft.payload, None)
                content = (draft.document_name, print_, draft.to_logical_id, draft.ordering_key)
                if row.content != (*content, dict(draft.parameters)):
                    raise ConflictError(draft.tenant_id, row.message_id)
                return row.message_id
        return self.shelf.rows[self.insert(draft)].message_id

    async def due(
        self,
        tenant: TenantId,
        accepted: Set[DocumentName],
        held: Set[OrderingKey | None],
        known: Set[RowId],
        limit: int,
        max_bytes: int,
    ) -> Sequence[Message]:
        await self._turn()
        found: list[Message] = []
        room = max_bytes
        for row in self._pending(tenant):
            unwanted = row.ordering_key in held or row.row in known or row.document_name not in accepted
            if unwanted:
                continue
            size = len(row.payload)
            large = min(max_bytes, LARGE_PAYLOAD)
            if len(found) == limit or (found and room < size <= large):
                break
            room -= size if size <= large else 0
            found.append(self._message(row, row.payload if size <= large else b""))
            if self.leases is not None:
                self._read[row.row] = self.leases.fence(tenant)
        return found

    async def message(self, row: RowId, max_bytes: int) -> Message | None:
        await self._turn()
        found = self.shelf.rows.get(row)
        if found is None or found.state != "pending":
            return None
        return self._message(found, found.payload if len(found.payload) <= max_bytes else b"")

    def _message(self, row: Row, payload: bytes) -> Message:
        now = self.shelf.clock()
        return Message(
            row=row.row,
            tenant_id=row.tenant_id,
            document_name=row.document_name,
            message_id=row.message_id,
            payload=payload,
            size=len(row.payload),
            to_logical_id=row.to_logical_id,
            ordering_key=row.ordering_key,
            parameters=row.parameters,
            attempts=row.attempts,
            holds_for=max(0.0, (row.not_before or 0.0) - now),
            age=max(0.0, now - row.queued_at),
        )

    def _pending(self, tenant: TenantId | None = None) -> Iterator[Row]:
        for row in self.rows:
            if row.state == "pending" and tenant in (None, row.tenant_id):
                yield row

    async def documents(self, tenant: TenantId) -> frozenset[DocumentName]:
        await self._turn()
        return frozenset(row.document_name for row in self._pending(tenant))

    async def settle(self, settlements: Sequence[tuple[MessageKey, Settlement]]) -> NotSettled:
        await self._turn()
        replaced: set[MessageKey] = set()
        refused: dict[MessageKey, str] = {}
        for key, settlement in sorted(settlements, key=lambda pair: not isinstance(pair[1], Delivered)):
            row = self.shelf.rows.get(key.row)
            if row is None:
                continue
            if (row.message_id, row.tenant_id) != (key.message_id, key.tenant_id):
                replaced.add(key)
            elif row.row in self.refuses:
                refused[key] = self.refuses[row.row]
            elif self._is_mine(row):
                self._settle(row, settlement)
        self.shelf.changed()
        return NotSettled(frozenset(replaced), refused)

    def _is_mine(self, row: Row) -> bool:
        return self.leases is None or self.leases.may_settle(row.tenant_id, self._read.pop(row.row, None))

    def _settle(self, row: Row, settlement: Settlement) -> None:
        now = self.shelf.clock()
        match settlement:
            case Delivered():
                if row.state != "delivered":
                    row.state, row.reason, row.not_before, row.settled_at = "delivered", None, None, now
                    if self._purging:
                        row.purge_payloads()
                    if row.history:
                        row.history.append((now, "delivered", ""))
            case Released() | Parked() if settlement.id is not None and settlement.id in row.settlements:
                return
            case Released(reason, counted, wait) if row.state == "pending":
                row.reason, row.attempts = reason, min(row.attempts + counted, MAX_ATTEMPTS)
                row.not_before = now + wait if wait > 0 else None
                row.history.append((now, "counted" if counted else "released", reason))
            case Parked(reason, counted) if row.state == "pending":
                row.state, row.reason, row.not_before, row.settled_at = "parked", reason, None, now
                row.attempts = min(row.attempts + counted, MAX_ATTEMPTS)
                row.history.append((now, "parked", reason))
            case Released() | Parked():
                pass
            case _:
                assert_never(settlement)
        if not isinstance(settlement, Delivered):
            row.settlements.add(settlement.id)

    async def arrivals(self, within: float) -> Notification:
        if self._seen == self.shelf.changes and not self._closed:
            await self._await_change(within)
        self._seen = self.shelf.changes
        return await self.notification()

    async def _await_change(self, within: float) -> None:
        watcher = asyncio.Event()
        self.shelf.watchers.add(watcher)
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(within):
                    await watcher.wait()
        finally:
            self.shelf.watchers.discard(watcher)

    async def notification(self) -> Notification:
        await self._turn()
        return Notification(frozenset(row.tenant_id for row in self._pending()), dict(self.shelf.controls))

    async def report(self, states: Sequence[TenantState]) -> None:
        await self._turn()
        for state in states:
            if self.leases is None or not self.leases.another_holds(state.tenant_id):
                self.shelf.states[state.tenant_id] = (self._process, state)
        self.shelf.changed()

    async def beat(self, relay: str, details: Mapping[str, str]) -> bool:
        await self._turn()
        now = self.shelf.clock()
        before = self.shelf.beats.get(relay)
        again = before is not None and before.process is self._process
        started = before.started_at if before is not None and again else now
        self._found_unclean = self._found_unclean or (before is not None and not again)
        self.shelf.beats[relay] = Beat(self._process, dict(details), started, now)
        self._relay = relay
        self.shelf.changed()
        return again

    async def leave(self, relay: str) -> None:
        await self._turn()
        self._forget(relay)
        if self.leases is not None:
            self.leases.leave()

    def _forget(self, relay: str) -> None:
        beat = self.shelf.beats.pop(relay, None)
        process = None if beat is None else beat.process
        self.shelf.states = {t: kept for t, kept in self.shelf.states.items() if kept[0] is not process}
        self.shelf.changed()

    async def unclean(self) -> bool:
        await self._turn()
        left = [
            relay
            for relay, beat in self.shelf.beats.items()
            if beat.process is not self._process and not (self.leases is not None and self._alive(beat))
        ]
        for relay in left:
            self._forget(relay)
        return bool(left) or self._found_unclean

    async def may_write(self) -> None:
        await self._turn()

    async def clock(self) -> datetime:
        await self._turn()
        return _utc(self.shelf.clock())

    async def prune(self, older_than: float, limit: int) -> int:
        await self._turn()
        cutoff = self.shelf.clock() - older_than
        old = [
            (row.settled_at, row.row)
            for row in self.rows
            if row.state in ("delivered", "dropped")
            and row.settled_at is not None
            and row.settled_at < cutoff
        ]
        refused = [row for _, row in sorted(old)[:limit] if row in self.refuses]
        self.refused_rows = [RefusedRows(len(refused), row, self.refuses[row]) for row in refused[:1]]
        for _, row in sorted(old)[:limit]:
            if row not in refused:
                del self.shelf.rows[row]
        self.shelf.changed()
        return len(old[:limit])

    async def purge_payloads(self, older_than: float, limit: int) -> int:
        await self._turn()
        cutoff = self.shelf.clock() - older_than
        settled = sorted((row.settled_at or 0.0, row.row) for row in self.rows if row.state == "delivered")
        found = [(at, row) for at, row in settled if (at, row) > self._purged and at < cutoff][:limit]
        for at, row in found:
            self.shelf.rows[row].purge_payloads()
            self._purged = (at, row)
        return len(found)

    async def record_activity(self, counts: Mapping[ActivityKey, Activity]) -> None:
        await self._turn()
        self.shelf.activity.update(counts)

    async def record_waiting(self, at: float) -> None:
        await self._turn()
        kept = self.shelf.activity
        waiting = {tenant: count.pending for tenant, count in (await self.counts()).items() if count.pending}
        for tenant, pending in {**waiting, EVERYONE: sum(waiting.values())}.items():
            for span in SPANS:
                key = ActivityKey("", span, span.start(at), tenant)
                kept[key] = combined([kept.get(key, Activity()), Activity(waiting=pending)])

    async def prune_activity(self, limit: int) -> int:
        await self._turn()
        now = self.shelf.clock()
        old = [
            key for key in self.shelf.activity if not now - key.span.kept <= key.start <= now + FUTURE_SECONDS
        ]
        for key in old[:limit]:
            del self.shelf.activity[key]
        return len(old[:limit])

    async def close(self) -> None:
        self._closed = True
        await asyncio.sleep(0)

    # --- admin.Admin ----------------------------------------------------------------------------

    async def counts(self) -> Mapping[TenantId, Count]:
        await self._turn()
        return {tenant: self._count(tenant) for tenant in sorted({row.tenant_id for row in self.rows})}

    def _count(self, tenant: TenantId) -> Count:
        now = self.shelf.clock()
        states = [row.state for row in self.rows if row.tenant_id == tenant]
        ages = [now - row.queued_at for row in self._pending(tenant) if (row.not_before or now) <= now]
        return Count(
            pending=states.count("pending"),
            delivered=states.count("delivered"),
            parked=states.count("parked"),
            dropped=states.count("dropped"),
            oldest_due_seconds=max(ages, default=None),
        )

    async def states(self) -> Mapping[TenantId, TenantState]:
        await self._turn()
        alive = {beat.process: name for name, beat in self.shelf.beats.items() if self._alive(beat)}
        return {
            tenant: replace(state, relay=alive[process])
            for tenant, (process, state) in self.shelf.states.items()
            if process in alive and self.shelf.register.holder(tenant) in (None, alive[process])
        }

    def _alive(self, beat: Beat) -> bool:
        return abs(self.shelf.clock() - beat.beat_at) <= ALIVE_SECONDS

    async def size(self) -> int:
        await self._turn()
        return sum(len(row.payload) for row in self.rows)

    async def log_bytes(self) -> int | None:
        await self._turn()
        return None

    async def notification_queue(self) -> float | None:
        await self._turn()
        return None

    async def incidents(self) -> Sequence[StoreIncident]:
        await self._turn()
        return ()

    async def restored(self) -> RestoredBackup | None:
        await self._turn()
        return None

    async def relays(self) -> Sequence[RelayBeat]:
        await self._turn()
        return [
            RelayBeat(relay, beat.details, _utc(beat.started_at), _utc(beat.beat_at), self._alive(beat))
            for relay, beat in sorted(
                self.shelf.beats.items(), key=lambda item: (item[1].started_at, item[0])
            )
        ]

    async def find(self, wanted: Filter, limit: int, after: RowId = FIRST) -> Sequence[Record]:
        await self._turn()
        selected = [row for row in self._select(wanted) if row.row > after]
        return [replace(_record(row), history=()) for row in selected][:limit]

    async def show(self, message_id: MessageId, tenant: TenantId | None) -> Sequence[Record]:
        await self._turn()
        return [_record(row) for row in self._select(Filter(tenant=tenant, ids=(message_id,)))]

    async def before(
        self, record: Record, ordering: Ordering, skipped: Collection[DocumentName], limit: int
    ) -> Sequence[Record]:
        await self._turn()
        before = [
            replace(_record(row), history=())
            for row in self._pending(record.tenant_id)
            if row.row < record.row
            and row.document_name not in skipped
            and (ordering == "tenant" or row.ordering_key == record.ordering_key)
        ]
        return [] if ordering == "none" else before[:limit]

    async def payload(self, row: RowId, limit: int) -> bytes | None:
        await self._turn()
        found = self.shelf.rows.get(row)
        return None if found is None or found.payload_size is not None else found.payload[:limit]

    async def queue_ages(self, tenant: TenantId | None, limit: int) -> Sequence[QueueAges]:
        await self._turn()
        now = self.shelf.clock()
        ages: dict[tuple[TenantId, DocumentName], list[float]] = {}
        for row in self._pending(None if tenant is None else TenantId(tenant.upper())):
            ages.setdefault((row.tenant_id, row.document_name), []).append(now - row.queued_at)
        return [
            QueueAges(*group, _buckets(found[:limit]), more=len(found) > limit)
            for group, found in sorted(ages.items())
        ]

    async def activity(
        self, span: Span, starts: Sequence[int], tenants: Sequence[TenantId]
    ) -> Sequence[TenantActivity]:
        await self._turn()
        found: dict[tuple[int, TenantId], list[Activity]] = {}
        for key, one in self.shelf.activity.items():
            if key.span == span and key.start in starts and key.tenant in tenants:
                found.setdefault((key.start, key.tenant), []).append(one)
        return [
            TenantActivity(start, tenant, combined(ones)) for (start, tenant), ones in sorted(found.items())
        ]

    async def deliveries(
        self, span: Span, starts: Sequence[int], tenants: Sequence[TenantId]
    ) -> Mapping[TenantId, Mapping[int, int]]:
        found: dict[TenantId, dict[int, int]] = {}
        for start, tenant, one in await self.activity(span, starts, tenants):
            if one.delivered:
                found.setdefault(tenant, {})[start] = one.delivered
        return found

    # --- admin.Admin: bulk --------------------------------------------------------------------

    async def preview(self, what: Action, wanted: Filter, sample: int = 5) -> Preview:
        await self._turn()
        frozen, states = replace(wanted, moment=self._moment()), states_of(what, wanted)
        selected = [row for row in self._select(frozen) if row.state in states]
        groups = Counter((row.tenant_id, row.document_name, row.state) for row in selected)
        counted = tuple((*group, number) for group, number in groups.most_common())
        records = [replace(_record(row), history=()) for row in selected[:sample]]
        return Preview(what, frozen, len(selected), counted, records)

    def _moment(self) -> Moment:
        return Moment(RowId(self.shelf.last_row), _utc(self.shelf.clock()))

    async def begin(self, order: BulkAction) -> AuditId:
        await self._turn()
        wanted = order.wanted
        if wanted.moment is None:
            wanted = replace(wanted, moment=self._moment())
        entry = self._note(order.who, order.what, wanted.tenant, summary(wanted), order.reason)
        entry = replace(entry, outcome="running", ended_at=None)
        self.shelf.orders[entry.id] = Running(replace(order, wanted=wanted), self.shelf.clock())
        return self._enter(entry).id

    async def advance(self, audit_id: AuditId) -> AuditEntry:
        await self._turn()
        entry = self.shelf.audit.get(audit_id)
        if entry is None:
            raise StoreError(f"there is no bulk action {audit_id} in the audit")
        if entry.outcome != "running":
            return entry
        running, order = self.shelf.orders[audit_id], self.shelf.orders[audit_id].order
        states = states_of(order.what, order.wanted)
        selected = [
            row for row in self._select(order.wanted) if row.state in states and row.row > running.after
        ]
        self._decide(order, selected[:CHUNK], audit_id)
        entry = replace(entry, messages=entry.messages + len(selected[:CHUNK]))
        if len(selected) < CHUNK:
            entry = replace(entry, outcome="done", ended_at=_utc(self.shelf.clock()))
        else:
            running.after, running.moved_at = selected[CHUNK - 1].row, self.shelf.clock()
        return self._enter(entry)

    async def outcome(self, audit_id: AuditId, limit: int) -> Sequence[ActionCount]:
        await self._turn()
        retried = [
            row for row in self.shelf.rows.values() if SettlementId(action_mark(audit_id)) in row.settlements
        ]
        found = Counter(
            (row.state, row.reason or "" if row.state == "parked" else "") for row in retried[:limit]
        )
        return [ActionCount(state, reason, count) for (state, reason), count in found.items()]

    def _decide(self, order: BulkAction, selected: Sequence[Row], audit_id: AuditId) -> None:
        now, done = self.shelf.clock(), ACTIONS[order.what].done
        for row in selected:
            row.history.append((now, done, order.reason))
            row.not_before, row.reason, row.settled_at = None, order.reason, now
            if done == "retried":
                row.attempts, row.queued_at, row.reason, row.settled_at = 0, now, None, None
                row.settlements.add(SettlementId(action_mark(audit_id)))
            row.state = "pending" if done == "retried" else done
        self._bump({row.tenant_id for row in selected})

    async def decide(self, order: BulkAction) -> int:
        return await run_to_end(self, order)

    async def cancel(self, audit_id: AuditId, who: str) -> bool:
        await self._turn()
        entry = self.shelf.audit.get(audit_id)
        if entry is None or entry.outcome != "running":
            return False
        self._enter(replace(entry, outcome="cancelled", ended_at=_utc(self.shelf.clock())))
        self._note(who, "cancel", entry.tenant, f"{entry.what} {audit_id}")
        return True

    def _select(self, wanted: Filter) -> Iterator[Row]:
        tenant = None if wanted.tenant is None else wanted.tenant.upper()
        for row in self.rows:
            fits = (
                tenant in (None, row.tenant_id)
                and wanted.document in (None, row.document_name)
                and wanted.state in (None, row.state)
                and (wanted.reason is None or wanted.reason in (row.reason or ""))
            )
            if fits and (not wanted.ids or row.message_id in wanted.ids) and _was_there(row, wanted.moment):
                yield row

    def _bump(self, tenants: Iterable[TenantId]) -> None:
        for tenant in tenants:
            control = self.shelf.controls.get(tenant, Control())
            self.shelf.controls[tenant] = replace(control, revision=control.revision + 1)
        self.shelf.changed()

    async def pause(self, tenant: TenantId, reason: str, who: str = RELAY) -> None:
        await self._turn()
        self._bump([tenant])
        self.shelf.controls[tenant] = replace(self.shelf.controls[tenant], paused=reason)
        self._note(who, "pause", tenant, "", reason)

    async def resume(self, tenant: TenantId, who: str) -> None:
        await self._turn()
        self._bump([tenant])
        self.shelf.controls[tenant] = replace(self.shelf.controls[tenant], paused=None)
        self._note(who, "resume", tenant)

    async def ask(self, tenant: TenantId, who: str) -> None:
        await self._turn()
        self._bump([tenant])
        self._note(who, "ask", tenant)

    # --- admin.Admin: the audit ----------------------------------------------------------------

    async def audit(self, limit: int, tenant: TenantId | None = None) -> Sequence[AuditEntry]:
        await self._turn()
        wanted = (None, tenant and tenant.upper())
        newest = sorted(self.shelf.audit.values(), key=lambda entry: entry.id, reverse=True)
        return [entry for entry in newest if tenant is None or entry.tenant in wanted][:limit]

    async def entry(self, audit_id: AuditId) -> AuditEntry | None:
        await self._turn()
        return self.shelf.audit.get(audit_id)

    async def note(self, who: str, what: AuditAction, tenant: TenantId | None, selection: str) -> None:
        await self._turn()
        self._note(who, what, tenant, selection)

    def _note(
        self, who: str, what: AuditAction, tenant: TenantId | None, selection: str = "", reason: str = ""
    ) -> AuditEntry:
        self.shelf.last_audit += 1
        now = _utc(self.shelf.clock())
        name = None if tenant is None else TenantId(tenant.upper())
        number = AuditId(self.shelf.last_audit)
        return self._enter(AuditEntry(number, now, who, what, name, selection, reason, 0, "done", now))

    def _enter(self, entry: AuditEntry) -> AuditEntry:
        self.shelf.audit[entry.id] = entry
        return entry

    async def prune_audit(self, older_than: float, limit: int) -> int:
        await self._turn()
        for entry in list(self.shelf.audit.values()):
            self._fail_if_abandoned(entry)
        before = _utc(self.shelf.clock() - older_than)
        old = [number for number, entry in sorted(self.shelf.audit.items()) if entry.at < before][:limit]
        for number in old:
            del self.shelf.audit[number]
        return len(old)

    def _fail_if_abandoned(self, entry: AuditEntry) -> None:
        if entry.outcome == "running":
            moved_at = self.shelf.orders[entry.id].moved_at
            if moved_at < self.shelf.clock() - ABANDONED_SECONDS:
                self._enter(replace(entry, outcome="failed", ended_at=_utc(moved_at)))


def _buckets(ages: Sequence[float]) -> tuple[int, ...]:
    found = Counter(bisect_right(AGES, age) for age in ages)
    return tuple(found[place] for place in range(len(AGES) + 1))


def _was_there(row: Row, then: Moment | None) -> bool:
    if then is None:
        return True
    since = row.queued_at if row.state == "pending" else row.settled_at or row.queued_at
    return row.row <= then.upto and _utc(since) <= then.at


def _utc(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _record(row: Row) -> Record:
    return Record(
        row=row.row,
        tenant_id=row.tenant_id,
        document_name=row.document_name,
        message_id=row.message_id,
        to_logical_id=row.to_logical_id,
        ordering_key=row.ordering_key,
        parameters=json.loads(row.parameters),
        size=len(row.payload) if row.payload_size is None else row.payload_size,
        state=row.state,
        reason=row.reason,
        attempts=row.attempts,
        not_before=None if row.not_before is None else _utc(row.not_before),
        created_at=_utc(row.created_at),
        queued_at=_utc(row.queued_at),
        settled_at=None if row.settled_at is None else _utc(row.settled_at),
        history=tuple((_utc(at), what, detail) for at, what, detail in row.history),
    )
