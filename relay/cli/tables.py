"""This file is how a table fits a terminal: the last column folds, what has no room beside goes beneath."""

import textwrap
from collections.abc import Iterator, Sequence

from rich.text import Text

_STYLES = {
    "sending": "green", "idle": "green", "delivered": "green", "ok": "green", "done": "green",
    "initialising": "cyan", "pinging": "cyan", "pending": "cyan", "running": "cyan",
    "backing-off": "yellow", "paused": "yellow", "stopped": "yellow", "unconfigured": "yellow",
    "halted": "red", "parked": "red", "failed": "red", "dropped": "dim",
}  # fmt: skip

_GAP, _INDENT = 2, 4
_ENOUGH = 30
"""So much room suffices for the last column."""


def lay_out(head: Sequence[str], rows: Sequence[Sequence[str]], room: int) -> Iterator[Text]:
    """The lines of the table, none longer than `room` unless a single cell is."""
    widths = [max(len(row[at]) for row in (head, *rows)) for at in range(len(head))]
    groups = _groups(widths, room)
    yield from _lines(head, groups, widths, room, "bold")
    for row in rows:
        yield from _lines(row, groups, widths, room)


def _groups(widths: Sequence[int], room: int) -> Sequence[Sequence[int]]:
    """Which columns stand beside each other."""
    groups: list[list[int]] = [[]]
    used = 0
    for at, width in enumerate(widths):
        needed = min(width, _ENOUGH) if at == len(widths) - 1 else width
        if groups[-1] and used + needed > room:
            groups.append([])
            used = _INDENT
        groups[-1].append(at)
        used += width + _GAP
    return groups


def _lines(
    row: Sequence[str], groups: Sequence[Sequence[int]], widths: Sequence[int], room: int, style: str = ""
) -> Iterator[Text]:
    for number, columns in enumerate(groups):
        if number and not any(row[at] for at in columns):
            continue
        line = Text(" " * _INDENT if number else "")
        for at in columns:
            last = at == columns[-1]
            folded = _fold(row[at], room - len(line)) if at == len(row) - 1 else [row[at]]
            column = len(line)
            line.append(
                folded[0] if last else folded[0].ljust(widths[at] + _GAP), style or _STYLES.get(row[at], "")
            )
            for more in folded[1:]:
                yield line
                line = Text(" " * column).append(more)
        line.rstrip()
        yield line


def _fold(text: str, room: int) -> Sequence[str]:
    return textwrap.wrap(text, max(room, _ENOUGH // 2)) or [""]
