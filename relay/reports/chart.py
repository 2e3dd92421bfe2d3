"""The geometry of charts over time: bars, scale, labels of the axis, and gaps where nothing is known.

Pure. Places across are in percent of the width, so that a chart fits every screen; heights are in pixels.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby

from relay.core.activity import Activity
from relay.reports.activity import ActivitySeries

HEIGHT = 56.0
"""Of the highest bar."""
TOP = 16.0
"""Above it, for the label of the scale."""
LEAST = 2.0
"""The height of a bar that would be lower: one refused message among a million is seen."""

_BAR_SHARE = 0.8
_LABEL_EDGE = 4.0
_WORDS_WIDTH = 16.0

SPARK_WIDTH, SPARK_HEIGHT = 120, 20


@dataclass(frozen=True, slots=True)
class Bar:
    """A rectangle. `x` and `width`: in percent; `y`: from the top."""

    x: float
    width: float
    y: float
    height: float


@dataclass(frozen=True, slots=True)
class Gap:
    """A stretch of which nothing is known. `has_room`: for words."""

    x: float
    width: float
    has_room: bool


@dataclass(frozen=True, slots=True)
class Tick:
    """A label of the axis, around `x`."""

    x: float
    text: str


@dataclass(frozen=True, slots=True)
class Panel:
    """One measure over time. `top`: what the scale ends with. `upper`: bars that stand on those of `bars`."""

    top: int
    bars: Sequence[Bar]
    upper: Sequence[Bar]
    gaps: Sequence[Gap]


@dataclass(frozen=True, slots=True)
class Chart:
    """The panels above each other, on one axis of time."""

    delivered: Panel
    refused: Panel
    waiting: Panel
    ticks: Sequence[Tick]


Values = Sequence[int | None]


def chart_of(series: ActivitySeries) -> Chart:
    """The chart of a series."""
    slots = series.range.count

    def values(of: Callable[[Activity], int | None]) -> Values:
        return [None if activity is None else of(activity) for _, activity in series.steps]

    return Chart(
        panel(values(lambda one: one.delivered), slots),
        panel(values(lambda one: one.parked), slots, values(lambda one: one.failed)),
        panel(values(lambda one: one.waiting), slots),
        ticks(series),
    )


def panel(lower: Values, slots: int, upper: Values = ()) -> Panel:
    """Bars for the values, at the first of so many slots; `upper` ones stand on them."""
    above = [value or 0 for value in upper] or [0] * len(lower)
    top = scale(max((low or 0) + high for low, high in zip(lower, above, strict=True)) if lower else 0)
    bars, on_top = [], []
    for slot, (low, high) in enumerate(zip(lower, above, strict=True)):
        below, upon = _height(low or 0, top), _height(high, top)
        below = min(below, HEIGHT - upon)
        if below:
            bars.append(_bar(slot, slots, 0.0, below))
        if upon:
            on_top.append(_bar(slot, slots, below, upon))
    return Panel(top, bars, on_top, gaps(lower, slots))


def scale(most: int) -> int:
    """The end of the scale: the next round number, at most twice as much."""
    power: int = 10 ** (len(str(max(most, 1))) - 1)
    return next(end for factor in (1, 2, 3, 4, 5, 6, 8, 10) if (end := factor * power) >= most)


def _height(value: int, top: int) -> float:
    return 0.0 if value <= 0 else round(max(value / top * HEIGHT, LEAST), 2)


def _bar(slot: int, slots: int, below: float, height: float) -> Bar:
    width = 100.0 / slots
    y = TOP + HEIGHT - below - height
    return Bar(
        round((slot + (1 - _BAR_SHARE) / 2) * width, 3), round(width * _BAR_SHARE, 3), round(y, 2), height
    )


def gaps(values: Values, slots: int) -> Sequence[Gap]:
    """Where nothing is known, as few stretches as possible."""
    found: list[Gap] = []
    for unknown, group in groupby(enumerate(values), key=lambda item: item[1] is None):
        if unknown:
            numbers = [slot for slot, _ in group]
            x, width = numbers[0] * 100.0 / slots, len(numbers) * 100.0 / slots
            found.append(Gap(round(x, 3), round(width, 3), width >= _WORDS_WIDTH))
    return found


def ticks(series: ActivitySeries) -> Sequence[Tick]:
    """Labels at full tens of minutes or the like, in UTC; at midnight the date."""
    if not series.steps:
        return ()
    over, first = series.range, series.steps[0][0]
    length = over.count * over.span.seconds
    found: list[Tick] = []
    for at in range(-(-first // over.tick_seconds) * over.tick_seconds, first + length, over.tick_seconds):
        x = (at - first) / length * 100.0
        if _LABEL_EDGE <= x <= 100.0 - _LABEL_EDGE:
            found.append(Tick(round(x, 3), _label(datetime.fromtimestamp(at, UTC))))
    return found


def _label(at: datetime) -> str:
    return f"{at:%H:%M}" if at.hour or at.minute else f"{at:%b} {at.day}"


def sparkline(values: Sequence[int]) -> str:
    """The path of bars in a box of SPARK_WIDTH by SPARK_HEIGHT, scaled to the highest; zero has no bar."""
    highest, width = max(values, default=0), SPARK_WIDTH / max(len(values), 1)
    return "".join(
        f"M{slot * width:.1f} {SPARK_HEIGHT}v{-max(value / highest * SPARK_HEIGHT, LEAST):.1f}"
        f"h{width * _BAR_SHARE:.1f}V{SPARK_HEIGHT}z"
        for slot, value in enumerate(values)
        if value > 0
    )
