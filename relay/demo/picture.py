"""This file is the picture of the time line, as SVG: each message a line from hand-over to delivery.

Pure. One file, no font and no script from elsewhere.
"""

from collections.abc import Iterator, Sequence

from relay.demo.evidence import Enqueued, Evidence, FaultPeriod, TakenMessage
from relay.demo.ink import Ink
from relay.demo.legend import (
    AGAIN,
    DELIVERED,
    FAILED,
    FAULTS,
    HANDED,
    PARKED,
    QUIET,
    STATES,
    WAITS,
    WITHHELD,
    legend,
)
from relay.demo.verdict import Verdict
from relay.demo.workload import SIGNS_IN

WIDTH = 1440
_LEFT, _RIGHT = 176, 36
_TOP = 112
_WATERFALL, _BAND, _PINGS, _STATES, _GAP = 218, 21, 26, 14, 40


def draw(evidence: Evidence, verdict: Verdict) -> str:
    """The whole picture."""
    return _Picture(evidence, verdict).draw()


class _Picture:
    def __init__(self, evidence: Evidence, verdict: Verdict) -> None:
        self._evidence, self._verdict = evidence, verdict
        self._seconds = max(evidence.ended - evidence.began, 1.0)
        self._taken = {(taken.tenant, taken.message_id): taken for taken in evidence.taken}
        self._ink = Ink()

    def draw(self) -> str:
        tenants = sorted({message.tenant for message in self._evidence.handed})
        heights = [self._panel_height(tenant) for tenant in tenants]
        bottom = _TOP + sum(heights) + _GAP * (len(tenants) - 1)
        self._heading()
        self._axis(_TOP, bottom)
        top = float(_TOP)
        for tenant, height in zip(tenants, heights, strict=True):
            self._panel(tenant, top)
            top += height + _GAP
        self._kill(_TOP - 6, bottom)
        legend(self._ink, _LEFT, bottom + 58, _shown_states(self._evidence))
        return self._ink.svg(WIDTH, bottom + 122, "ion-relay demo: the time line")

    def _x(self, at: float) -> float:
        share = (at - self._evidence.began) / self._seconds
        return _LEFT + min(max(share, 0.0), 1.0) * (WIDTH - _LEFT - _RIGHT)

    # --- around the panels ------------------------------------------------------------------------

    def _heading(self) -> None:
        verdict, ink = self._verdict, self._ink
        ink.text(
            _LEFT,
            42,
            "ion-relay demo: each line is a message, from hand-over to delivery",
            size=21,
            weight=600,
        )
        facts = (
            f"{verdict.enqueued} handed over",
            f"{len(verdict.delivered)} delivered",
            f"{len(verdict.parked)} parked",
            f"{len(verdict.sent_twice)} sent twice under the same id",
            f"{len(verdict.lost)} lost",
            f"{len(verdict.out_of_order)} out of order",
            f"{len(verdict.violations)} violations",
            f"median {verdict.fair_median_seconds * 1000:.0f} ms in normal operation",
        )
        ink.text(_LEFT, 67, "  ·  ".join(facts), size=13, fill="#475569")

    def _axis(self, top: float, bottom: float) -> None:
        for second in range(0, int(self._seconds) + 1, 5):
            x = self._x(self._evidence.began + second)
            self._ink.line(x, top, x, bottom, "#e2e8f0")
            self._ink.text(x, bottom + 20, f"{second} s", size=11.5, fill=QUIET, anchor="middle")

    def _kill(self, top: float, bottom: float) -> None:
        killed, restarted = self._evidence.killed_at, self._evidence.restarted_at
        if killed is None:
            return
        x = self._x(killed)
        self._ink.line(x, top, x, bottom, FAILED, width=1.6)
        self._ink.text(x - 5, top - 2, "kill -9", size=12, fill=FAILED, weight=600, anchor="end")
        if restarted is not None:
            x = self._x(restarted)
            self._ink.line(x, top, x, bottom, "#1e293b", width=1.2, dash="4 3")
            self._ink.text(x + 5, top - 2, "started again", size=12, fill="#1e293b", weight=600)

    # --- a tenant ---------------------------------------------------------------------------------

    def _panel_height(self, tenant: str) -> float:
        return _BAND * self._faults_rows(tenant) + _WATERFALL + _PINGS + _STATES + 14

    def _faults_rows(self, tenant: str) -> int:
        return 1 + max((row for _, row in self._placed(tenant)), default=0)

    def _panel(self, tenant: str, top: float) -> None:
        fall = top + _BAND * self._faults_rows(tenant)
        pings = fall + _WATERFALL + 4
        states = pings + _PINGS + 4
        self._faults(tenant, top, fall)
        self._ink.text(_LEFT - 16, fall + 20, tenant, size=14, weight=600, anchor="end")
        messages = [message for message in self._evidence.handed if message.tenant == tenant]
        known = f"{SIGNS_IN.get(tenant, '')}, {len(messages)} messages"
        self._ink.text(_LEFT - 16, fall + 38, known, size=11, fill=QUIET, anchor="end")
        for place, message in enumerate(messages):
            self._message(message, fall + 5 + place * (_WATERFALL - 10) / max(len(messages) - 1, 1))
        self._pings(tenant, pings)
        self._states(tenant, states)

    def _faults(self, tenant: str, top: float, fall: float) -> None:
        for faults, row in self._placed(tenant):
            paper, words = FAULTS[faults.kind]
            x, end, y = self._x(faults.begin), self._x(faults.end), top + row * _BAND
            self._ink.box(x, fall, max(end - x, 2), _WATERFALL, paper, opacity=0.6)
            self._ink.box(x, y, max(end - x, 2), fall - y, paper)
            at, anchor = (x - 5, "end") if self._is_at_the_kill(faults) else (x + 5, "start")
            self._ink.text(
                at, y + 14.5, faults.text, size=11.5, fill=words, weight=600, halo=True, anchor=anchor
            )

    def _placed(self, tenant: str) -> Iterator[tuple[FaultPeriod, int]]:
        """Each faults with its row, so that no text lies on another."""
        free: list[float] = []
        mine = (one for one in self._evidence.faults if one.tenant in {tenant, None})
        for faults in sorted(mine, key=lambda one: one.begin):
            begin, width = self._x(faults.begin), 14 + 6.7 * len(faults.text)
            before = width if self._is_at_the_kill(faults) else 0
            row = next((row for row, until in enumerate(free) if until <= begin - before), len(free))
            free[row : row + 1] = [max(self._x(faults.end), begin + width - before)]
            yield faults, row

    def _is_at_the_kill(self, faults: FaultPeriod) -> bool:
        """Then its words stand left of it, out of the way of the kill's line."""
        killed = self._evidence.killed_at
        return killed is not None and abs(faults.end - killed) < 0.2

    # --- rows -------------------------------------------------------------------------------------

    def _message(self, message: Enqueued, y: float) -> None:
        taken = self._taken.get((message.tenant, message.message_id))
        fate = self._evidence.fates.get(message.row)
        begin = self._x(message.at)
        withheld = (message.tenant, message.document) in self._evidence.unsteady
        colour = WITHHELD if withheld and taken and taken.at - message.at > 1 else WAITS
        with self._ink.group(_told(message, taken)):
            if taken is not None:
                self._arrivals(taken, begin, y, colour)
            elif fate is not None and fate.state == "parked" and fate.settled_at is not None:
                x = self._x(fate.settled_at)
                self._ink.line(begin, y, x, y, colour, width=1.3)
                self._ink.cross(x, y, 4.5, PARKED)
                self._ink.text(x + 9, y + 4, "parked", size=11.5, fill=PARKED, weight=600, halo=True)
            else:
                self._ink.line(begin, y, self._x(self._evidence.ended), y, FAILED, width=1.6)
            self._ink.dot(begin, y, 1.1, HANDED)

    def _arrivals(self, taken: TakenMessage, begin: float, y: float, colour: str) -> None:
        last = taken.again[-1].at if taken.again else taken.at
        self._ink.line(begin, y, self._x(last), y, colour, width=1.2, opacity=0.75)
        self._ink.dot(self._x(taken.at), y, 2, DELIVERED)
        for again in taken.again:
            self._ink.ring(self._x(again.at), y, 3.2, AGAIN)

    def _pings(self, tenant: str, y: float) -> None:
        self._ink.text(_LEFT - 16, y + 16, "pings", size=11.5, fill=QUIET, anchor="end")
        for ping in self._evidence.pings:
            if ping.tenant == tenant:
                x = self._x(ping.at)
                self._ink.line(x, y + 4, x, y + _PINGS - 4, HANDED if ping.fine else FAILED, width=1.8)

    def _states(self, tenant: str, y: float) -> None:
        self._ink.text(_LEFT - 16, y + 11, "state", size=11.5, fill=QUIET, anchor="end")
        for stretch in self._evidence.stretches:
            if stretch.tenant == tenant and stretch.state in STATES:
                x, end = self._x(stretch.begin), self._x(stretch.end)
                self._ink.box(x, y, max(end - x, 0.8), _STATES, STATES[stretch.state], title=stretch.state)


def _shown_states(evidence: Evidence) -> Sequence[str]:
    seen = {stretch.state for stretch in evidence.stretches}
    return [name for name in STATES if name in seen]


def _told(message: Enqueued, taken: TakenMessage | None) -> str:
    """What a browser shows when the pointer rests on the line."""
    told = f"{message.document} of {message.key}, {message.size} bytes, id {message.message_id}"
    if taken is None:
        return told
    again = f", sent {1 + len(taken.again)} times" if taken.again else ""
    return f"{told}: delivered after {taken.at - message.at:.3f} s{again}"
