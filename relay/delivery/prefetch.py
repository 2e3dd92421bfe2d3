"""This file is reading ahead: when it is worth asking the outbox for more of a tenant's messages.

The outbox is asked by state, never again for what is known here; and never again before something can
have changed: an arrival, a lane that opened, another set of accepted documents.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence, Set
from typing import TypeVar

from relay.core.lanes import Lanes, Wanted
from relay.core.model import DocumentName, Message, RowId, TenantId
from relay.core.poison import Lane
from relay.core.ports import Outbox, StoreError
from relay.core.retry import Schedule
from relay.delivery.settler import report_outbox_incident
from relay.delivery.waiting import nap
from relay.observability.incidents import Incidents

T = TypeVar("T")

LIMIT = 128
"""Messages of one read."""

_EXPLORING_SHARE = 20.0
"""A read that skips whole lanes may cost as much as they are long: it gets 1/20 of the time."""


class OutboxRetry:
    """Ask the outbox until it answers: its trouble is said once and waited out."""

    def __init__(
        self, incidents: Incidents, schedule: Schedule, chance: Callable[[], float], stopping: asyncio.Event
    ) -> None:
        self._incidents, self._schedule, self._chance, self._stopping = incidents, schedule, chance, stopping

    async def ask(self, call: Callable[[], Awaitable[T]]) -> T | None:
        """The answer; None if the relay stops meanwhile."""
        failures = 0
        while not self._stopping.is_set():
            try:
                answer = await call()
            except StoreError as error:
                failures += 1
                report_outbox_incident(self._incidents, str(error))
                await nap(self._stopping, self._schedule.delay(failures, self._chance()))
                continue
            if failures:
                self._incidents.resolved()
            return answer
        return None


class Prefetch:
    """One tenant's reading ahead into its lanes. At most one read is under way."""

    def __init__(
        self,
        tenant: TenantId,
        outbox: Outbox,
        lanes: Lanes,
        outbox_retry: OutboxRetry,
        largest: int,
        unsettled: Callable[[], Set[RowId]],
        offered: Callable[[], None],
        ended: Callable[[asyncio.Task[None]], None],
    ) -> None:
        """`offered`: told when the lanes have more; `ended`: told when a read is over."""
        self._tenant, self._outbox, self._lanes, self._patience = tenant, outbox, lanes, outbox_retry
        self._largest, self._unsettled, self._offered, self._ended = largest, unsettled, offered, ended
        self._task: asyncio.Task[None] | None = None
        self._hinted = True
        self._fruitless: frozenset[Lane] | None = None
        self._explore_at = 0.0
        self._queued_at: dict[RowId, float] = {}
        self.unaccepted: frozenset[DocumentName] = frozenset()

    def notify(self) -> None:
        """Something may be there that was not before."""
        self._hinted = True

    def changed(self) -> None:
        """What is read ahead is out of date: start over."""
        self._hinted = True
        self._fruitless = None
        self._explore_at = 0.0

    def start(self, accepted: frozenset[DocumentName], now: float, enough: int) -> None:
        """Begin a read, where one is worth it."""
        if self._task is not None or self._lanes.ready >= enough:
            return
        wanted = self._worthwhile(now)
        if wanted is not None:
            self._task = asyncio.create_task(self._read(wanted, accepted))
            self._task.add_done_callback(self._read_ended)

    @property
    def reading(self) -> bool:
        """Whether a read is under way."""
        return self._task is not None

    def next_look(self, now: float) -> float | None:
        """When a read that was put off for its cost may be tried; None where none was."""
        if self._explore_at <= now or self.reading:
            return None
        wanted = self._lanes.wanted(now, ())
        return self._explore_at if wanted is not None and self._promising(wanted) else None

    def waited(self, message: Message, now: float) -> float:
        """Seconds since the message was queued."""
        return now - self._queued_at.get(message.row, now - message.age)

    async def stop(self) -> None:
        """Cut a read short."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def _worthwhile(self, now: float) -> Wanted | None:
        wanted = self._lanes.wanted(now, self._unsettled())
        if wanted is None or not self._promising(wanted):
            return None
        return wanted if not wanted.held or now >= self._explore_at else None

    def _promising(self, wanted: Wanted) -> bool:
        return self._hinted or self._fruitless is None or not wanted.closed >= self._fruitless

    async def _read(self, wanted: Wanted, accepted: frozenset[DocumentName]) -> None:
        self._hinted = False
        clock = asyncio.get_running_loop().time
        began = clock()
        room = max(self._lanes.room_bytes, self._largest)  # so that what stays unread can never be sent
        found = await self._patience.ask(lambda: self._due(wanted, accepted, room))
        ended = clock()
        if found is None:
            return
        if wanted.held:
            self._explore_at = ended + _EXPLORING_SHARE * (ended - began)
        is_full = len(found) >= LIMIT or sum(message.size for message in found) >= room
        if not self._lanes.offer(found, wanted, ended):
            self._fruitless = None
            return
        self._remember(found, wanted.known, ended)
        self._fruitless = None if is_full else wanted.closed
        self._offered()  # they need not wait for what else is asked
        if not is_full:
            waiting = await self._patience.ask(lambda: self._outbox.documents(self._tenant))
            self.unaccepted = (waiting or frozenset()) - accepted

    def _remember(self, found: Sequence[Message], known: Set[RowId], now: float) -> None:
        kept = {row: at for row, at in self._queued_at.items() if row in known}
        self._queued_at = kept | {message.row: now - message.age for message in found}

    async def _due(self, wanted: Wanted, accepted: frozenset[DocumentName], room: int) -> Sequence[Message]:
        return await self._outbox.due(self._tenant, accepted, wanted.held, wanted.known, LIMIT, room)

    def _read_ended(self, task: asyncio.Task[None]) -> None:
        self._task = None
        self._ended(task)
