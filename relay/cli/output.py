"""Output of commands: results on stdout, notes and errors on stderr, colours on a terminal only."""

import codecs
import io
import json
import os
import sys
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, NoReturn, TextIO

import typer

from relay.core.validation import Problem
from relay.observability.logs import printable
from relay.reports.times import instant

if TYPE_CHECKING:
    from rich.text import Text

SUCCESS, FAILURE, USAGE_ERROR, INTERRUPTED = 0, 1, 2, 130
"""Exit codes. USAGE_ERROR: wrong arguments or settings; INTERRUPTED: by Ctrl-C, as shells report it."""


_ESCAPING = "relay.escape"


def print_line(text: str) -> None:
    """One line of the result."""
    sys.stdout.write(printable(text) + "\n")


def print_json(value: object) -> None:
    """A result for programs."""
    text = json.dumps(value, ensure_ascii=False, indent=2, default=_to_json)
    sys.stdout.write("\n".join(map(printable, text.split("\n"))) + "\n")


def _to_json(value: object) -> Any:
    return instant(value) if isinstance(value, datetime) else str(value)


def print_note(text: str) -> None:
    """One line beside the result; a stderr that cannot be written ends no command."""
    try:
        sys.stderr.write(printable(text) + "\n")
    except OSError:
        discard(sys.stderr)


def fail(text: str, code: int = USAGE_ERROR) -> NoReturn:
    """End the command with an error."""
    fail_with([text], code)


def fail_with(problems: Iterable[Problem | str], code: int = USAGE_ERROR) -> NoReturn:
    """End the command with several errors, one per line."""
    for problem in problems:
        print_note(f"relay: {problem}")
    raise typer.Exit(code)


# --- streams whose encoding has not every character ---------------------------------------------------------


def escape_unencodable() -> None:
    r"""Escape what the encoding of stdout and stderr lacks, so that no command fails for a character.

    As JSON does it (`\u00e9`): the output of `--json` stays valid.
    """
    codecs.register_error(_ESCAPING, _escaped)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_ESCAPING)


def _escaped(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    return json.dumps(error.object[error.start : error.end])[1:-1], error.end


# --- questions ----------------------------------------------------------------------------------------------


def confirm(question: str) -> None:
    """End the command unless the operator answers yes. Ctrl-C is KeyboardInterrupt, not an answer."""
    sys.stderr.write(f"{question} [y/N]: ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise typer.Abort


# --- streams that cannot be written ----------------------------------------------------------------------


def open_missing() -> None:
    """Open /dev/null as each of stdin, stdout and stderr that the process was started without.

    Otherwise the next file that is opened, perhaps the outbox, would get its descriptor and what is printed.
    """
    for descriptor, (name, mode) in enumerate([("stdin", "r"), ("stdout", "w"), ("stderr", "w")]):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free descriptor: this one
        if getattr(sys, name) is None:
            setattr(sys, name, open(descriptor, mode, encoding="utf-8", closefd=False))  # noqa: SIM115


def flush() -> None:
    """Write what is buffered, so that a full disk or a closed pipe is reported by the command itself."""
    sys.stdout.flush()


def flush_stderr() -> None:
    """Ignore a closed stderr: Python would turn it into a failure at exit."""
    try:
        sys.stderr.flush()
    except OSError:
        discard(sys.stderr)


def discard(stream: TextIO) -> None:
    """Send the rest of a stream to /dev/null."""
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, stream.fileno())
    os.close(devnull)


# --- progress ---------------------------------------------------------------------------------------------


def show_progress(done: int, total: int, what: str = "messages") -> None:
    """Replace the progress line; on a terminal only."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r{done:,} of {total:,} {what}")
        sys.stderr.flush()


def clear_progress() -> None:
    """Remove the progress line."""
    if sys.stderr.isatty():
        sys.stderr.write("\r\x1b[K")


# --- tables ---------------------------------------------------------------------------------------------

_STYLES = {
    "sending": "green", "idle": "green", "delivered": "green", "ok": "green", "done": "green",
    "initialising": "cyan", "pinging": "cyan", "pending": "cyan", "running": "cyan",
    "backing-off": "yellow", "paused": "yellow", "stopped": "yellow", "unconfigured": "yellow",
    "warning": "yellow", "halted": "red", "parked": "red", "failed": "red", "dropped": "dim",
}  # fmt: skip

_GAP, _INDENT = 2, 4
_MIN_LAST = 30
"""The last column wraps; it stays beside the others while it has this many characters."""


def print_table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Aligned columns, fitted to a terminal's width; piped, each row is one line with every value in full."""
    if not sys.stdout.isatty():
        lines = [list(head), *_cells(rows)]
        widths = [max(len(row[at]) for row in lines) for at in range(len(head))]
        for row in lines:
            padded = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            sys.stdout.write((" " * _GAP).join(padded).rstrip() + "\n")
        return
    from rich.console import Console

    console = Console(highlight=False)
    for line in fit_table(head, rows, console.width):
        console.print(line, soft_wrap=True)


def fit_table(head: Sequence[str], rows: Sequence[Sequence[object]], width: int) -> "Iterator[Text]":
    """The table's lines, none wider than `width` unless one value is.

    Columns that do not fit beside the others follow on indented lines: a rich.Table would cut message ids
    and reasons into columns of a few characters instead.
    """
    cells = _cells(rows)
    widths = [max(len(row[at]) for row in (head, *cells)) for at in range(len(head))]
    groups = _groups(widths, width)
    yield from _row_lines(head, groups, widths, width, dict.fromkeys(head, "bold"))
    for row in cells:
        yield from _row_lines(row, groups, widths, width, _STYLES)


def _cells(rows: Sequence[Sequence[object]]) -> list[list[str]]:
    return [[printable("" if cell is None else str(cell)) for cell in row] for row in rows]


def _groups(widths: Sequence[int], width: int) -> Sequence[Sequence[int]]:
    """Columns that share a line."""
    groups: list[list[int]] = [[]]
    used = 0
    for at, column in enumerate(widths):
        needed = min(column, _MIN_LAST) if at == len(widths) - 1 else column
        if groups[-1] and used + needed > width:
            groups.append([])
            used = _INDENT
        groups[-1].append(at)
        used += column + _GAP
    return groups


def _row_lines(
    row: Sequence[str],
    groups: Sequence[Sequence[int]],
    widths: Sequence[int],
    width: int,
    styles: dict[str, str],
) -> "Iterator[Text]":
    from rich.text import Text

    for number, columns in enumerate(groups):
        if number and not any(row[at] for at in columns):
            continue
        line, wrapped = Text(" " * _INDENT if number else ""), [""]
        indent = 0
        for at in columns:
            indent, style, cell = len(line), styles.get(row[at], ""), row[at]
            if at == len(row) - 1:
                wrapped = textwrap.wrap(cell, max(width - indent, _MIN_LAST // 2)) or [""]
                cell = wrapped[0]
            line.append(cell if at == columns[-1] else cell.ljust(widths[at] + _GAP), style)
        for more in wrapped[1:]:
            yield line
            line = Text(" " * indent).append(more)
        line.rstrip()
        yield line
