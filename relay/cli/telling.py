"""This file is where one message's story is gathered from the outbox and the settings."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from relay.cli import say, story
from relay.cli.desk import at_outbox, settings
from relay.cli.status import Seen, look
from relay.desk import Filter, Record
from relay.flight import NOT_ACCEPTED
from relay.model import MessageId, TenantId
from relay.settings import Settings

if TYPE_CHECKING:
    from relay.ports import Store


@dataclass(frozen=True, slots=True)
class Told:
    """A message with its surroundings."""

    record: Record
    around: story.Around

    def lines(self) -> Iterator[str]:
        """For people."""
        record = self.record
        yield f"message {record.message_id}"
        yield f"  tenant {record.tenant_id}, document {record.document_name}, to {record.to_logical_id}"
        if record.ordering_key is not None:
            yield f"  ordering key {record.ordering_key}"
        for name, value in record.parameters.items():
            yield f"  {name} = {value}"
        for happening in story.happened(record):
            yield f"  {happening}"
        yield story.now_is(record)
        for wait in story.waits(record, self.around):
            yield story.sentence(wait, self.around.now)

    def as_json(self) -> dict[str, Any]:
        """For programs."""
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
            "attempts": record.attempts,
            "not_before": say.instant(record.not_before),
            "created_at": say.instant(record.created_at),
            "queued_at": say.instant(record.queued_at),
            "settled_at": say.instant(record.settled_at),
            "history": [
                {"at": say.instant(at), "what": what, "detail": detail} for at, what, detail in record.history
            ],
            "waits_for": [
                {
                    "rule": wait.rule,
                    "text": wait.text,
                    "since": say.instant(wait.since),
                    "next_try": say.instant(wait.next_try),
                }
                for wait in story.waits(record, self.around)
            ],
        }


def tell(message_id: MessageId, tenant: TenantId | None) -> list[Told]:
    """Every message of this id: several where tenants use the same."""
    known = settings()

    async def work(outbox: "Store") -> list[Told]:
        records = await outbox.show(message_id, tenant)
        seen = await look(outbox)
        return [Told(record, await _around(record, outbox, seen, known)) for record in records]

    return at_outbox(known.outbox, work)


async def _around(record: Record, outbox: "Store", seen: Seen, known: Settings) -> story.Around:
    tenant, control = known.tenants.get(record.tenant_id), seen.controls.get(record.tenant_id)
    state = seen.states.get(record.tenant_id)
    reason = state.reason if state is not None else ""
    listed = reason.removeprefix(NOT_ACCEPTED).split(", ") if reason.startswith(NOT_ACCEPTED) else []
    return story.Around(
        now=datetime.now(UTC),
        ordering=None if tenant is None else tenant.ordering,
        state=state,
        paused=None if control is None else control.paused,
        running=seen.running,
        head=await _head(record, outbox, "key" if tenant is None else tenant.ordering),
        not_accepted=frozenset(listed),
    )


async def _head(record: Record, outbox: "Store", ordering: str) -> Record | None:
    if record.state != "pending" or ordering == "none":
        return None
    if ordering == "key":
        return await outbox.ahead(record)
    first = await outbox.find(Filter(record.tenant_id, state="pending"), 1)
    return first[0] if first and first[0].row < record.row else None
