"""This file is which message may go next: order per key, what is held back, how many at a time.

Pure: `now` (seconds of the loop's clock) is an argument. A lane is the messages of one ordering key, of the
whole tenant, or a single message, as the tenant's `ordering` says.
"""

import heapq
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from math import inf
from typing import assert_never, cast

from relay.core.model import DocumentName, Message, Ordering, OrderingKey, RowId
from relay.core.poison import Lane

_TENANT_LANE = "the tenant's only lane"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the next read of the outbox should leave out, and what it was based on.

    `closed`: the lanes of which nothing more is wanted now, whether the store is told by key or by row.
    """

    held: frozenset[OrderingKey | None]
    known: frozenset[RowId]
    closed: frozenset[Lane]
    generation: int


@dataclass(slots=True)
class _Queue:
    messages: deque[Message] = field(default_factory=deque[Message])
    size: int = 0
    full: bool = False


class Lanes:
    """The messages read ahead, by lane.

    Of each lane at most one message is under way. What is buffered of a lane is always an unbroken
    run from its head on; whatever could break the run (a hold, a change by a person) forgets the lane
    and bumps `generation`, so that a read begun before is thrown away.
    """

    def __init__(self, ordering: Ordering, *, ahead: int = 128, ahead_bytes: int = 16 * 2**20) -> None:
        self._ordering = ordering
        self._prefetch, self._ahead_bytes = ahead, ahead_bytes
        self._queues: dict[Lane, _Queue] = {}
        self._under_way: dict[Lane, Message] = {}
        self._holds: dict[Lane, float] = {}
        self._suspects: dict[Lane, None] = {}
        self._ready: list[tuple[RowId, Lane]] = []
        self._known: set[RowId] = set()
        self.generation = 0
        self.buffered_bytes = 0

    def lane_of(self, message: Message) -> Lane:
        """The lane this message belongs to."""
        match self._ordering:
            case "key":
                return message.ordering_key
            case "tenant":
                return _TENANT_LANE
            case "none":
                return message.row
            case _:
                assert_never(self._ordering)

    # --- reading ahead --------------------------------------------------------------------------

    def wanted(self, now: float, unsettled: Iterable[RowId]) -> Wanted | None:
        """What to leave out of the next read; None where no read makes sense now."""
        self._expire(now)
        known = self._known.union(unsettled)
        if self.buffered_bytes >= self._ahead_bytes:
            return None
        full = {lane for lane, queue in self._queues.items() if queue.full}
        closed = frozenset(full.union(self._holds))
        match self._ordering:
            case "key":
                held = cast("frozenset[OrderingKey | None]", closed)
                return Wanted(held, frozenset(known), closed, self.generation)
            case "tenant":
                return None if closed else Wanted(frozenset(), frozenset(known), closed, self.generation)
            case "none":
                rows = cast("set[RowId]", set(self._holds))
                return Wanted(frozenset(), frozenset(known | rows), closed, self.generation)
            case _:
                assert_never(self._ordering)

    @property
    def room_bytes(self) -> int:
        """How many bytes of payload may be read now."""
        return max(self._ahead_bytes - self.buffered_bytes, 1)

    def offer(self, messages: Iterable[Message], wanted: Wanted, now: float) -> bool:
        """Take in what a read found, in its order. False: the read is out of date, nothing was taken."""
        if wanted.generation != self.generation:
            return False
        for message in messages:
            self._offer(message, now)
        return True

    def _offer(self, message: Message, now: float) -> None:
        lane = self.lane_of(message)
        if lane in self._holds:
            return
        if message.holds_for > 0:
            self._holds[lane] = now + message.holds_for
            self._forget(lane)
            return
        queue = self._queues.setdefault(lane, _Queue())
        if queue.full:
            return
        queue.messages.append(message)
        self._count(queue, message, 1)
        if len(queue.messages) >= self._prefetch or queue.size >= self._ahead_bytes // 8:
            queue.full = True
        if len(queue.messages) == 1:
            self._make_ready(lane)

    # --- going ------------------------------------------------------------------------------------

    @property
    def ready(self) -> int:
        """About how many lanes could launch a message now (never too few)."""
        return len(self._ready)

    def take(self, *, cautious: bool) -> Message | None:
        """The next message to go. `cautious`: rather not of a lane that met trouble last."""
        suspected: list[tuple[RowId, Lane]] = []
        chosen: tuple[RowId, Lane] | None = None
        while self._ready and chosen is None:
            entry = heapq.heappop(self._ready)
            if not self._is_current(entry):
                continue
            if cautious and entry[1] in self._suspects:
                suspected.append(entry)
            else:
                chosen = entry
        if chosen is None and suspected:
            order = list(self._suspects)
            chosen = min(suspected, key=lambda entry: order.index(entry[1]))
        for entry in suspected:
            if entry is not chosen:
                heapq.heappush(self._ready, entry)
        return None if chosen is None else self._launch(chosen[1])

    def _launch(self, lane: Lane) -> Message:
        queue = self._queues[lane]
        message = queue.messages.popleft()
        self._count(queue, message, -1)
        self._known.add(message.row)  # still known: it is under way
        self._under_way[lane] = message
        if (
            queue.full
            and len(queue.messages) <= self._prefetch // 2
            and queue.size <= self._ahead_bytes // 16
        ):
            queue.full = False
        return message

    def done(self, message: Message) -> None:
        """It was delivered or parked: its lane goes on, and nothing is held against it."""
        lane = self._land(message)
        self._suspects.pop(lane, None)
        queue = self._queues.get(lane)
        if queue is not None and queue.messages:
            self._make_ready(lane)
        else:
            self._queues.pop(lane, None)

    def back(self, message: Message) -> None:
        """It did not go, or was cut off: back to the head of its lane, as if nothing had been."""
        lane = self._land(message)
        if lane in self._holds:
            return
        queue = self._queues.setdefault(lane, _Queue())
        queue.messages.appendleft(message)
        self._count(queue, message, 1)
        self._make_ready(lane)

    def released(self, message: Message) -> None:
        """It met trouble. Its lane is suspected, and held until `hold` says when it may be read anew."""
        lane = self._land(message)
        self._suspects.pop(lane, None)
        self._suspects[lane] = None
        self.hold(lane)

    def hold(self, lane: Lane, until: float = inf) -> None:
        """Nothing of this lane goes before `until`; then it is read anew."""
        self._holds[lane] = until
        self._forget(lane)
        self.generation += 1

    # --- forgetting -----------------------------------------------------------------------------------

    def discard(self) -> None:
        """Forget all that was read ahead and every timed hold: the outbox knows better now."""
        for lane in list(self._queues):
            self._forget(lane)
        self._ready.clear()
        self._holds = {lane: until for lane, until in self._holds.items() if until == inf}
        self.generation += 1

    def discard_unaccepted(self, accepted: frozenset[DocumentName]) -> None:
        """Forget what was read ahead if some of it is not accepted any more."""
        queues = self._queues.values()
        if any(message.document_name not in accepted for queue in queues for message in queue.messages):
            for lane in list(self._queues):
                self._forget(lane)
            self.generation += 1

    def _forget(self, lane: Lane) -> None:
        queue = self._queues.pop(lane, None)
        for message in queue.messages if queue else ():
            self._count(None, message, -1)

    # --- holds ------------------------------------------------------------------------------------------

    def next_hold_end(self, now: float) -> float | None:
        """When the earliest timed hold ends; None where there is none. Ended ones are let go."""
        self._expire(now)
        ends = [until for until in self._holds.values() if until != inf]
        return min(ends) if ends else None

    @property
    def holding(self) -> bool:
        """Whether any lane is held back."""
        return bool(self._holds)

    def alone(self, lane: Lane) -> bool:
        """Whether no other lane is known."""
        return not any(other != lane for other in (*self._queues, *self._under_way, *self._holds))

    def _expire(self, now: float) -> None:
        for lane in [lane for lane, until in self._holds.items() if until <= now]:
            del self._holds[lane]

    # --- bookkeeping ------------------------------------------------------------------------------------

    def _land(self, message: Message) -> Lane:
        lane = self.lane_of(message)
        del self._under_way[lane]
        self._known.discard(message.row)
        return lane

    def _is_current(self, entry: tuple[RowId, Lane]) -> bool:
        row, lane = entry
        queue = self._queues.get(lane)
        return (
            queue is not None
            and lane not in self._under_way
            and bool(queue.messages)
            and queue.messages[0].row == row
        )

    def _make_ready(self, lane: Lane) -> None:
        if lane not in self._under_way:
            heapq.heappush(self._ready, (self._queues[lane].messages[0].row, lane))

    def _count(self, queue: _Queue | None, message: Message, sign: int) -> None:
        self.buffered_bytes += sign * len(message.payload)
        if queue is not None:
            queue.size += sign * len(message.payload)
        if sign > 0:
            self._known.add(message.row)
        else:
            self._known.discard(message.row)


class SlowStart:
    """How many posts may be under way: one after a trouble, then twice as many with each success."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.size = 1

    @property
    def full_size(self) -> bool:
        """Whether all went well for long enough to use the whole width."""
        return self.size >= self._most

    def succeeded(self) -> None:
        """A delivery."""
        self.size = min(self.size * 2, self._most)

    def failed(self) -> None:
        """Start small again."""
        self.size = 1
