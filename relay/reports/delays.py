"""Messages that may not be sent yet, and those behind them in their lanes: which may go now, and when.

The worker goes by the same rule (`relay/core/lanes.py`): a message may go as soon as those before it in its
lane are gone, unless it, or one of those, waits for its time. Documents that are not accepted do not count.

Reads a tenant's messages from the lowest id on, and not all of them, as a queue may have a million: what
blocks a lane is older than the messages behind it.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, assert_never

from relay.core.admin import Admin, Filter, Record
from relay.core.model import DocumentName, Ordering, OrderingKey, TenantId
from relay.reports.times import instant

READ_LIMIT = 200
"""Messages of a tenant that are read."""


@dataclass(frozen=True, slots=True)
class BlockedLane:
    """A lane with a message that waits for its time; `behind`: how many of the messages read are behind it.

    `ordering_key` None: the messages without a key, or all where the tenant is one lane.
    """

    ordering_key: OrderingKey | None
    blocker: Record
    behind: int

    def as_json(self) -> dict[str, Any]:
        """As in `lanes`; the blocking message is named by its id."""
        return {
            "ordering_key": self.ordering_key,
            "message_id": self.blocker.message_id,
            "document_name": self.blocker.document_name,
            "attempts": self.blocker.attempts,
            "reason": self.blocker.reason,
            "next_try": instant(self.blocker.not_before),
            "behind": self.behind,
        }


def waits_for_time(record: Record, now: datetime) -> bool:
    """Whether the message waits for its time: its own back-off, or what its application asked for."""
    return record.not_before is not None and record.not_before > now


def blocker(before: Sequence[Record], now: datetime) -> Record | None:
    """Of the messages before one in its lane: the first that waits for its time, else the first."""
    waiting = (record for record in before if waits_for_time(record, now))
    return next(waiting, before[0] if before else None)


def held_until(
    records: Sequence[Record], ordering: Ordering, not_accepted: Collection[DocumentName], now: datetime
) -> Iterator[tuple[Record, datetime | None]]:
    """The accepted ones of these pending messages, and the time before which each is not sent.

    None: it may go now, as soon as those before it in its lane are gone.
    """
    for lane in _lanes(records, ordering, not_accepted).values():
        until: datetime | None = None
        for record in lane:
            if record.not_before is not None and waits_for_time(record, now):
                until = max(until or record.not_before, record.not_before)
            yield record, until


def blocked_lanes(
    records: Sequence[Record], ordering: Ordering, not_accepted: Collection[DocumentName], now: datetime
) -> Sequence[BlockedLane]:
    """The blocked lanes of these pending messages, by row; a document that is not accepted blocks no lane."""
    if ordering == "none":
        return []
    return [
        BlockedLane(record.ordering_key if ordering == "key" else None, record, len(lane) - place)
        for lane in _lanes(records, ordering, not_accepted).values()
        for place, record in [_first_that_waits(lane, now)]
        if record is not None
    ]


def _first_that_waits(lane: Sequence[Record], now: datetime) -> tuple[int, Record | None]:
    waiting = ((place, record) for place, record in enumerate(lane, 1) if waits_for_time(record, now))
    return next(waiting, (0, None))


def _lanes(
    records: Sequence[Record], ordering: Ordering, not_accepted: Collection[DocumentName]
) -> dict[object, list[Record]]:
    lanes: dict[object, list[Record]] = {}
    for record in records:
        if record.document_name not in not_accepted:
            lanes.setdefault(_lane(record, ordering), []).append(record)
    return lanes


def _lane(record: Record, ordering: Ordering) -> object:
    match ordering:
        case "key":
            return record.ordering_key
        case "tenant":
            return None
        case "none":
            return record.row
        case _:
            assert_never(ordering)


async def read_first_pending(outbox: Admin, tenant: TenantId) -> Sequence[Record]:
    """The tenant's first pending messages."""
    return await outbox.find(Filter(tenant, state="pending"), READ_LIMIT)
