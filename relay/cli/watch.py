"""This file is `relay status --watch`: how every tenant is, every two seconds anew, until q or Ctrl-C."""

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

from relay.cli import output
from relay.cli.common import at_outbox, configured
from relay.cli.status import HEAD, above, table
from relay.cli.tables import lay_out
from relay.core.ports import StoreError
from relay.observability.logs import printable
from relay.reports.overview import Overview, read_overview
from relay.reports.times import instant

if TYPE_CHECKING:
    from relay.config.settings import Settings
    from relay.core.ports import Store

EVERY = 2.0
"""Seconds between two looks."""

Show = Callable[[Overview | str], None]
"""Shows an overview, or why there is none now."""


def watch_status(known: "Settings") -> None:
    """Until a person ends it: redrawn in place on a terminal, one after the other where piped."""

    async def work(outbox: "Store") -> None:
        with _screen() if sys.stdout.isatty() else nullcontext(_print) as show, _quitting() as quit_:
            while not quit_.is_set():
                show(await _seen(outbox, known))
                with suppress(TimeoutError):
                    await asyncio.wait_for(quit_.wait(), EVERY)

    with suppress(KeyboardInterrupt):
        at_outbox(known.outbox, work)


async def _seen(outbox: "Store", known: "Settings") -> Overview | str:
    """An outbox in passing trouble is said, and asked again."""
    try:
        return await read_overview(outbox, configured(known), datetime.now(UTC))
    except StoreError as error:
        if error.lasting:
            raise
        return str(error)


def _print(seen: Overview | str) -> None:
    if isinstance(seen, str):
        output.note(f"relay: {seen}")
        return
    output.line(instant(seen.at))
    for text in above(seen):
        output.line(text)
    if rows := table(seen.tenants, seen):
        output.table(HEAD, rows)
    output.line("")
    output.finish()


@contextmanager
def _screen() -> Iterator[Show]:
    console = Console(highlight=False)
    with Live(console=console, screen=True, auto_refresh=False) as live:

        def show(seen: Overview | str) -> None:
            lines = _drawn(seen, console.width)
            room = console.height - 1
            if len(lines) > room:
                lines = [*lines[: room - 1], Text(f"… and {len(lines) - room + 1} more lines")]
            live.update(Group(*lines), refresh=True)

        yield show


def _drawn(seen: Overview | str, width: int) -> Sequence[Text]:
    if isinstance(seen, str):
        return [Text(printable(seen))]
    rows = [[printable(str(cell)) for cell in row] for row in table(seen.by_urgency, seen)]
    return [
        Text(f"{instant(seen.at)}   q ends", style="dim"),
        *(Text(printable(text)) for text in above(seen)),
        *(lay_out(HEAD, rows, width) if rows else ()),
    ]


@contextmanager
def _quitting() -> Iterator[asyncio.Event]:
    """Set once a person typed q; where nobody types, only Ctrl-C ends it."""
    pressed = asyncio.Event()
    if not sys.stdin.isatty():
        yield pressed
        return
    loop, keyboard = asyncio.get_running_loop(), sys.stdin.fileno()

    def typed() -> None:
        if os.read(keyboard, 64)[:1] in (b"q", b"Q", b""):
            pressed.set()

    before = termios.tcgetattr(keyboard)
    tty.setcbreak(keyboard)
    loop.add_reader(keyboard, typed)
    try:
        yield pressed
    finally:
        loop.remove_reader(keyboard)
        termios.tcsetattr(keyboard, termios.TCSADRAIN, before)
