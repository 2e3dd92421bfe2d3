"""This file is how commands speak: results on stdout, troubles on stderr, in colour on a terminal alone."""

import json
import os
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, NoReturn, TextIO

import typer

from relay.core.validation import Problem
from relay.observability.logs import printable
from relay.reports.times import instant

FINE, TROUBLE, WRONG = 0, 1, 2
"""Exit codes: fine; trouble reported; wrong use or configuration."""


def line(text: str) -> None:
    """One line of a result."""
    sys.stdout.write(printable(text) + "\n")


def finish() -> None:
    """Write out what is still buffered, so that a full disk or a closed pipe is met here."""
    sys.stdout.flush()


def hush(stream: TextIO) -> None:
    """Nobody takes what is said here any more: let the rest of it go nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def let_go_of_stderr() -> None:
    """A log whose reader went away is no failure: Python would make it one while it exits."""
    try:
        sys.stderr.flush()
    except OSError:
        hush(sys.stderr)


def note(text: str) -> None:
    """One line beside the result."""
    sys.stderr.write(printable(text) + "\n")


def as_json(value: object) -> None:
    """A result for programs."""
    text = json.dumps(value, ensure_ascii=False, indent=2, default=_plain)
    sys.stdout.write("\n".join(map(printable, text.split("\n"))) + "\n")


def _plain(value: object) -> Any:
    return instant(value) if isinstance(value, datetime) else str(value)


def give_up(text: str, code: int = WRONG) -> NoReturn:
    """End the command with a sentence for the person."""
    note(f"relay: {text}")
    raise typer.Exit(code)


def refuse(problems: Iterable[Problem | str], code: int = WRONG) -> NoReturn:
    """End the command with everything that is wrong, a line each."""
    for problem in problems:
        note(f"relay: {problem}")
    raise typer.Exit(code)


# --- progress ---------------------------------------------------------------------------------------------


def progress(done: int, altogether: int, what: str = "messages") -> None:
    """How far it has come; on a terminal alone."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r{done:,} of {altogether:,} {what}")
        sys.stderr.flush()


def end_progress() -> None:
    """Nothing of it stays."""
    if sys.stderr.isatty():
        sys.stderr.write("\r\x1b[K")


# --- tables ---------------------------------------------------------------------------------------------


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Aligned columns, as a terminal has room for them; piped, a row is a line and every value whole."""
    cells = [[printable("" if cell is None else str(cell)) for cell in row] for row in rows]
    if sys.stdout.isatty():
        _fitted(head, cells)
        return
    lines = [list(head), *cells]
    widths = [max(len(row[at]) for row in lines) for at in range(len(head))]
    for row in lines:
        padded = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        sys.stdout.write("  ".join(padded).rstrip() + "\n")


def _fitted(head: Sequence[str], cells: Sequence[Sequence[str]]) -> None:
    from rich.console import Console

    from relay.cli.tables import lay_out

    console = Console(highlight=False)
    for row in lay_out(head, cells, console.width):
        console.print(row, soft_wrap=True)
