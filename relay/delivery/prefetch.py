"""Prefetching: when the outbox is read for more of a tenant's messages, and what the lanes then hold.

The outbox is read by state, never for messages that are known here; and never again before something can
have changed: an arrival, a lane that opened, another set of accepted documents.
"""

import asyncio
from collections.abc import Sequence, Set
from dataclasses import replace

from relay.core.byte_budget import TenantBuffer
from relay.core.lanes import Lanes, ReadPlan
from relay.core.model import DocumentName, Message, RowId
from relay.core.poison import Lane
from relay.core.ports import LARGE_PAYLOAD
from relay.delivery.context import TenantContext, TenantRules
from relay.delivery.limits import BATCH_MESSAGES
from relay.delivery.tasks import Tasks

_SELECTIVE_SHARE = 20.0
"""A read that skips whole lanes may cost as much as they are long: it gets 1/20 of the time."""


class Prefetch:
    """Reads one tenant's messages from the outbox into its lanes, one read at a time."""

    def __init__(self, rules: TenantRules, context: TenantContext, lanes: Lanes, tasks: Tasks) -> None:
        self._rules, self._context, self._lanes, self._tasks = rules, context, lanes, tasks
        self._memory = context.memory.prefetch
        self._buffer = TenantBuffer(tasks.wake, self._discard)
        self._enough = max(BATCH_MESSAGES // 2, 2 * rules.max_in_flight)
        self._has_arrivals = True
        self._fruitless: frozenset[Lane] | None = None
        """Nothing more waits while these lanes are closed; None: that is not known."""
        self._next_selective = 0.0
        self._queued_at: dict[RowId, float] = {}
        self.is_reading = False
        self.is_postponed = False
        """A read is needed, and there is no memory for it now."""
        self.unaccepted: frozenset[DocumentName] = frozenset()
        """Documents that wait and are not accepted, as of the last complete read."""

    def notify(self) -> None:
        """Messages may have arrived."""
        self._has_arrivals = True

    def invalidate(self) -> None:
        """What the last reads showed is out of date."""
        self._has_arrivals = True
        self._fruitless = None
        self._next_selective = 0.0

    @property
    def is_short(self) -> bool:
        """Whether more messages are needed and none are being read."""
        return not self.is_reading and self._lanes.ready < self._enough

    def start(self, accepted: frozenset[DocumentName], now: float) -> None:
        """Begin a read, where one is needed and can find something."""
        if not self.is_short:
            return
        self.is_postponed = False
        plan = self._lanes.plan_read(now, self._context.settler.unsettled(self._rules.tenant_id))
        if plan is None or not self._is_promising(plan) or (plan.held and now < self._next_selective):
            return
        room = self._memory.reserve(self._buffer, self._lanes.free_bytes)
        if not room:
            self.is_postponed = True
            return
        self.is_reading = True
        self._tasks.start(self._read(plan, accepted, room), self._end_read)

    def next_read(self, now: float) -> float | None:
        """When a read that was put off for its cost may begin; None where none was."""
        if self._next_selective <= now or self.is_reading:
            return None
        plan = self._lanes.plan_read(now, ())
        return self._next_selective if plan is not None and self._is_promising(plan) else None

    def seconds_queued(self, message: Message, now: float) -> float:
        """Seconds since the message was queued."""
        return now - self._queued_at.get(message.row, now - message.age)

    def _is_promising(self, plan: ReadPlan) -> bool:
        return self._has_arrivals or self._fruitless is None or not plan.closed >= self._fruitless

    async def _read(self, plan: ReadPlan, accepted: frozenset[DocumentName], room: int) -> None:
        self._has_arrivals = False
        clock = asyncio.get_running_loop().time
        began = clock()
        found = await self._context.outbox_retry.ask(lambda: self._due(plan, accepted, room))
        ended = clock()
        if found is None:
            return
        if plan.held:
            self._next_selective = ended + _SELECTIVE_SHARE * (ended - began)
        filled = sum(len(message.payload) for message in found)
        is_full = len(found) >= BATCH_MESSAGES or filled > room - LARGE_PAYLOAD  # the next one may not fit
        if not self._lanes.add(found, plan, ended):
            self._fruitless = None
            return
        self._remember(found, plan.known, ended)
        self._fruitless = None if is_full else self._lanes.closed
        self._tasks.wake()  # these messages need not wait for the second query
        if not is_full:
            await self._read_unaccepted(accepted)

    async def _read_unaccepted(self, accepted: frozenset[DocumentName]) -> None:
        outbox, tenant = self._context.outbox, self._rules.tenant_id
        waiting = await self._context.outbox_retry.ask(lambda: outbox.documents(tenant))
        self.unaccepted = (waiting or frozenset()) - accepted

    async def _due(self, plan: ReadPlan, accepted: frozenset[DocumentName], room: int) -> Sequence[Message]:
        outbox, tenant = self._context.outbox, self._rules.tenant_id
        found = await outbox.due(tenant, accepted, plan.held, plan.known, BATCH_MESSAGES, room)
        left = self._rules.schedule.left
        return [
            replace(message, holds_for=left(message.attempts, message.holds_for))
            if message.holds_for > 0
            else message
            for message in found
        ]

    def _remember(self, found: Sequence[Message], known: Set[RowId], now: float) -> None:
        kept = {row: at for row, at in self._queued_at.items() if row in known}
        self._queued_at = kept | {message.row: now - message.age for message in found}

    def _end_read(self) -> None:
        self.is_reading = False
        self._memory.end_read(self._buffer, self._lanes.held_bytes)

    # --- memory -----------------------------------------------------------------------------------

    def settled(self, message: Message) -> None:
        """Nothing needs the message any more."""
        self._lanes.settled(message)
        self._memory.update(self._buffer, self._lanes.held_bytes)

    def leave(self) -> None:
        """Nothing is read any more."""
        self._lanes.discard_buffered()
        self._memory.leave(self._buffer, self._lanes.held_bytes)

    def _discard(self) -> None:
        """Other tenants need the memory: what is not in flight is read again later."""
        if not self._lanes.buffered_bytes:
            return
        self._lanes.discard_buffered()
        self._memory.update(self._buffer, self._lanes.held_bytes)
        self.invalidate()
        self._tasks.wake()
