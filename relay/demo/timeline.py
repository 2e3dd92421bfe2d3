"""The demo's time line as SVG: each message is a line from enqueue to delivery.

Pure. One file without fonts or scripts from elsewhere.
"""

from collections.abc import Callable, Iterator

from relay.demo.application import Enqueued
from relay.demo.svg import DARK, GREEN, QUIET, RED, box, document, dot, element, line, text, titled
from relay.demo.verdict import Evidence, FaultPeriod, Verdict
from relay.demo.workload import ACME, GLOBEX
from relay.sandbox import TakenMessage

_WIDTH, _LEFT, _RIGHT, _TOP = 1440, 176, 36, 112
_MESSAGES, _FAULT_ROW, _PINGS, _STATES, _GAP = 218, 21, 26, 14, 40
_WAITING, _WITHHELD, _ENQUEUED, _AGAIN = "#94a3b8", "#8b5cf6", "#334155", "#ea580c"
_STATE_COLOURS = {
    "sending": "#10b981", "idle": "#bbf7d0", "initialising": "#0ea5e9", "pinging": "#7dd3fc",
    "backing-off": "#f59e0b", "halted": RED, "paused": "#a78bfa", "no relay": "#1e293b",
}  # fmt: skip
_FAULT_COLOURS = {
    "outage": ("#fef3c7", "#92400e"), "answer": ("#ffedd5", "#7c2d12"), "token": ("#e0f2fe", "#075985"),
    "configuration": ("#ede9fe", "#5b21b6"), "slow": ("#f1f5f9", "#475569"),
}  # fmt: skip
"""By kind of fault: the colour of its band, and of its text."""
_AUTHENTICATION = {ACME: "OAuth 2", GLOBEX: "OAuth 1.0a"}


def draw(evidence: Evidence, verdict: Verdict) -> str:
    """The whole picture."""
    return _Timeline(evidence).draw(verdict)


