"""`relay status --watch`: the state of every tenant, refreshed until q, or Ctrl-C (exit code 130)."""

import asyncio
import os
import sys
import termios
import tty
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from relay.cli import output, overview_table
from relay.cli.common import configured_tenants, with_outbox
from relay.core.ports import StoreError
from relay.observability.logs import printable
from relay.reports.overview import Overview, read_overview
from relay.reports.times import instant

if TYPE_CHECKING:
    from relay.config.settings import Settings
    from relay.core.ports import Store

REFRESH_SECONDS = 2.0

Show = Callable[[Overview | str], None]
"""Shows an overview, or why there is none now."""


def watch_status(settings: "Settings") -> None:
    """Redraw in place on a terminal; piped, print one table after the other."""

    async def work(outbox: "Store") -> None:
        with _screen() if sys.stdout.isatty() else nullcontext(_print) as show, _quit_key() as quitting:
            while not quitting.is_set():
                show(await _read(outbox, settings))
                with suppress(TimeoutError):
                    await asyncio.wait_for(quitting.wait(), REFRESH_SECONDS)

    with_outbox(settings.outbox, work)


async def _read(outbox: "Store", settings: "Settings") -> Overview | str:
    """A temporary error of the outbox is shown, and the outbox queried again."""
    try:
        return await read_overview(outbox, configured_tenants(settings), datetime.now(UTC))
    except StoreError as error:
        if error.lasting:
            raise
        return str(error)


def _print(overview: Overview | str) -> None:
    if isinstance(overview, str):
        output.print_note(f"relay: {overview}")
        return
    for text in (instant(overview.at), *overview_table.summary(overview)):
        output.print_line(text)
    if overview.tenants:
        output.print_table(overview_table.HEAD, overview_table.rows(overview.tenants, overview.at))
    output.print_line("")
    output.flush()


@contextmanager
def _screen() -> Iterator[Show]:
    console = Console(highlight=False)
    with Live(console=console, screen=True, auto_refresh=False) as live:

        def show(overview: Overview | str) -> None:
            lines = _draw(overview, console.width)
            room = console.height - 1
            if len(lines) > room:
                lines = [*lines[: room - 1], Text(f"… and {len(lines) - room + 1} more lines")]
            live.update(Group(*lines), refresh=True)

        yield show


def _draw(overview: Overview | str, width: int) -> Sequence[Text]:
    if isinstance(overview, str):
        return [Text(printable(overview))]
    rows = overview_table.rows(overview.by_urgency, overview.at)
    return [
        Text(f"{instant(overview.at)}   q: quit", style="dim"),
        *(Text(printable(text)) for text in overview_table.summary(overview)),
        *(output.fit_table(overview_table.HEAD, rows, width) if rows else ()),
    ]


@contextmanager
def _quit_key() -> Iterator[asyncio.Event]:
    """An event that is set once the operator types q; without a keyboard only Ctrl-C ends the command."""
    pressed = asyncio.Event()
    if not sys.stdin.isatty():
        yield pressed
        return
    loop, keyboard = asyncio.get_running_loop(), sys.stdin.fileno()

    def read_key() -> None:
        if os.read(keyboard, 64)[:1] in (b"q", b"Q", b""):
            pressed.set()

    before = termios.tcgetattr(keyboard)
    tty.setcbreak(keyboard)
    loop.add_reader(keyboard, read_key)
    try:
        yield pressed
    finally:
        loop.remove_reader(keyboard)
        termios.tcsetattr(keyboard, termios.TCSADRAIN, before)
