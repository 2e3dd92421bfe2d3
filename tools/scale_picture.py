"""This file is the picture of the scale demo, as SVG: how many tenants each replica carried, what ION took.

Pure. One file, no font and no script from elsewhere.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

from relay.demo.ink import Ink
from relay.demo.legend import DELIVERED, QUIET
from tools.scale_record import Evidence, Verdict

WIDTH = 1200
_LEFT, _RIGHT, _TOP, _SHARES, _GAP, _TAKEN = 84, 36, 150, 300, 34, 110
_COLOURS = ("#2563eb", "#0d9488", "#d97706", "#7c3aed", "#db2777", "#65a30d")
_NOBODY = "#1e293b"
_PERIOD = 0.5
"""Seconds a bar."""


def draw(evidence: Evidence, verdict: Verdict) -> str:
    """The whole picture."""
    return _Picture(evidence, verdict).draw()


class _Picture:
    def __init__(self, evidence: Evidence, verdict: Verdict) -> None:
        self._evidence, self._verdict, self._ink = evidence, verdict, Ink()
        self._seconds = max(evidence.ended - evidence.began, 1.0)
        replicas = sorted({hold.replica for hold in verdict.holds})
        self._colours = dict(zip(replicas, _COLOURS * len(replicas), strict=False))

    def draw(self) -> str:
        shares, taken = _TOP + _SHARES, _TOP + _SHARES + _GAP + _TAKEN
        self._heading()
        self._shares(shares)
        self._taken(taken)
        self._axis(shares, taken)
        self._marks(taken)
        self._ink.text(_LEFT, shares + _GAP - 8, "messages that ION took", size=12, fill=QUIET, halo=True)
        self._legend(taken + 56)
        return self._ink.svg(WIDTH, taken + 80, "ion-relay: tenants by replica over time")

    def _x(self, at: float) -> float:
        share = (at - self._evidence.began) / self._seconds
        return _LEFT + min(max(share, 0.0), 1.0) * (WIDTH - _LEFT - _RIGHT)

    def _heading(self) -> None:
        evidence, verdict = self._evidence, self._verdict
        words = f"ion-relay: {evidence.tenants} tenants, shared by replicas that come and go"
        self._ink.text(_LEFT, 42, words, size=21, weight=600)
        facts = (
            f"{len(evidence.handed)} handed over",
            f"{verdict.delivered} delivered",
            f"{verdict.lost} lost",
            f"{len(evidence.violations)} violations",
            f"{sum(verdict.twice.values())} sent twice under the same id",
        )
        self._ink.text(_LEFT, 67, "  ·  ".join(facts), size=13, fill="#475569")

    # --- tenants by replica ----------------------------------------------------------------------------

    def _shares(self, bottom: float) -> None:
        each = _SHARES / self._evidence.tenants
        for begin, end, counts in self._stretches():
            x, y = self._x(begin), bottom
            width = self._x(end) - x + 0.4  # a little over the next one, or a seam shows
            for replica, colour in self._colours.items():
                height = counts.get(replica, 0) * each
                if height:
                    y -= height
                    self._ink.box(x, y, width, height, colour, title=f"{replica}: {counts[replica]} tenants")
            if y > _TOP:
                self._ink.box(x, _TOP, width, y - _TOP, _NOBODY, opacity=0.85)

    def _stretches(self) -> Iterator[tuple[float, float, Mapping[str, int]]]:
        """From one change to the next: how many tenants each living replica carried."""
        lives = [
            life for hold in self._verdict.holds for life in self._lives(hold.replica, hold.begin, hold.end)
        ]
        changes = sorted(
            {self._evidence.began, self._evidence.ended, *(at for _, *ends in lives for at in ends)}
        )
        for begin, end in pairwise(changes):
            if end > self._evidence.began:
                middle = (begin + end) / 2
                yield begin, end, Counter(who for who, first, last in lives if first <= middle < last)

    def _lives(self, replica: str, begin: float, end: float) -> Iterator[tuple[str, float, float]]:
        """The parts of a stretch in which the replica lived: not killed, not frozen."""
        for outage in self._evidence.outages:
            if outage.replica == replica and outage.begin < end and begin < outage.end:
                if begin < outage.begin:
                    yield replica, begin, outage.begin
                begin = min(outage.end, end)
        if begin < end:
            yield replica, begin, end

    # --- what ION took -------------------------------------------------------------------------------------

    def _taken(self, bottom: float) -> None:
        counts = Counter(int((one.at - self._evidence.began) / _PERIOD) for one in self._evidence.taken)
        most = max(counts.values(), default=1)
        for place, count in counts.items():
            x, height = self._x(self._evidence.began + place * _PERIOD), _TAKEN * count / most
            end = self._x(self._evidence.began + (place + 1) * _PERIOD)
            self._ink.box(x, bottom - height, max(end - x - 1, 0.5), height, DELIVERED)
        self._ink.text(
            _LEFT - 10, bottom - _TAKEN + 10, f"{most / _PERIOD:.0f}/s", size=11.5, fill=QUIET, anchor="end"
        )

    # --- around it -----------------------------------------------------------------------------------------

    def _axis(self, shares: float, bottom: float) -> None:
        for second in range(0, int(self._seconds) + 1, 5):
            x = self._x(self._evidence.began + second)
            self._ink.line(x, shares, x, shares + 4, QUIET)
            self._ink.text(x, bottom + 18, f"{second} s", size=11.5, fill=QUIET, anchor="middle")
        for part in range(5):
            y = shares - _SHARES * part / 4
            self._ink.text(
                _LEFT - 10,
                y + 4,
                f"{self._evidence.tenants * part // 4}",
                size=11.5,
                fill=QUIET,
                anchor="end",
            )
        self._ink.line(_LEFT, bottom, WIDTH - _RIGHT, bottom, QUIET)

    def _marks(self, bottom: float) -> None:
        """Each with its words, on the first of three rows where there is room."""
        free = [0.0, 0.0, 0.0]
        for at, text in self._evidence.marks:
            x = self._x(at)
            row = next((row for row, until in enumerate(free) if until <= x), 2)
            free[row] = x + 12 + 6.6 * len(text)
            y = _TOP - 10 - 17 * row
            self._ink.line(x, y - 8, x, bottom, "#0f172a", dash="3 3", opacity=0.7)
            self._ink.text(x + 4, y, text, size=11.5, weight=600, halo=True)

    def _legend(self, y: float) -> None:
        x = float(_LEFT)
        named: Sequence[tuple[str, str]] = [
            (f"replica {name}", colour) for name, colour in self._colours.items()
        ]
        for words, colour in (
            *named,
            ("carried by nobody alive: changing hands, or until a lease ends", _NOBODY),
        ):
            self._ink.box(x, y - 10, 16, 12, colour)
            self._ink.text(x + 22, y, words, size=11.5, fill="#334155")
            x += 44 + 6.3 * len(words)
