"""Group commit: the settlements of all tenants are written to the outbox together.

A group is what gathered while the last commit ran, and a moment longer. What is not written yet stays here,
also while the outbox fails: a known delivery is never forgotten as long as the process lives. What the outbox
refuses of a group (a trigger of the application raises) waits apart from the others, and is tried again.
"""

import asyncio
import itertools
import os
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Set
from dataclasses import dataclass, replace
from math import inf

from relay.core.model import Delivered, Message, Parked, Released, RowId, Settlement, SettlementId, TenantId
from relay.core.ports import CALL_SECONDS, NotSettled, Outbox, StoreError
from relay.core.retry import Schedule
from relay.delivery.limits import BATCH_MESSAGES
from relay.delivery.outbox_retry import report_outbox_incident
from relay.delivery.settlement_reports import SettlementReports
from relay.delivery.waiting import nap
from relay.observability.liveness import Liveness
from relay.observability.metrics import Meters

NAME = "settler"
GROUP_SECONDS = CALL_SECONDS + 10.0
"""A group that takes longer is stalled: by then every store has ended its call."""

_GATHER_SECONDS = 0.01
"""A group gathers so long: fewer and larger commits are 5 to 15 % more throughput than with a fifth of it."""

_DRAIN_RETRY_SECONDS = 0.25
"""Between two tries while the process ends."""

Settled = Callable[[Message, Settlement], None]
"""Called once a settlement is durable."""


@dataclass(slots=True, eq=False)
class _Entry:
    """A settlement that is not durable yet. `refusals` in a row; the next try not before `due`."""

    message: Message
    settlement: Settlement
    settled: Settled
    refusals: int = 0
    due: float = 0.0


