"""The report on one message: its history, its state, and what it waits for."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, assert_never

from relay.core.admin import Record
from relay.core.model import MessageId, TenantId
from relay.observability import error_codes
from relay.reports.delays import READ_LIMIT, blocker
from relay.reports.overview import Configured, Overview, ReportStore, read_overview
from relay.reports.times import instant
from relay.reports.wait_reasons import WaitContext, WaitReason, message_wait_reasons

_EVENT_TEXTS = {
    "released": "not delivered, back to waiting",
    "counted": "not delivered, counted as an attempt; it may have arrived nevertheless",
    "parked": "parked",
    "delivered": "delivered",
    "retried": "retried by an operator",
    "dropped": "dropped by an operator",
}


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """One event in a message's life; `at` None: the outbox does not know when."""

    at: datetime | None
    text: str


@dataclass(frozen=True, slots=True)
class MessageReport:
    """A message, and what is known about its tenant and its lane."""

    record: Record
    context: WaitContext

    @property
    def history(self) -> Sequence[HistoryEntry]:
        """What happened so far, the oldest entry first."""
        record = self.record
        entries = [HistoryEntry(record.created_at, f"enqueued, {record.size} bytes")]
        for at, what, detail in record.history:
            entries.append(HistoryEntry(at, _with_detail(_EVENT_TEXTS.get(what, what), detail)))
        if record.state not in ("pending", *(what for _, what, _ in record.history)):
            entries.append(HistoryEntry(record.settled_at, _with_detail(record.state, record.reason)))
        return entries

    @property
    def summary(self) -> str:
        """Its state and what an operator can do, in words; the page has buttons for it."""
        record = self.record
        match record.state:
            case "pending":
                return "It waits to be delivered."
            case "delivered":
                return "It was delivered: ION took custody."
            case "parked":
                return f"It is parked: {_reason(record)}. Fix the cause, then retry it; or drop it."
            case "dropped":
                return f"It was dropped: {_reason(record)}. Retry it to enqueue it again."
            case _:
                assert_never(record.state)

    @property
    def code(self) -> str | None:
        """The run book's, of its state."""
        return error_codes.PARKED.code if self.record.state == "parked" else None

    @property
    def commands(self) -> Sequence[str]:
        """What does on the command line what the summary names."""
        match self.record.state:
            case "parked":
                words: tuple[str, ...] = (
                    "messages retry {0}",
                    "messages drop {0}",
                    f"explain {error_codes.PARKED.code}",
                )
            case "dropped":
                words = ("messages retry {0}",)
            case _:
                words = ()
        return ["relay " + one.format(self.record.message_id) for one in words]

    @property
    def relay(self) -> str | None:
        """The relay process that owns its tenant; None where none does."""
        return None if self.context.state is None else self.context.state.relay

    @property
    def waits_for(self) -> Sequence[WaitReason]:
        """What it waits for, its tenant's reason first; empty unless it is pending."""
        return message_wait_reasons(self.record, self.context)

    def as_json(self) -> dict[str, Any]:
        """As `relay messages show --json` prints it."""
        record = self.record
        return {
            "message_id": record.message_id,
            "tenant_id": record.tenant_id,
            "document_name": record.document_name,
            "to_logical_id": record.to_logical_id,
            "ordering_key": record.ordering_key,
            "parameters": dict(record.parameters),
            "size": record.size,
            "state": record.state,
            "reason": record.reason,
            "code": error_codes.PARKED.code if record.state == "parked" else None,
            "attempts": record.attempts,
            "not_before": instant(record.not_before),
            "created_at": instant(record.created_at),
            "queued_at": instant(record.queued_at),
            "settled_at": instant(record.settled_at),
            "relay": self.relay,
            "history": [
                {"at": instant(at), "what": what, "detail": detail} for at, what, detail in record.history
            ],
            "waits_for": [wait.as_json() for wait in self.waits_for],
        }


def _reason(record: Record) -> str:
    return record.reason or "no reason was given"


def _with_detail(what: str, detail: str | None) -> str:
    return f"{what}: {detail}" if detail else what


async def read_messages(
    outbox: ReportStore, message_id: MessageId, tenant: TenantId | None, configured: Configured, now: datetime
) -> Sequence[MessageReport]:
    """The report on every message of this id: several tenants may use the same one."""
    records = await outbox.show(message_id, tenant)
    overview = await read_overview(outbox, configured, now)
    return [MessageReport(record, await _context(record, outbox, overview)) for record in records]


async def _context(record: Record, outbox: ReportStore, overview: Overview) -> WaitContext:
    context = overview.wait_context(record.tenant_id)
    if record.state != "pending":
        return context
    before = await outbox.before(record, context.ordering or "key", context.not_accepted, READ_LIMIT)
    return replace(context, ahead=blocker(before, context.now))
