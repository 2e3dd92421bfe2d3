"""Group commit: the settlements of all tenants are written to the outbox together.

A group is what gathered while the last commit ran, and a moment longer. What is not written yet stays here,
also while the outbox fails: a known delivery is never forgotten as long as the process lives.
"""

import asyncio
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Set

from relay.core.model import Message, Parked, RowId, Settlement, TenantId
from relay.core.ports import CALL_SECONDS, Outbox, StoreError
from relay.core.retry import Schedule
from relay.delivery.limits import BATCH_MESSAGES
from relay.delivery.outbox_retry import report_outbox_incident
from relay.delivery.waiting import nap
from relay.observability.incidents import Incidents
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


class Settler:
    """Writes the settlements of all tenants of the process, in groups."""

    def __init__(
        self,
        outbox: Outbox,
        incidents: Incidents,
        schedule: Schedule,
        chance: Callable[[], float],
        meters: Meters,
        liveness: Liveness,
    ) -> None:
        self._outbox, self._incidents, self._meters = outbox, incidents, meters
        self._liveness = liveness.component(NAME, GROUP_SECONDS)
        self._schedule, self._chance = schedule, chance
        self._entries: deque[tuple[Message, Settlement, Settled]] = deque()
        self._unsettled: defaultdict[TenantId, set[RowId]] = defaultdict(set)
        self.parked: Counter[TenantId] = Counter()
        """How many messages were parked since the start."""
        self._wakened = asyncio.Event()
        self._progress = asyncio.Event()
        self._draining = asyncio.Event()
        self._emptied = asyncio.Event()
        self._emptied.set()

    def enter(self, message: Message, settlement: Settlement, settled: Settled) -> None:
        """Write it with the next group; `settled` is called once it is durable."""
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
        """Write group after group until cancelled; may be started again at any time."""
        failures, now = 0, asyncio.get_running_loop().time
        while True:
            await self._wakened.wait()
            self._liveness.begin()
            await asyncio.sleep(_GATHER_SECONDS)
            group = [self._entries[at] for at in range(min(BATCH_MESSAGES, len(self._entries)))]
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
            self._remove(group)

    async def _rest(self, failures: int) -> None:
        if self._draining.is_set():  # the process ends: no long delays any more
            await asyncio.sleep(_DRAIN_RETRY_SECONDS)
        else:
            self._liveness.idle()
            await nap(self._draining, self._schedule.delay(failures, self._chance()))

    def _remove(self, group: list[tuple[Message, Settlement, Settled]]) -> None:
        for message, settlement, settled in group:
            self._entries.popleft()
            self._unsettled[message.tenant_id].discard(message.row)
            if isinstance(settlement, Parked):
                self.parked[message.tenant_id] += 1
            settled(message, settlement)
        self._progress.set()
        if not self._entries:
            self._liveness.idle()
            self._wakened.clear()
            self._emptied.set()

    async def settled(self, tenant: TenantId, within: float) -> None:
        """Wait until the tenant's settlements are durable, at most `within` seconds."""
        clock = asyncio.get_running_loop().time
        end = clock() + within
        while self._unsettled.get(tenant) and clock() < end:
            self._progress.clear()
            await nap(self._progress, end - clock())

    async def drained(self, within: float) -> int:
        """Wait until all settlements are durable, at most `within` seconds; how many are left."""
        self._draining.set()
        await nap(self._emptied, within)
        return len(self._entries)
