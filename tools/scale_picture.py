"""The picture of the scale demo as SVG: how many tenants each replica owned, and what ION took.

Pure. One file without fonts or scripts from elsewhere.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import pairwise

from relay.demo.svg import DARK, GREEN, QUIET, box, document, line, text
from tools.scale_verdict import Evidence, Verdict

_WIDTH, _LEFT, _RIGHT, _TOP, _SHARES, _GAP, _TAKEN = 1200, 84, 36, 150, 300, 34, 110
_COLOURS = ("#2563eb", "#0d9488", "#d97706", "#7c3aed", "#db2777", "#65a30d")
_BAR_SECONDS = 0.5


def draw(evidence: Evidence, verdict: Verdict) -> str:
    """The whole picture."""
    return _Picture(evidence, verdict).draw()


class _Picture:
    def __init__(self, evidence: Evidence, verdict: Verdict) -> None:
        self._evidence, self._verdict = evidence, verdict
        self._seconds = max(evidence.ended - evidence.began, 1.0)
        replicas = sorted({ownership.replica for ownership in verdict.ownerships})
        self._colours = dict(zip(replicas, _COLOURS * len(replicas), strict=False))

    def draw(self) -> str:
        shares, taken = _TOP + _SHARES, _TOP + _SHARES + _GAP + _TAKEN
        elements = [
            *self._draw_heading(),
            *self._draw_shares(shares),
            *self._draw_taken(taken),
            *self._draw_axes(shares, taken),
            *self._draw_marks(taken),
            text(_LEFT, shares + _GAP - 8, "messages that ION took", font_size=12, fill=QUIET, halo=True),
            *self._draw_legend(taken + 56),
        ]
        return document(_WIDTH, taken + 80, "ion-relay: tenants by replica over time", elements)

    def _x(self, at: float) -> float:
        share = (at - self._evidence.began) / self._seconds
        return _LEFT + min(max(share, 0.0), 1.0) * (_WIDTH - _LEFT - _RIGHT)

    def _draw_heading(self) -> Iterator[str]:
        evidence, verdict = self._evidence, self._verdict
        title = f"ion-relay: {evidence.tenants} tenants, shared by replicas that start and stop"
        facts = (
            f"{len(evidence.enqueued)} enqueued",
            f"{verdict.delivered} delivered",
            f"{verdict.lost} lost",
            f"{len(evidence.violations)} violations",
            f"{sum(verdict.twice.values())} sent twice under the same id",
        )
        yield text(_LEFT, 42, title, font_size=21, font_weight=600)
        yield text(_LEFT, 67, "  ·  ".join(facts), font_size=13, fill="#475569")

    # --- tenants by replica ----------------------------------------------------------------------------

    def _draw_shares(self, bottom: float) -> Iterator[str]:
        height_of_one = _SHARES / self._evidence.tenants
        for begin, end, counts in self._list_periods():
            x, y = self._x(begin), bottom
            width = self._x(end) - x + 0.4  # a little over the next one, or a gap shows
            for replica, colour in self._colours.items():
                if height := counts.get(replica, 0) * height_of_one:
                    y -= height
                    yield box(x, y, width, height, colour, title=f"{replica}: {counts[replica]} tenants")
            if y > _TOP:
                yield box(x, _TOP, width, y - _TOP, DARK, fill_opacity=0.85)

    def _list_periods(self) -> Iterator[tuple[float, float, Mapping[str, int]]]:
        """From one change to the next: how many tenants each running replica owned."""
        lives = [
            life
            for ownership in self._verdict.ownerships
            for life in self._split(ownership.replica, ownership.begin, ownership.end)
        ]
        evidence = self._evidence
        changes = sorted({evidence.began, evidence.ended, *(at for _, *ends in lives for at in ends)})
        for begin, end in pairwise(changes):
            if end > evidence.began:
                middle = (begin + end) / 2
                yield begin, end, Counter(who for who, first, last in lives if first <= middle < last)

    def _split(self, replica: str, begin: float, end: float) -> Iterator[tuple[str, float, float]]:
        """The periods in which the replica ran: neither killed nor frozen."""
        for outage in self._evidence.outages:
            if outage.replica == replica and outage.begin < end and begin < outage.end:
                if begin < outage.begin:
                    yield replica, begin, outage.begin
                begin = min(outage.end, end)
        if begin < end:
            yield replica, begin, end

    # --- what ION took -------------------------------------------------------------------------------------

    def _draw_taken(self, bottom: float) -> Iterator[str]:
        began = self._evidence.began
        counts = Counter(int((one.at - began) / _BAR_SECONDS) for one in self._evidence.taken)
        most = max(counts.values(), default=1)
        for place, count in counts.items():
            x, height = self._x(began + place * _BAR_SECONDS), _TAKEN * count / most
            end = self._x(began + (place + 1) * _BAR_SECONDS)
            yield box(x, bottom - height, max(end - x - 1, 0.5), height, GREEN)
        rate = f"{most / _BAR_SECONDS:.0f}/s"
        yield text(_LEFT - 10, bottom - _TAKEN + 10, rate, fill=QUIET, text_anchor="end")

    # --- axes, marks, legend -------------------------------------------------------------------------------

    def _draw_axes(self, shares: float, bottom: float) -> Iterator[str]:
        for second in range(0, int(self._seconds) + 1, 5):
            x = self._x(self._evidence.began + second)
            yield line(x, shares, x, shares + 4, QUIET)
            yield text(x, bottom + 18, f"{second} s", fill=QUIET, text_anchor="middle")
        for quarter in range(5):
            y, number = shares - _SHARES * quarter / 4, self._evidence.tenants * quarter // 4
            yield text(_LEFT - 10, y + 4, str(number), fill=QUIET, text_anchor="end")
        yield line(_LEFT, bottom, _WIDTH - _RIGHT, bottom, QUIET)

    def _draw_marks(self, bottom: float) -> Iterator[str]:
        """Each with its text, on the first of three rows that has room."""
        free = [0.0, 0.0, 0.0]
        for at, words in self._evidence.marks:
            x = self._x(at)
            row = next((row for row, until in enumerate(free) if until <= x), 2)
            free[row] = x + 12 + 6.6 * len(words)
            y = _TOP - 10 - 17 * row
            yield line(x, y - 8, x, bottom, DARK, stroke_dasharray="3 3", stroke_opacity=0.7)
            yield text(x + 4, y, words, font_weight=600, halo=True)

    def _draw_legend(self, y: float) -> Iterator[str]:
        x = float(_LEFT)
        replicas = ((f"replica {name}", colour) for name, colour in self._colours.items())
        for words, colour in (
            *replicas,
            ("owned by no running replica: released, or until a lease ends", DARK),
        ):
            yield box(x, y - 10, 16, 12, colour)
            yield text(x + 22, y, words, fill="#334155")
            x += 44 + 6.3 * len(words)
