"""This file is where posts are settled, many in one commit.

A group is what gathered while the last commit ran, and a moment longer. What is not yet written stays
here, also while the outbox is down: a delivery that is known is never forgotten as long as the process lives.
"""

import asyncio
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Set

from relay.core.model import Message, Parked, RowId, Settlement, TenantId
from relay.core.ports import CALL_SECONDS, Outbox, StoreError
from relay.core.retry import Schedule
from relay.delivery.waiting import nap
from relay.observability.liveness import Liveness
from relay.observability.logs import Incidents
from relay.observability.metrics import Meters

GROUP = 128
"""Settlements in one commit: unbounded groups are slower, the pipeline stalls behind one commit."""

NAME = "settler"
GROUP_SECONDS = CALL_SECONDS + 10.0
"""A group that takes longer than this has stalled."""

_GATHER_SECONDS = 0.01
"""A group gathers so long: fewer and larger commits are 5 to 15 % more throughput than with a fifth of it."""

_HURRIED_SECONDS = 0.25


def report_outbox_incident(incidents: Incidents, detail: str) -> None:
    """The outbox did not do it: whoever meets it says it in the same words, so that it is one trouble."""
    hint = "mend the cause; the relay tries again by itself, nothing is lost"
    incidents.report("outbox", detail=detail, fault="the outbox's", hint=hint)


Settled = Callable[[Message, Settlement], None]
"""Called once a settlement is durable."""


class Settler:
    """One for the whole process: all tenants' settlements share the commits."""

    def __init__(
        self,
        outbox: Outbox,
        incidents: Incidents,
        schedule: Schedule,
        chance: Callable[[], float],
        meters: Meters,
        liveness: Liveness | None = None,
    ) -> None:
        self._outbox, self._incidents, self._meters = outbox, incidents, meters
        self._liveness = (liveness or Liveness()).part(NAME, GROUP_SECONDS)
        self._schedule, self._chance = schedule, chance
        self._entries: deque[tuple[Message, Settlement, Settled]] = deque()
        self._unsettled: defaultdict[TenantId, set[RowId]] = defaultdict(set)
        self.parked: Counter[TenantId] = Counter()
        """How many messages were parked since the start."""
        self._wakened = asyncio.Event()
        self._struck = asyncio.Event()
        self._hurried = asyncio.Event()
        self._emptied = asyncio.Event()
        self._emptied.set()

    def enter(self, message: Message, settlement: Settlement, settled: Settled) -> None:
        """Have it written soon; `settled` is called once it is durable."""
        if not self._entries:
            self._liveness.begin()
        self._entries.append((message, settlement, settled))
        self._unsettled[message.tenant_id].add(message.row)
        self._emptied.clear()
        self._wakened.set()

    def unsettled(self, tenant: TenantId) -> Set[RowId]:
        """The rows of the tenant whose settlement is not durable yet."""
        return self._unsettled.get(tenant, frozenset())

    async def run(self) -> None:
        """Write group after group, for ever. May be cancelled or started again at any time."""
        failures, now = 0, asyncio.get_running_loop().time
        while True:
            await self._wakened.wait()
            self._liveness.begin()
            await asyncio.sleep(_GATHER_SECONDS)
            group = [self._entries[at] for at in range(min(GROUP, len(self._entries)))]
            began = now()
            try:
                await self._outbox.settle([(message.row, settlement) for message, settlement, _ in group])
            except StoreError as error:
                failures += 1
                report_outbox_incident(self._incidents, f"{len(self._entries)} settlements wait: {error}")
                await self._rest(failures)
                continue
            failures = 0
            self._incidents.resolved()
            self._meters.settlement_seconds.observe(now() - began)
            self._meters.group_messages.observe(len(group))
            self._strike(group)

    async def _rest(self, failures: int) -> None:
        if self._hurried.is_set():  # the process ends: no long delays any more
            await asyncio.sleep(_HURRIED_SECONDS)
        else:
            self._liveness.rest()
            await nap(self._hurried, self._schedule.delay(failures, self._chance()))

    def _strike(self, group: list[tuple[Message, Settlement, Settled]]) -> None:
        for message, settlement, settled in group:
            self._entries.popleft()
            self._unsettled[message.tenant_id].discard(message.row)
            if isinstance(settlement, Parked):
                self.parked[message.tenant_id] += 1
            settled(message, settlement)
        self._struck.set()
        if not self._entries:
            self._liveness.rest()
            self._wakened.clear()
            self._emptied.set()

    async def settled(self, tenant: TenantId, within: float) -> None:
        """Wait until the tenant's settlements are durable, at most `within` seconds."""
        clock = asyncio.get_running_loop().time
        end = clock() + within
        while self._unsettled.get(tenant) and clock() < end:
            self._struck.clear()
            await nap(self._struck, end - clock())

    async def drained(self, within: float) -> int:
        """Wait until all is written, at most `within` seconds; how many are left."""
        self._hurried.set()
        await nap(self._emptied, within)
        return len(self._entries)
