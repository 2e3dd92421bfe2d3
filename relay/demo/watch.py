"""This file is what the demo sees while it runs: counts and states of the tenants, from the outbox."""

import asyncio
import sqlite3
import time
from collections import deque
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from pathlib import Path

from relay.demo.evidence import Stretch
from relay.demo.workload import ACME, GLOBEX

EVERY = 0.1
NO_RELAY = "no relay"
_SHOWN_SECONDS = 20

_COUNTS = "SELECT upper(tenant_id), pending, delivered, parked FROM relay_counts"
_STATES = """
SELECT upper(tenant_id), state, coalesce(reason, ''), since, next_try
FROM relay_tenants WHERE state IS NOT NULL
"""


@dataclass(slots=True)
class Seen:
    """A tenant at this moment, and how many were delivered in each of the last seconds."""

    state: str = "starting"
    reason: str = ""
    next_try: float | None = None
    pending: int = 0
    delivered: int = 0
    parked: int = 0
    pulse: deque[int] = field(default_factory=lambda: deque([0] * _SHOWN_SECONDS, _SHOWN_SECONDS))


class DemoWatch:
    """Looks every tenth of a second. `running` False: what the outbox says of states is a dead relay's."""

    def __init__(self, outbox: Path, news: Callable[[], None]) -> None:
        self._outbox, self._news = outbox, news
        self.tenants = {ACME: Seen(), GLOBEX: Seen()}
        self.running = True
        self._changes: dict[str, list[tuple[float, str, str]]] = {ACME: [], GLOBEX: []}
        self._second = time.monotonic()
        self._before = dict.fromkeys(self.tenants, 0)

    async def look_on(self) -> None:
        """Until cancelled."""
        while True:
            await self.look()
            self._news()
            await asyncio.sleep(EVERY)

    async def look(self) -> None:
        """Once."""
        counts, states = await asyncio.to_thread(self._read)
        for tenant, pending, delivered, parked in counts:
            seen = self.tenants[tenant]
            seen.pending, seen.delivered, seen.parked = pending, delivered, parked
        if self.running:
            for tenant, state, reason, since, next_try in states:
                self._saw(
                    tenant, state, reason, _epoch(since), None if next_try is None else _epoch(next_try)
                )
        self._beat()

    def relay_died(self, at: float) -> None:
        """From now on there is no relay."""
        self.running = False
        for tenant in self.tenants:
            self._saw(tenant, NO_RELAY, "killed with kill -9", at, None)

    def relay_started(self) -> None:
        """There is one again; its states count from its first report on."""
        self.running = True

    def stretches(self, end: float) -> tuple[Stretch, ...]:
        """All states that were seen, up to `end`."""
        return tuple(
            Stretch(tenant, state, reason, begin, until)
            for tenant, changes in self._changes.items()
            for (begin, state, reason), (until, _, _) in pairwise([*changes, (end, "", "")])
        )

    def _read(self) -> tuple[list[tuple[str, int, int, int]], list[tuple[str, str, str, str, str | None]]]:
        with closing(sqlite3.connect(f"file:{self._outbox}?mode=ro", uri=True, timeout=5)) as connection:
            return connection.execute(_COUNTS).fetchall(), connection.execute(_STATES).fetchall()

    def _saw(self, tenant: str, state: str, reason: str, since: float, next_try: float | None) -> None:
        seen, changes = self.tenants[tenant], self._changes[tenant]
        if changes and since < changes[-1][0]:
            return  # what a relay wrote that was killed since
        seen.state, seen.reason, seen.next_try = state, reason, next_try
        if not changes or state != changes[-1][1]:
            changes.append((since, state, reason))

    def _beat(self) -> None:
        now = time.monotonic()
        if now - self._second < 1:
            return
        self._second = now
        for tenant, seen in self.tenants.items():
            seen.pulse.append(seen.delivered - self._before[tenant])
            self._before[tenant] = seen.delivered


def _epoch(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
