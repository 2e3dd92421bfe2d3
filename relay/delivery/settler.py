"""Group commit: the settlements of all tenants are written to the outbox together.

A group is what gathered while the last commit ran, and a moment longer. What is not written yet stays here,
also while the outbox fails: a known delivery is never forgotten as long as the process lives. What the outbox
refuses of a group (a trigger of the application raises) waits apart from the others, and is tried again. A
group that fails as a whole is tried one by one: perhaps that is one row's fault, which a transaction of the
application holds locked, and then that one waits apart too.
"""

import asyncio
import itertools
import os
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Mapping, Set
from dataclasses import dataclass, replace
from math import inf

from relay.core.model import (
    Delivered,
    Message,
    MessageKey,
    Parked,
    Released,
    RowId,
    Settlement,
    SettlementId,
    TenantId,
)
from relay.core.ports import CALL_SECONDS, NotSettled, Outbox, StoreError
from relay.core.retry import Schedule
from relay.delivery.limits import BATCH_MESSAGES
from relay.delivery.settlement_reports import SettlementReports
from relay.delivery.waiting import nap
from relay.observability.liveness import Liveness
from relay.observability.metrics import Meters

NAME = "settler"
GROUP_SECONDS = CALL_SECONDS + 10.0
"""A group that takes longer is stalled: by then every store has ended its call."""

_GATHER_SECONDS = 0.01
"""A group gathers so long: fewer and larger commits are 5 to 15 % more throughput than with a fifth of it."""

_SLOW_SHARE = 10.0
"""What fails apart from the others is tried again after so many times as long as that took."""

_DRAIN_RETRY_SECONDS = 0.25
"""Between two tries while the process ends."""

Settled = Callable[[Message, Settlement], None]
"""Called once a settlement is durable."""


@dataclass(slots=True, eq=False)
class _Entry:
    """A settlement that is not durable yet. `refusals` in a row; the next try not before `due`.

    `alone`: its group failed, so it is tried without others. `failed_before`: how many groups were written
    when that failed too; if others are written, and it fails again, that is its row's fault. `seconds`: how
    long its last failure took.
    """

    message: Message
    settlement: Settlement
    settled: Settled
    refusals: int = 0
    due: float = 0.0
    alone: bool = False
    failed_before: float = inf
    seconds: float = 0.0


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
        self._writes = 0
        """Groups that were written."""
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
                is_search = group[0].alone and group[0].failed_before == inf
                self._fail(group, str(error), now() - began)
                if not group[0].refusals:
                    failures += not is_search
                    await self._rest(1 if is_search else failures)
                continue
            failures = 0
            self._meters.settlement_seconds.observe(now() - began)
            self._meters.group_messages.observe(len(group))
            self._writes += 1
            self._remove(group, left)
            self._note_success()

    async def _next_group(self) -> list[_Entry]:
        """The refused ones whose pause is over; where there are none, what gathers in a moment."""
        clock = asyncio.get_running_loop().time
        while True:
            again = [entry for entry in self._refused if entry.due <= clock()]
            if again or self._entries:
                self._liveness.begin()
            if again:
                return _group(again)
            if self._entries:
                if not self._entries[0].alone:
                    await asyncio.sleep(_GATHER_SECONDS)
                return _group(self._entries)
            self._wakened.clear()
            due = min((entry.due for entry in self._refused), default=inf)
            await nap(self._wakened, None if due == inf else max(due - clock(), 0.001))

    def _fail(self, group: list[_Entry], why: str, seconds: float) -> None:
        """It failed as a whole, after so many seconds: the others are tried before it is tried again."""
        is_new = not group[0].refusals
        for entry in group:
            entry.seconds = seconds
        if not is_new:
            for entry in group:
                entry.alone = True
            self._postpone(group)
        elif len(group) == 1 and group[0].alone and self._writes > group[0].failed_before:
            self._entries.popleft()
            self._set_apart(group, {group[0].message.key: why})
            self._note_success()
        else:
            self._put_behind(group)
            waiting = len(self._entries) + len(self._refused)
            self._reports.outbox_fails(f"{waiting} settlements wait: {why}")
        self._note_end()

    def _put_behind(self, group: list[_Entry]) -> None:
        """Perhaps the outbox fails as a whole; then few are tried alone."""
        self._entries.rotate(-len(group))
        if len(group) == 1:
            group[0].failed_before = self._writes
        if len(group) == 1 or not any(entry.alone and entry.failed_before == inf for entry in self._entries):
            for entry in group:
                entry.alone = True

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
        self._set_apart(refused, left.refused)
        self._progress.set()
        self._note_end()

    def _note_success(self) -> None:
        """Others are written; while some are still tried alone, it may fail soon again."""
        if not (self._reports.is_failing and any(entry.alone for entry in self._entries)):
            self._reports.outbox_takes_writes()

    def _note_end(self) -> None:
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

    def _set_apart(self, refused: list[_Entry], words: Mapping[MessageKey, str]) -> None:
        """They are tried again after growing pauses, and once more at the end of the process."""
        self._postpone(refused)
        self._refused += refused
        for entry in refused:
            tenant = entry.message.tenant_id
            self._reports.refused(entry.message, words[entry.message.key], self.refused(tenant))
        if not self._refused:
            self._reports.row_incidents.resolved()

    def _postpone(self, entries: Iterable[_Entry]) -> None:
        """One that fails only after seconds, during which the others wait, gets a small part of the time."""
        now = asyncio.get_running_loop().time()
        for entry in entries:
            entry.refusals += 1
            pause = self._schedule.delay(entry.refusals, self._chance())
            pause = max(pause, _SLOW_SHARE * entry.seconds)
            entry.due = inf if self._draining.is_set() else now + pause

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


def _group(waiting: Iterable[_Entry]) -> list[_Entry]:
    """The next ones that are written together; one whose group failed is written alone."""
    first, *others = itertools.islice(waiting, BATCH_MESSAGES)
    if first.alone:
        return [first]
    return [first, *itertools.takewhile(lambda entry: not entry.alone, others)]