class _Timeline:
    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence
        self._seconds = max(evidence.ended - evidence.began, 1.0)
        self._taken = {(taken.tenant_id, taken.message_id): taken for taken in evidence.taken}

    def draw(self, verdict: Verdict) -> str:
        panels: list[str] = []
        bottom = float(_TOP - _GAP)
        for tenant in sorted({message.tenant for message in self._evidence.enqueued}):
            top = bottom + _GAP
            faults = list(self._place_faults(tenant))
            messages = top + _FAULT_ROW * (1 + max((row for _, row in faults), default=0))
            bottom = messages + _MESSAGES + _PINGS + _STATES + 14
            panels += self._draw_faults(faults, top, messages)
            panels += self._draw_messages(tenant, messages)
            panels += self._draw_pings(tenant, messages + _MESSAGES + 4)
            panels += self._draw_states(tenant, messages + _MESSAGES + _PINGS + 8)
        elements = [*_draw_heading(verdict), *self._draw_axis(bottom), *panels, *self._draw_kill(bottom)]
        elements += _draw_legend(bottom + 58, {period.state for period in self._evidence.states})
        return document(_WIDTH, bottom + 122, "ion-relay demo: the time line", elements)

    def _x(self, at: float) -> float:
        share = (at - self._evidence.began) / self._seconds
        return _LEFT + min(max(share, 0.0), 1.0) * (_WIDTH - _LEFT - _RIGHT)

    def _draw_axis(self, bottom: float) -> Iterator[str]:
        for second in range(0, int(self._seconds) + 1, 5):
            x = self._x(self._evidence.began + second)
            yield line(x, _TOP, x, bottom, "#e2e8f0")
            yield text(x, bottom + 20, f"{second} s", fill=QUIET, text_anchor="middle")

    def _draw_kill(self, bottom: float) -> Iterator[str]:
        killed, restarted, top = self._evidence.killed_at, self._evidence.restarted_at, _TOP - 6
        if killed is not None:
            x = self._x(killed)
            yield line(x, top, x, bottom, RED, stroke_width=1.5)
            yield text(x - 5, top - 2, "kill -9", fill=RED, font_weight=600, text_anchor="end")
        if restarted is not None:
            x = self._x(restarted)
            yield line(x, top, x, bottom, DARK, stroke_width=1.2, stroke_dasharray="4 3")
            yield text(x + 5, top - 2, "started again", font_weight=600)

    # --- faults -----------------------------------------------------------------------------------

    def _place_faults(self, tenant: str) -> Iterator[tuple[FaultPeriod, int]]:
        """Each fault with its row, so that no text covers another."""
        free: list[float] = []
        faults = (one for one in self._evidence.faults if one.tenant in {tenant, None})
        for fault in sorted(faults, key=lambda one: one.begin):
            begin, width = self._x(fault.begin), 14 + 6.7 * len(fault.text)
            left = width if self._ends_at_the_kill(fault) else 0
            row = next((row for row, until in enumerate(free) if until <= begin - left), len(free))
            free[row : row + 1] = [max(self._x(fault.end), begin + width - left)]
            yield fault, row

    def _ends_at_the_kill(self, fault: FaultPeriod) -> bool:
        """Then its text is to the left, where it does not cover the kill's line."""
        killed = self._evidence.killed_at
        return killed is not None and abs(fault.end - killed) < 0.2

    def _draw_faults(
        self, faults: list[tuple[FaultPeriod, int]], top: float, messages: float
    ) -> Iterator[str]:
        for fault, row in faults:
            colour, fill = _FAULT_COLOURS[fault.kind]
            x, y = self._x(fault.begin), top + row * _FAULT_ROW
            width = max(self._x(fault.end) - x, 2)
            yield box(x, messages, width, _MESSAGES, colour, fill_opacity=0.6)
            yield box(x, y, width, messages - y, colour)
            at, anchor = (x - 5, "end") if self._ends_at_the_kill(fault) else (x + 5, "start")
            yield text(at, y + 14.5, fault.text, fill=fill, font_weight=600, text_anchor=anchor, halo=True)

    # --- messages, pings, states ------------------------------------------------------------------

    def _draw_messages(self, tenant: str, top: float) -> Iterator[str]:
        messages = [message for message in self._evidence.enqueued if message.tenant == tenant]
        about = f"{_AUTHENTICATION.get(tenant, '')}, {len(messages)} messages"
        yield text(_LEFT - 16, top + 20, tenant, font_size=14, font_weight=600, text_anchor="end")
        yield text(_LEFT - 16, top + 38, about, font_size=11, fill=QUIET, text_anchor="end")
        for place, message in enumerate(messages):
            yield self._draw_message(message, top + 5 + place * (_MESSAGES - 10) / max(len(messages) - 1, 1))

    def _draw_message(self, message: Enqueued, y: float) -> str:
        taken = self._taken.get((message.tenant, message.message_id))
        row = self._evidence.rows.get(message.row)
        begin, start = self._x(message.at), dot(self._x(message.at), y, 1.1, _ENQUEUED)
        title = f"{message.document} of {message.key}, {message.size} bytes, id {message.message_id}"
        if taken is not None:
            return titled(_describe(title, message, taken), *self._draw_arrivals(message, taken, y), start)
        if row is None or row.state != "parked" or row.settled_at is None:
            end = self._x(self._evidence.ended)
            return titled(title, line(begin, y, end, y, RED, stroke_width=1.6), start)
        x = self._x(row.settled_at)
        label = text(x + 9, y + 4, "parked", fill=RED, font_weight=600, halo=True)
        wait = line(begin, y, x, y, _WAITING, stroke_width=1.3)
        return titled(title, wait, _draw_cross(x, y), label, start)

    def _draw_arrivals(self, message: Enqueued, taken: TakenMessage, y: float) -> Iterator[str]:
        times = [taken.at, *(again.at for again in taken.redeliveries or ())]
        unsteady = (message.tenant, message.document) in self._evidence.unsteady
        colour = _WITHHELD if unsteady and taken.at - message.at > 1 else _WAITING
        yield line(
            self._x(message.at), y, self._x(times[-1]), y, colour, stroke_width=1.2, stroke_opacity=0.75
        )
        yield dot(self._x(taken.at), y, 2, GREEN)
        yield from (_draw_ring(self._x(at), y) for at in times[1:])

    def _draw_pings(self, tenant: str, y: float) -> Iterator[str]:
        yield text(_LEFT - 16, y + 16, "pings", fill=QUIET, text_anchor="end")
        for ping in self._evidence.pings:
            if ping.tenant_id == tenant:
                x, colour = self._x(ping.at), _ENQUEUED if ping.status == 200 else RED
                yield line(x, y + 4, x, y + _PINGS - 4, colour, stroke_width=1.8)

    def _draw_states(self, tenant: str, y: float) -> Iterator[str]:
        yield text(_LEFT - 16, y + 11, "state", fill=QUIET, text_anchor="end")
        for period in self._evidence.states:
            if period.tenant == tenant and (colour := _STATE_COLOURS.get(period.state)):
                x = self._x(period.begin)
                width = max(self._x(period.end) - x, 0.8)
                yield box(x, y, width, _STATES, colour, title=period.state)


