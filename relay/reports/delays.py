"""This file is which messages wait for a delay of their own, and the lanes they hold.

It looks at a tenant's messages from the lowest id on, and not at all of them, as a queue may have a million:
the head of a lane is older than what it holds.
"""

from collections.abc import Sequence, Set
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from relay.core.admin import Admin, Filter, Record
from relay.core.model import DocumentName, Ordering, OrderingKey, TenantId
from relay.reports.times import instant

LOOKED_AT = 200
"""Messages of a tenant that are looked at."""


@dataclass(frozen=True, slots=True)
class HeldLane:
    """A lane that its head holds; `behind`: how many, of those looked at, wait for it.

    `ordering_key` None: the messages without a key, or all where the tenant is one lane.
    """

    ordering_key: OrderingKey | None
    head: Record
    behind: int

    def as_json(self) -> dict[str, Any]:
        """The head is told by its message id."""
        return {
            "ordering_key": self.ordering_key,
            "message_id": self.head.message_id,
            "document_name": self.head.document_name,
            "attempts": self.head.attempts,
            "reason": self.head.reason,
            "next_try": instant(self.head.not_before),
            "behind": self.behind,
        }


def delayed(record: Record, now: datetime) -> bool:
    """Whether its own delay still runs."""
    return record.not_before is not None and record.not_before > now


def held_lanes(
    records: Sequence[Record], ordering: Ordering, not_accepted: Set[DocumentName], now: datetime
) -> Sequence[HeldLane]:
    """Among these pending messages, in the order of their rows; what is not accepted holds no lane."""
    if ordering == "none":
        return []
    lanes: dict[OrderingKey | None, list[Record]] = {}
    for record in records:
        if record.document_name not in not_accepted:
            lanes.setdefault(record.ordering_key if ordering == "key" else None, []).append(record)
    return [HeldLane(key, lane[0], len(lane) - 1) for key, lane in lanes.items() if delayed(lane[0], now)]


async def first_waiting(outbox: Admin, tenant: TenantId) -> Sequence[Record]:
    """The tenant's first pending messages."""
    return await outbox.find(Filter(tenant, state="pending"), LOOKED_AT)