class Settler:
    """Writes the settlements of all tenants of the process, in groups."""

    def __init__(
        self,
        outbox: Outbox,
        reports: SettlementReports,
        schedule: Schedule,
        chance: Callable[[], float],
        meters: Meters,
        liveness: Liveness,
    ) -> None:
        self._outbox, self._reports, self._meters = outbox, reports, meters
        self._liveness = liveness.component(NAME, GROUP_SECONDS)
        self._schedule, self._chance = schedule, chance
        self._entries: deque[_Entry] = deque()
        self._refused: list[_Entry] = []
        self._unsettled: defaultdict[TenantId, set[RowId]] = defaultdict(set)
        self.parked: Counter[TenantId] = Counter()
        """How many messages were parked since the start."""
        self._process, self._numbers = os.urandom(8).hex(), itertools.count(1)
        self._wakened = asyncio.Event()
        self._progress = asyncio.Event()
        self._draining = asyncio.Event()
        self._emptied = asyncio.Event()
        self._emptied.set()

    def enter(self, message: Message, settlement: Settlement, settled: Settled) -> None:
        """Write it with the next group; `settled` is called once it is durable."""
        if not self._entries:
            self._liveness.begin()
        if not isinstance(settlement, Delivered):
            settlement = replace(settlement, id=SettlementId(f"{self._process}-{next(self._numbers)}"))
        self._entries.append(_Entry(message, settlement, settled))
        self._unsettled[message.tenant_id].add(message.row)
        self._emptied.clear()
        self._wakened.set()

    def unsettled(self, tenant: TenantId) -> Set[RowId]:
        """The rows of the tenant whose settlement is not durable yet."""
        return self._unsettled.get(tenant, frozenset())

    def refused(self, tenant: TenantId) -> int:
        """How many of them the outbox refused; they are tried again, after growing pauses."""
        return sum(entry.message.tenant_id == tenant for entry in self._refused)

    def is_settling(self, tenant: TenantId) -> bool:
        """Whether settlements of the tenant are to be written that the outbox did not refuse."""
        return len(self.unsettled(tenant)) > self.refused(tenant)

    async def run(self) -> None:
        """Write group after group until cancelled; may be started again at any time."""
        failures, now = 0, asyncio.get_running_loop().time
        while True:
            group = await self._next_group()
            began = now()
            try:
                left = await self._outbox.settle([(entry.message.key, entry.settlement) for entry in group])
            except StoreError as error:
                failures += 1
                waiting = len(self._entries) + len(self._refused)
                report_outbox_incident(self._reports.incidents, f"{waiting} settlements wait: {error}")
                await self._rest(failures)
                continue
            failures = 0
            self._reports.incidents.resolved()
            self._meters.settlement_seconds.observe(now() - began)
            self._meters.group_messages.observe(len(group))
            self._remove(group, left)

    async def _next_group(self) -> list[_Entry]:
        """The refused ones whose pause is over; where there are none, what gathers in a moment."""
        clock = asyncio.get_running_loop().time
        while True:
            again = [entry for entry in self._refused if entry.due <= clock()]
            if again or self._entries:
                self._liveness.begin()
            if again:
                return again[:BATCH_MESSAGES]
            if self._entries:
                await asyncio.sleep(_GATHER_SECONDS)
                return list(itertools.islice(self._entries, BATCH_MESSAGES))
            self._wakened.clear()
            due = min((entry.due for entry in self._refused), default=inf)
            await nap(self._wakened, None if due == inf else max(due - clock(), 0.001))

    async def _rest(self, failures: int) -> None:
        if self._draining.is_set():  # the process ends: no long delays any more
            await asyncio.sleep(_DRAIN_RETRY_SECONDS)
        else:
            self._liveness.idle()
            await nap(self._draining, self._schedule.delay(failures, self._chance()))

    def _remove(self, group: list[_Entry], left: NotSettled) -> None:
        if group[0].refusals:
            self._refused = [entry for entry in self._refused if entry not in group]
        else:
            for _ in group:
                self._entries.popleft()
        refused = [entry for entry in group if left.refused and entry.message.key in left.refused]
        replaced = [entry for entry in group if left.replaced and entry.message.key in left.replaced]
        for entry in group:
            if entry not in refused:
                self._end(entry, is_replaced=entry in replaced)
        if replaced:
            self._reports.replaced([entry.message for entry in replaced])
        self._set_apart(refused, left)
        self._progress.set()
        if not self._entries:
            self._liveness.idle()
            if all(entry.due == inf for entry in self._refused):
                self._emptied.set()

    def _end(self, entry: _Entry, *, is_replaced: bool) -> None:
        message, settlement = entry.message, entry.settlement
        self._unsettled[message.tenant_id].discard(message.row)
        if is_replaced:
            settlement = Released("the row holds another message now")  # which may be read at once
        elif isinstance(settlement, Parked):
            self.parked[message.tenant_id] += 1
        entry.settled(message, settlement)

    def _set_apart(self, refused: list[_Entry], left: NotSettled) -> None:
        """They are tried again after growing pauses, and once more at the end of the process."""
        now = asyncio.get_running_loop().time()
        for entry in refused:
            entry.refusals += 1
            pause = self._schedule.delay(entry.refusals, self._chance())
            entry.due = inf if self._draining.is_set() else now + pause
        self._refused += refused
        for entry in refused:
            tenant = entry.message.tenant_id
            self._reports.refused(entry.message, left.refused[entry.message.key], self.refused(tenant))
        if not self._refused:
            self._reports.row_incidents.resolved()

    async def settled(self, tenant: TenantId, within: float) -> None:
        """Wait until the tenant's settlements are durable or refused, at most `within` seconds."""
        clock = asyncio.get_running_loop().time
        end = clock() + within
        while self.is_settling(tenant) and clock() < end:
            self._progress.clear()
            await nap(self._progress, end - clock())

    async def drained(self, within: float) -> int:
        """Wait until all settlements are durable or refused, at most `within` seconds; how many are left."""
        self._draining.set()
        for entry in self._refused:
            entry.due = 0.0
            self._emptied.clear()
        self._wakened.set()
        await nap(self._emptied, within)
        return len(self._entries) + len(self._refused)