def _draw_heading(verdict: Verdict) -> Iterator[str]:
    title = "ion-relay demo: each line is a message, from enqueue to delivery"
    facts = (
        f"{verdict.enqueued} enqueued",
        f"{len(verdict.delivered)} delivered",
        f"{len(verdict.parked)} parked",
        f"{len(verdict.sent_twice)} sent twice under the same id",
        f"{len(verdict.lost)} lost",
        f"{len(verdict.out_of_order)} out of order",
        f"{len(verdict.violations)} violations",
        f"median {verdict.normal_median_seconds * 1000:.0f} ms in normal operation",
    )
    yield text(_LEFT, 42, title, font_size=21, font_weight=600)
    yield text(_LEFT, 67, "  ·  ".join(facts), font_size=13, fill="#475569")


def _describe(title: str, message: Enqueued, taken: TakenMessage) -> str:
    again = f", sent {taken.times} times" if taken.redeliveries else ""
    return f"{title}: delivered after {taken.at - message.at:.3f} s{again}"


def _draw_ring(x: float, y: float) -> str:
    return element("circle", cx=x, cy=y, r=3.2, fill="none", stroke=_AGAIN, stroke_width=1.5)


def _draw_cross(x: float, y: float) -> str:
    strokes = (line(x - 4.5, y - side, x + 4.5, y + side, RED, stroke_width=2.2) for side in (4.5, -4.5))
    return "".join(strokes)


_MARKS: tuple[tuple[str, Callable[[float, float], str]], ...] = (
    ("enqueued", lambda x, y: dot(x, y, 2, _ENQUEUED)),
    ("waiting", lambda x, y: line(x - 8, y, x + 8, y, _WAITING, stroke_width=2)),
    (
        "waiting for its document to be accepted",
        lambda x, y: line(x - 8, y, x + 8, y, _WITHHELD, stroke_width=2),
    ),
    ("delivered", lambda x, y: dot(x, y, 3, GREEN)),
    ("sent again, same id", _draw_ring),
    ("parked", _draw_cross),
    ("ping answered", lambda x, y: line(x, y - 7, x, y + 6, _ENQUEUED, stroke_width=2)),
    ("ping failed", lambda x, y: line(x, y - 7, x, y + 6, RED, stroke_width=2)),
)


def _draw_legend(y: float, states: set[str]) -> Iterator[str]:
    """Two rows: the marks, and the states that were seen."""
    x = float(_LEFT)
    for name, draw_mark in _MARKS:
        yield draw_mark(x + 8, y - 4)
        yield text(x + 22, y, name, fill=_ENQUEUED)
        x += 44 + 6.3 * len(name)
    yield text(_LEFT, y + 28, "state, as in relay status:", fill=QUIET)
    x = _LEFT + 196.0
    for name, colour in _STATE_COLOURS.items():
        if name in states:
            yield box(x, y + 18, 16, 12, colour)
            yield text(x + 22, y + 28, name, fill=_ENQUEUED)
            x += 44 + 6.3 * len(name)
