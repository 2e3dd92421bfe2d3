"""What the demo shows while it runs: plain lines when piped, with a live table on a terminal."""

import asyncio
import json
import sqlite3
import sys
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from relay.demo.verdict import StatePeriod
from relay.demo.workload import ACME, GLOBEX
from relay.reports.wait_reasons import state_reason

NO_RELAY = "no relay"
_POLL_SECONDS = 0.1
_SHOWN_SECONDS = 20
_MIN_WIDTH_FOR_BARS = 112
_BARS = " ▁▂▃▄▅▆▇█"
_STYLES = {
    "sending": "green", "idle": "green", "initialising": "cyan", "pinging": "cyan", "backing-off": "yellow",
    "halted": "red", "paused": "yellow", NO_RELAY: "bold red", ACME: "bold blue", GLOBEX: "bold magenta",
}  # fmt: skip
_COUNTS = "SELECT upper(tenant_id), pending, delivered, parked FROM relay_counts"
_STATES = """
SELECT upper(tenant_id), state, coalesce(reason, ''), coalesce(kind, ''), coalesce(documents, '[]'),
       since, next_try
FROM relay_tenants WHERE state IS NOT NULL
"""

# --- the outbox -----------------------------------------------------------------------------------


@dataclass(slots=True)
class TenantView:
    """A tenant at this moment. `rates`: messages delivered in each of the last seconds."""

    state: str = "starting"
    reason: str = ""
    next_try: float | None = None
    pending: int = 0
    delivered: int = 0
    parked: int = 0
    rates: deque[int] = field(default_factory=lambda: deque([0] * _SHOWN_SECONDS, _SHOWN_SECONDS))


class OutboxWatch:
    """Polls counts and states. While no relay runs, the states in the outbox are those of a dead one."""

    def __init__(self, outbox: Path, notify: Callable[[], None]) -> None:
        self._outbox, self._notify = outbox, notify
        self.tenants = {ACME: TenantView(), GLOBEX: TenantView()}
        self.is_running = True
        self._changes: dict[str, list[tuple[float, str]]] = {ACME: [], GLOBEX: []}
        self._rated_at = time.monotonic()
        self._rated = dict.fromkeys(self.tenants, 0)

    async def poll_forever(self) -> None:
        """Until cancelled."""
        while True:
            await self.poll()
            self._notify()
            await asyncio.sleep(_POLL_SECONDS)

    async def poll(self) -> None:
        """Once."""
        counts, states = await asyncio.to_thread(self._read)
        for name, pending, delivered, parked in counts:
            tenant = self.tenants[name]
            tenant.pending, tenant.delivered, tenant.parked = pending, delivered, parked
        if self.is_running:
            for name, state, reason, kind, documents, since, next_try in states:
                text = state_reason(kind, reason, json.loads(documents))
                self._update(name, state, text, _to_epoch(since), next_try and _to_epoch(next_try))
        if (now := time.monotonic()) >= self._rated_at + 1:
            self._rated_at = now
            for name, tenant in self.tenants.items():
                tenant.rates.append(tenant.delivered - self._rated[name])
                self._rated[name] = tenant.delivered

    def relay_died(self, at: float) -> None:
        """From now on no relay runs."""
        self.is_running = False
        for name in self.tenants:
            self._update(name, NO_RELAY, "killed with kill -9", at, None)

    def relay_started(self) -> None:
        """A relay runs again; its states count from its first report on."""
        self.is_running = True

    def state_periods(self, end: float) -> tuple[StatePeriod, ...]:
        """All states that were seen, up to `end`."""
        return tuple(
            StatePeriod(tenant, state, begin, until)
            for tenant, changes in self._changes.items()
            for (begin, state), (until, _) in pairwise([*changes, (end, "")])
        )

    def _read(self) -> tuple[list[tuple[str, int, int, int]], list[tuple[Any, ...]]]:
        with closing(sqlite3.connect(f"file:{self._outbox}?mode=ro", uri=True, timeout=5)) as connection:
            return connection.execute(_COUNTS).fetchall(), connection.execute(_STATES).fetchall()

    def _update(self, name: str, state: str, reason: str, since: float, next_try: float | None) -> None:
        tenant, changes = self.tenants[name], self._changes[name]
        if changes and since < changes[-1][0]:
            return  # written by a relay that was killed since
        tenant.state, tenant.reason, tenant.next_try = state, reason, next_try
        if not changes or state != changes[-1][1]:
            changes.append((since, state))


