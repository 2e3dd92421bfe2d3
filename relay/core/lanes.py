"""The prefetched messages in first-in-first-out lanes: which may be sent next, and which are held.

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

_REREAD_SECONDS = 60.0
"""Lanes that end in a message that may not be sent yet are read again so often: a transaction may commit late
what belongs before it, as ids are given when a row is written."""


@dataclass(frozen=True, slots=True)
class ReadPlan:
    """What the next read of the outbox leaves out, and the `generation` that it is based on.

    `held`: by ordering key. `known`: by row. `closed`: all lanes of which nothing more is wanted now.
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
    """The prefetched messages, by lane: at most `max_messages` a lane, and about `max_bytes` in all.

    Of each lane at most one message is in flight. What is buffered of a lane is always an unbroken run from
    its head on; whatever could break the run (a hold, an operator's change) discards the lane and increments
    `generation`, so that the result of a read begun before is ignored. A message that may not be sent yet
    ends the run: what is before it goes, and nothing behind it is read until its time has come.
    """

    def __init__(self, ordering: Ordering, *, max_messages: int, max_bytes: int) -> None:
        self._ordering = ordering
        self._max_messages, self._max_bytes = max_messages, max_bytes
        self._queues: dict[Lane, _Queue] = {}
        self._in_flight: dict[Lane, Message] = {}
        self._holds: dict[Lane, float] = {}
        """Lanes of which nothing is sent before that time."""
        self._ends: dict[Lane, float] = {}
        """Lanes of which nothing behind the buffered run is read before that time."""
        self._reread_at = -inf
        self._suspects: dict[Lane, None] = {}
        self._ready: list[tuple[RowId, Lane]] = []
        self._known: set[RowId] = set()
        self.generation = 0
        self.buffered_bytes = 0
        self.held_bytes = 0
        """Payload that is buffered, in flight, or of messages that are not settled yet."""

    def lane_of(self, message: Message) -> Lane:
        """The lane that the message belongs to."""
        match self._ordering:
            case "key":
                return message.ordering_key
            case "tenant":
                return _TENANT_LANE
            case "none":
                return message.row
            case _:
                assert_never(self._ordering)

    # --- reading from the outbox --------------------------------------------------------------------------

    def plan_read(self, now: float, unsettled: Iterable[RowId]) -> ReadPlan | None:
        """What the next read leaves out; None where no read makes sense now."""
        self._expire(now)
        if now >= self._reread_at:
            self._reread_at = now + _REREAD_SECONDS
            self._ends.clear()
        known = self._known.union(unsettled)
        if self.buffered_bytes >= self._max_bytes:
            return None
        closed = self.closed
        match self._ordering:
            case "key":
                held = cast("frozenset[OrderingKey | None]", closed)
                return ReadPlan(held, frozenset(known), closed, self.generation)
            case "tenant":
                return None if closed else ReadPlan(frozenset(), frozenset(known), closed, self.generation)
            case "none":
                rows = cast("set[RowId]", self._holds.keys() | self._ends.keys())
                return ReadPlan(frozenset(), frozenset(known | rows), closed, self.generation)
            case _:
                assert_never(self._ordering)

    @property
    def closed(self) -> frozenset[Lane]:
        """The lanes of which nothing more is read now."""
        full = (lane for lane, queue in self._queues.items() if queue.full)
        return frozenset((*full, *self._holds, *self._ends))

    @property
    def free_bytes(self) -> int:
        """How many bytes of payload may be read now, at least one."""
        return max(self._max_bytes - self.buffered_bytes, 1)

    def add(self, messages: Iterable[Message], plan: ReadPlan, now: float) -> bool:
        """Add what a read returned, in its order. False: the read is out of date, nothing was added."""
        if plan.generation != self.generation:
            return False
        for message in messages:
            self._add(message, now)
        return True

    def _add(self, message: Message, now: float) -> None:
        lane = self.lane_of(message)
        queue = self._queues.get(lane)
        if lane in self._holds or lane in self._ends or (queue is not None and queue.full):
            return
        if message.holds_for > 0:
            self._ends[lane] = now + message.holds_for
            return
        if queue is None:
            queue = self._queues[lane] = _Queue()
        queue.messages.append(message)
        self._count(queue, message, 1)
        self.held_bytes += len(message.payload)
        if len(queue.messages) >= self._max_messages or queue.size >= self._max_bytes // 8:
            queue.full = True
        if len(queue.messages) == 1:
            self._make_ready(lane)

    # --- sending ----------------------------------------------------------------------------------

    @property
    def ready(self) -> int:
        """About how many lanes have a message that could be sent now (never too few)."""
        return len(self._ready)

    def take(self, *, cautious: bool) -> Message | None:
        """The next message to send. `cautious`: prefer lanes whose last message did not fail."""
        suspects: list[tuple[RowId, Lane]] = []
        chosen: tuple[RowId, Lane] | None = None
        while self._ready and chosen is None:
            entry = heapq.heappop(self._ready)
            if not self._is_current(entry):
                continue
            if cautious and entry[1] in self._suspects:
                suspects.append(entry)
            else:
                chosen = entry
        if chosen is None and suspects:
            order = list(self._suspects)
            chosen = min(suspects, key=lambda entry: order.index(entry[1]))
        for entry in suspects:
            if entry is not chosen:
                heapq.heappush(self._ready, entry)
        return None if chosen is None else self._launch(chosen[1])

    def _launch(self, lane: Lane) -> Message:
        queue = self._queues[lane]
        message = queue.messages.popleft()
        self._count(queue, message, -1)
        self._known.add(message.row)  # still known: it is in flight
        self._in_flight[lane] = message
        if (
            queue.full
            and len(queue.messages) <= self._max_messages // 2
            and queue.size <= self._max_bytes // 16
        ):
            queue.full = False
        return message

    def finish(self, message: Message) -> None:
        """It was delivered or parked: its lane continues, and is no longer suspect."""
        lane = self._end_flight(message)
        self._suspects.pop(lane, None)
        queue = self._queues.get(lane)
        if queue is not None and queue.messages:
            self._make_ready(lane)
        else:
            self._queues.pop(lane, None)

    def put_back(self, message: Message) -> None:
        """It was not sent, or was cancelled: it returns to the head of its lane."""
        lane = self._end_flight(message)
        if lane in self._holds:
            self.held_bytes -= len(message.payload)
            return
        queue = self._queues.setdefault(lane, _Queue())
        queue.messages.appendleft(message)
        self._count(queue, message, 1)
        self._make_ready(lane)

    def drop(self, message: Message) -> None:
        """It is not pending any more, or another one now: its lane is read again."""
        lane = self._end_flight(message)
        self.settled(message)
        self._ends.pop(lane, None)
        self._discard(lane)
        self.generation += 1

    def settled(self, message: Message) -> None:
        """Its settlement is durable: nothing holds its payload any more."""
        self.held_bytes -= len(message.payload)

    def release(self, message: Message) -> None:
        """It failed. Its lane is suspect, and held until `reopen` sets the time when it may be read again."""
        lane = self._end_flight(message)
        self._suspects.pop(lane, None)
        self._suspects[lane] = None
        self.hold(lane)

    def hold(self, lane: Lane, until: float = inf) -> None:
        """Send nothing of this lane before `until`; then it is read again."""
        self._holds[lane] = until
        self._ends.pop(lane, None)
        self._discard(lane)
        self.generation += 1

    def reopen(self, lane: Lane, until: float) -> None:
        """The outbox knows by now that the head of the released lane waits until then."""
        if self._holds.get(lane) == inf:
            del self._holds[lane]
            self._ends[lane] = until

    # --- discarding -----------------------------------------------------------------------------------

    def discard(self) -> None:
        """Discard all prefetched messages and every timed hold: they are out of date."""
        self.discard_buffered()
        self._holds = {lane: until for lane, until in self._holds.items() if until == inf}

    def discard_buffered(self) -> None:
        """Discard all prefetched messages: their memory is needed elsewhere, and they can be read again."""
        for lane in list(self._queues):
            self._discard(lane)
        self._ready.clear()
        self._ends.clear()
        self.generation += 1

    def discard_unaccepted(self, accepted: frozenset[DocumentName]) -> None:
        """Discard the prefetched messages if some of them are no longer accepted."""
        queues = self._queues.values()
        if any(message.document_name not in accepted for queue in queues for message in queue.messages):
            self.discard_buffered()

    def reread(self) -> None:
        """More documents are accepted: there may be messages before those that are known to wait."""
        self._ends.clear()

    def _discard(self, lane: Lane) -> None:
        queue = self._queues.pop(lane, None)
        for message in queue.messages if queue else ():
            self._count(None, message, -1)
            self.held_bytes -= len(message.payload)

    # --- holds ------------------------------------------------------------------------------------------

    def next_hold_end(self, now: float) -> float | None:
        """When the earliest timed hold ends; None where there is none."""
        self._expire(now)
        times = [until for until in (*self._holds.values(), *self._ends.values()) if until != inf]
        return min(times, default=None)

    @property
    def any_held(self) -> bool:
        """Whether any lane is held, wholly or from some message on."""
        return bool(self._holds or self._ends)

    def is_alone(self, lane: Lane) -> bool:
        """Whether no other lane is known."""
        known = (*self._queues, *self._in_flight, *self._holds, *self._ends)
        return all(other == lane for other in known)

    def _expire(self, now: float) -> None:
        for times in (self._holds, self._ends):
            for lane in [lane for lane, until in times.items() if until <= now]:
                del times[lane]

    # --- bookkeeping ------------------------------------------------------------------------------------

    def _end_flight(self, message: Message) -> Lane:
        lane = self.lane_of(message)
        del self._in_flight[lane]
        self._known.discard(message.row)
        return lane

    def _is_current(self, entry: tuple[RowId, Lane]) -> bool:
        row, lane = entry
        queue = self._queues.get(lane)
        return (
            queue is not None
            and lane not in self._in_flight
            and bool(queue.messages)
            and queue.messages[0].row == row
        )

    def _make_ready(self, lane: Lane) -> None:
        if lane not in self._in_flight:
            heapq.heappush(self._ready, (self._queues[lane].messages[0].row, lane))

    def _count(self, queue: _Queue | None, message: Message, sign: int) -> None:
        self.buffered_bytes += sign * len(message.payload)
        if queue is not None:
            queue.size += sign * len(message.payload)
        if sign > 0:
            self._known.add(message.row)
        else:
            self._known.discard(message.row)
