"""Messages that wait for their own back-off, and the lanes that they block.

Reads a tenant's messages from the lowest id on, and not all of them, as a queue may have a million: the head
of a lane is older than the messages behind it.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from relay.core.admin import Admin, Filter, Record
from relay.core.model import DocumentName, Ordering, OrderingKey, TenantId
from relay.reports.times import instant

READ_LIMIT = 200
"""Messages of a tenant that are read."""


@dataclass(frozen=True, slots=True)
class BlockedLane:
    """A lane whose head waits for its back-off; `behind`: how many of the messages read are behind it.

    `ordering_key` None: the messages without a key, or all where the tenant is one lane.
    """

    ordering_key: OrderingKey | None
    head: Record
    behind: int

    def as_json(self) -> dict[str, Any]:
        """As in `lanes`; the head is named by its message id."""
        return {
            "ordering_key": self.ordering_key,
            "message_id": self.head.message_id,
            "document_name": self.head.document_name,
            "attempts": self.head.attempts,
            "reason": self.head.reason,
            "next_try": instant(self.head.not_before),
            "behind": self.behind,
        }


def is_backing_off(record: Record, now: datetime) -> bool:
    """Whether the message waits for its own back-off."""
    return record.not_before is not None and record.not_before > now


def blocked_lanes(
    records: Sequence[Record], ordering: Ordering, not_accepted: Collection[DocumentName], now: datetime
) -> Sequence[BlockedLane]:
    """The blocked lanes of these pending messages, by row; a document that is not accepted blocks no lane."""
    if ordering == "none":
        return []
    lanes: dict[OrderingKey | None, list[Record]] = {}
    for record in records:
        if record.document_name not in not_accepted:
            lanes.setdefault(record.ordering_key if ordering == "key" else None, []).append(record)
    return [
        BlockedLane(key, lane[0], len(lane) - 1)
        for key, lane in lanes.items()
        if is_backing_off(lane[0], now)
    ]


async def read_first_pending(outbox: Admin, tenant: TenantId) -> Sequence[Record]:
    """The tenant's first pending messages."""
    return await outbox.find(Filter(tenant, state="pending"), READ_LIMIT)