def _to_epoch(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


# --- the screen -----------------------------------------------------------------------------------


class Screen:
    """Prints a line for each event; on a terminal a live table stays below them."""

    def __init__(self, *, as_json: bool) -> None:
        self._console = Console()
        is_plain = as_json or not self._console.is_terminal or self._console.is_dumb_terminal
        self._plain = (sys.stderr if as_json else sys.stdout) if is_plain else None
        self._live = Live(console=self._console, auto_refresh=False, transient=True)

    @property
    def drawing(self) -> AbstractContextManager[object]:
        """The context in which the table is drawn."""
        return self._live if self._plain is None else nullcontext()

    def report(self, seconds: float, tenant: str, text: str) -> None:
        """Print a line. `seconds` since the beginning; `tenant` may be empty."""
        if self._plain is not None:
            print(f"{seconds:5.1f} s  {tenant:<10}  {text}", file=self._plain, flush=True)
            return
        line = Table.grid(padding=(0, 2))
        line.add_column(width=6, justify="right", style="dim")
        line.add_column(width=10)
        line.add_column(overflow="fold")
        line.add_row(f"{seconds:.1f} s", Text(tenant, style=_STYLES.get(tenant, "")), text)
        self._console.print(line)

    def refresh(
        self, seconds: float, tenants: Mapping[str, TenantView], faults: Mapping[str | None, str]
    ) -> None:
        """Draw the table again."""
        if self._plain is None:
            with_bars = self._console.width >= _MIN_WIDTH_FOR_BARS
            self._live.update(draw_table(seconds, tenants, faults, with_bars=with_bars), refresh=True)


def draw_table(
    seconds: float,
    tenants: Mapping[str, TenantView],
    faults: Mapping[str | None, str],
    *,
    with_bars: bool,
) -> RenderableType:
    """The tenants as a table, below it the reason of each state. `seconds` since the beginning."""
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for name in ("tenant", "state"):
        table.add_column(name, min_width=12)
    for name in ("waiting", "delivered", "parked", "next try"):
        table.add_column(name, justify="right", min_width=len(name), no_wrap=True)
    if with_bars:
        table.add_column("delivered a second", min_width=20, no_wrap=True)
    table.add_column("faults", no_wrap=True, overflow="ellipsis")
    for name, tenant in tenants.items():
        fault = faults.get(name) or faults.get(None)
        table.add_row(
            Text(name, style=_STYLES[name]),
            Text(tenant.state, style=_STYLES.get(tenant.state, "")),
            str(tenant.pending),
            str(tenant.delivered),
            Text(str(tenant.parked), style="red" if tenant.parked else ""),
            "" if tenant.next_try is None else f"{max(tenant.next_try - time.time(), 0):.1f} s",
            *([Text(draw_bars(tenant.rates), style="green")] if with_bars else []),
            Text(fault or "none", style="yellow" if fault else "green"),
        )
    reasons = (f"{name}: {tenant.reason}" if tenant.reason else "" for name, tenant in tenants.items())
    lines = (Text(line, style="dim", no_wrap=True, overflow="ellipsis") for line in reasons)
    return Group(Text(f"\n{seconds:5.1f} s", style="dim"), table, Text(""), *lines)


def draw_bars(numbers: Collection[int]) -> str:
    """A bar for each number, relative to the largest of them."""
    most = max(*numbers, 1)
    return "".join(_BARS[-(-number * (len(_BARS) - 1) // most)] for number in numbers)
