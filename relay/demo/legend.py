"""This file is the marks of the picture, and the legend that explains them."""

from collections.abc import Iterable, Sequence
from typing import Literal, assert_never

from relay.demo.ink import Ink

WAITS, WITHHELD, HANDED = "#94a3b8", "#8b5cf6", "#334155"
DELIVERED, AGAIN, PARKED, FAILED = "#059669", "#ea580c", "#dc2626", "#dc2626"
QUIET = "#64748b"

STATES = {
    "sending": "#10b981", "idle": "#bbf7d0", "initialising": "#0ea5e9", "pinging": "#7dd3fc",
    "backing-off": "#f59e0b", "halted": "#dc2626", "paused": "#a78bfa", "no relay": "#1e293b",
}  # fmt: skip

FAULTS = {
    "outage": ("#fef3c7", "#92400e"), "answer": ("#ffedd5", "#7c2d12"), "token": ("#e0f2fe", "#075985"),
    "configuration": ("#ede9fe", "#5b21b6"), "slow": ("#f1f5f9", "#475569"),
}  # fmt: skip
"""By kind of faults: the colour of its band, and of its words."""

Mark = Literal["dot", "line", "ring", "cross", "tick"]

_MARKS: Sequence[tuple[str, Mark, str]] = (
    ("handed over", "dot", HANDED),
    ("waiting", "line", WAITS),
    ("waiting for its document to be accepted", "line", WITHHELD),
    ("delivered", "dot", DELIVERED),
    ("went again, same id", "ring", AGAIN),
    ("parked", "cross", PARKED),
    ("ping answered", "tick", HANDED),
    ("ping failed", "tick", FAILED),
)


def legend(ink: Ink, left: float, y: float, states: Iterable[str]) -> None:
    """Two rows: the marks, and those states that were seen."""
    x = left
    for name, mark, colour in _MARKS:
        _mark(ink, mark, x, y - 4, colour)
        x = _named(ink, x, y, name)
    y += 28
    ink.text(left, y, "state, as relay status shows it:", size=11.5, fill=QUIET)
    x = left + 196
    for name in states:
        ink.box(x, y - 10, 16, 12, STATES[name])
        x = _named(ink, x, y, name)


def _mark(ink: Ink, mark: Mark, x: float, y: float, colour: str) -> None:
    match mark:
        case "dot":
            ink.dot(x + 8, y, 3 if colour == DELIVERED else 2, colour)
        case "line":
            ink.line(x, y, x + 16, y, colour, width=2)
        case "ring":
            ink.ring(x + 8, y, 3.6, colour)
        case "cross":
            ink.cross(x + 8, y, 4.5, colour)
        case "tick":
            ink.line(x + 8, y - 7, x + 8, y + 6, colour, width=2)
        case _:
            assert_never(mark)


def _named(ink: Ink, x: float, y: float, name: str) -> float:
    ink.text(x + 22, y, name, size=11.5, fill="#334155")
    return x + 44 + 6.3 * len(name)
