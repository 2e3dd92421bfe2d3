"""This file is how the demo is shown: plain lines where piped, with a live table on a terminal."""

import sys
import time
from collections.abc import Collection, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol, TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from relay.demo.watch import NO_RELAY, Seen

_WIDE = 112
"""Columns from which on the bars have room."""
_BARS = " ▁▂▃▄▅▆▇█"
_STYLES = {
    "sending": "green", "idle": "green", "initialising": "cyan", "pinging": "cyan", "backing-off": "yellow",
    "halted": "red", "paused": "yellow", NO_RELAY: "bold red",
}  # fmt: skip
_TENANT_STYLES = {"ACME_PRD": "bold blue", "GLOBEX_TST": "bold magenta"}

Tenants = Mapping[str, Seen]
FaultPeriod = Mapping[str | None, str]


class Screen(Protocol):
    """Where the demo speaks. Entered, it may draw; left, what was said stays."""

    def say(self, seconds: float, tenant: str, text: str) -> None:
        """A line. `seconds` since the beginning; `tenant` may be empty."""
        ...

    def show(self, seconds: float, tenants: Tenants, faults: FaultPeriod) -> None:
        """The tenants as they are."""
        ...

    def drawing(self) -> AbstractContextManager[object]:
        """While this is entered."""
        ...


class Lines:
    """Plain lines."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def say(self, seconds: float, tenant: str, text: str) -> None:
        """One line."""
        self._out.write(f"{seconds:5.1f} s  {tenant:<10}  {text}\n")
        self._out.flush()

    def show(self, seconds: float, tenants: Tenants, faults: FaultPeriod) -> None:
        """Nothing: lines tell it."""

    def drawing(self) -> AbstractContextManager[object]:
        """Nothing to draw."""
        return nullcontext()


class LiveTable:
    """Lines that scroll by, and a table below them that lives."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, auto_refresh=False, transient=True)

    def say(self, seconds: float, tenant: str, text: str) -> None:
        """One line above the table."""
        line = Table.grid(padding=(0, 2))
        line.add_column(width=6, justify="right", style="dim")
        line.add_column(width=10)
        line.add_column(overflow="fold")
        line.add_row(f"{seconds:.1f} s", Text(tenant, style=_TENANT_STYLES.get(tenant, "")), Text(text))
        self._console.print(line)

    def show(self, seconds: float, tenants: Tenants, faults: FaultPeriod) -> None:
        """Draw the table anew."""
        wide = self._console.width >= _WIDE
        self._live.update(table(seconds, tenants, faults, time.time(), wide=wide), refresh=True)

    def drawing(self) -> AbstractContextManager[object]:
        """While the table lives."""
        return self._live


def table(
    seconds: float, tenants: Tenants, faults: FaultPeriod, now: float, *, wide: bool = True
) -> RenderableType:
    """The tenants as a table. `seconds` since the beginning; `now`: since the epoch; `wide`: with bars."""
    shown = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for name in ("tenant", "state"):
        shown.add_column(name, min_width=12)
    for name in ("waiting", "delivered", "parked", "next try"):
        shown.add_column(name, justify="right", min_width=len(name), no_wrap=True)
    if wide:
        shown.add_column("delivered a second", min_width=20, no_wrap=True)
    shown.add_column("faults", no_wrap=True, overflow="ellipsis")
    for tenant, seen in tenants.items():
        text = faults.get(tenant) or faults.get(None) or "fine"
        shown.add_row(
            Text(tenant, style=_TENANT_STYLES.get(tenant, "")),
            Text(seen.state, style=_STYLES.get(seen.state, "")),
            str(seen.pending),
            str(seen.delivered),
            Text(str(seen.parked), style="red" if seen.parked else ""),
            "" if seen.next_try is None else f"{max(seen.next_try - now, 0):.1f} s",
            *([Text(pulse(seen.pulse), style="green")] if wide else []),
            Text(text, style="green" if text == "fine" else "yellow"),
        )
    why = (f"{tenant}: {seen.reason}" if seen.reason else "" for tenant, seen in tenants.items())
    whys = (Text(line, style="dim", no_wrap=True, overflow="ellipsis") for line in why)
    return Group(Text(f"\n{seconds:5.1f} s", style="dim"), shown, Text(""), *whys)


def pulse(numbers: Collection[int]) -> str:
    """Small bars, the newest at the right; the highest is the largest of them."""
    most = max(*numbers, 1)
    return "".join(_BARS[-(-number * (len(_BARS) - 1) // most)] for number in numbers)


def choose(*, as_json: bool) -> Screen:
    """The live table on a terminal; lines where piped, and beside JSON."""
    console = Console()
    if as_json:
        return Lines(sys.stderr)
    return LiveTable(console) if console.is_terminal and not console.is_dumb_terminal else Lines(sys.stdout)
