"""This file is one message's story: what happened to it, how it stands, and what it waits for now."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, assert_never

from relay.core.accepted_documents import withheld_in
from relay.core.admin import Filter, Record
from relay.core.model import MessageId, Ordering, TenantId
from relay.observability import error_codes
from relay.reports.overview import Configured, Overview, Source, look
from relay.reports.times import instant
from relay.reports.wait_reasons import Around, Wait, waits

_WORDS = {
    "released": "not delivered, back to waiting",
    "counted": "not delivered, counted as an attempt; it may have arrived all the same",
    "parked": "parked",
    "delivered": "delivered",
    "retried": "back in the queue by hand",
    "dropped": "dropped by hand",
}


@dataclass(frozen=True, slots=True)
class Happening:
    """One thing that happened to a message; `at` None: the outbox does not know when."""

    at: datetime | None
    text: str


@dataclass(frozen=True, slots=True)
class MessageReport:
    """A message with its surroundings."""

    record: Record
    around: Around

    @property
    def happened(self) -> Sequence[Happening]:
        """What happened so far, the first first."""
        record = self.record
        told = [Happening(record.created_at, f"handed over, {record.size} bytes")]
        told += [Happening(at, _said(_WORDS.get(what, what), detail)) for at, what, detail in record.history]
        if record.state not in ("pending", *(what for _, what, _ in record.history)):
            told.append(Happening(record.settled_at, _said(record.state, record.reason)))
        return told

    @property
    def now(self) -> str:
        """How it stands, in one sentence, with what a person can do."""
        record = self.record
        match record.state:
            case "pending":
                return "It waits to be delivered."
            case "delivered":
                return "It was delivered: ION took custody."
            case "parked":
                return (
                    f"It is parked: {record.reason}. Mend the cause, then: relay messages retry "
                    f"{record.message_id}; or give it up: relay messages drop {record.message_id}; "
                    f"see: relay explain {error_codes.PARKED.code}"
                )
            case "dropped":
                again = f"It comes back with: relay messages retry {record.message_id}"
                return f"It was dropped: {record.reason}. {again}"
            case _:
                assert_never(record.state)

    @property
    def relay(self) -> str | None:
        """The relay process that carries its tenant; None where none does."""
        return None if self.around.state is None else self.around.state.relay

    @property
    def waits_for(self) -> Sequence[Wait]:
        """What it waits for, the outermost first; empty unless it is pending."""
        return waits(self.record, self.around)

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


def _said(what: str, detail: str | None) -> str:
    return f"{what}: {detail}" if detail else what


async def tell(
    outbox: Source, message_id: MessageId, tenant: TenantId | None, configured: Configured, now: datetime
) -> Sequence[MessageReport]:
    """The story of every message of this id: several where tenants use the same, none where there is none."""
    records = await outbox.show(message_id, tenant)
    overview = await look(outbox, configured, now)
    return [MessageReport(record, await _around(record, outbox, overview)) for record in records]


async def _around(record: Record, outbox: Source, overview: Overview) -> Around:
    around = surroundings(record.tenant_id, overview)
    return replace(around, head=await _head(record, outbox, around.ordering or "key"))


def surroundings(tenant: TenantId, overview: Overview) -> Around:
    """What the outbox knows about the tenant that a message may wait for."""
    state = overview.states.get(tenant)
    return Around(
        now=overview.at,
        ordering=overview.configured.get(tenant),
        state=state,
        paused=overview.paused(tenant),
        running=overview.running,
        not_accepted=withheld_in(state.reason) if state else frozenset(),
    )


async def _head(record: Record, outbox: Source, ordering: Ordering) -> Record | None:
    if record.state != "pending" or ordering == "none":
        return None
    if ordering == "key":
        return await outbox.ahead(record)
    first = await outbox.find(Filter(record.tenant_id, state="pending"), 1)
    return first[0] if first and first[0].row < record.row else None
