"""Prometheus' text format: counters, gauges and histograms in plain dictionaries, and their samples as lines.

Counters and histograms are changed by one thread alone; gauges may be replaced whole by another. Reading
them needs no lock. Why they are rendered here and not by prometheus-client: docs/decisions/0009.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Literal

Kind = Literal["counter", "gauge", "histogram"]
Labels = tuple[str, ...]


class Family:
    """A counter or a gauge: a value for each set of label values. `tenant` is the first label, if any."""

    def __init__(self, kind: Kind, name: str, meaning: str, labels: Sequence[str] = ()) -> None:
        self.kind, self.name, self.meaning, self.labels = kind, name, meaning, tuple(labels)
        self._values: dict[Labels, float] = {}
        self._series: dict[Labels, str] = {}
        self._changes = 0
        self._rendered: tuple[int, Sequence[str]] = (-1, ())

    def add(self, labels: Labels = (), amount: float = 1) -> None:
        """Add to a counter."""
        self._values[labels] = self._values.get(labels, 0) + amount
        self._changes += 1

    def get(self, labels: Labels = ()) -> float:
        """The current value."""
        return self._values.get(labels, 0)

    def set(self, labels: Labels, value: float) -> None:
        """Set one value; the others stay."""
        if self._values.get(labels) != value:
            self._values[labels] = value
            self._changes += 1

    def replace(self, values: Mapping[Labels, float]) -> None:
        """Replace all values."""
        if values == self._values:
            return
        self._values = dict(values)
        self._series = {labels: name for labels, name in self._series.items() if labels in values}
        self._changes += 1

    def forget(self, tenant: str) -> None:
        """Remove the series of this tenant."""
        for labels in [labels for labels in self._values if labels[0] == tenant]:
            self._values.pop(labels, None)
            self._series.pop(labels, None)
        self._changes += 1

    def lines(self) -> Sequence[str]:
        """The samples, a line each; rendered again only where something changed."""
        changes = self._changes  # read before the values: what is added meanwhile is a change
        if changes != self._rendered[0]:
            self._rendered = (changes, list(self._render()))
        return self._rendered[1]

    def _render(self) -> Iterator[str]:
        series = self._series
        for labels, value in list(self._values.items()):  # at once: another thread may add to it
            name = series.get(labels)
            if name is None:
                name = series[labels] = self.name + _braced(zip(self.labels, labels, strict=True))
            yield f"{name} {value}"


class Histogram:
    """Values counted in buckets; `bounds`: the upper bound of each."""

    kind: Kind = "histogram"

    def __init__(self, name: str, meaning: str, bounds: Sequence[float], labels: Sequence[str] = ()) -> None:
        self.name, self.meaning, self.labels = name, meaning, tuple(labels)
        self._bounds = tuple(bounds)
        self._counts: dict[Labels, list[int]] = {}
        self._sums: dict[Labels, float] = {}

    def observe(self, value: float, labels: Labels = ()) -> None:
        """Count a value."""
        counts = self._counts.get(labels)
        if counts is None:
            counts = self._counts[labels] = [0] * (len(self._bounds) + 1)
        counts[bisect_left(self._bounds, value)] += 1
        self._sums[labels] = self._sums.get(labels, 0.0) + value

    def lines(self) -> Iterator[str]:
        """The cumulative buckets, the sum and the count."""
        for labels, counts in list(self._counts.items()):
            pairs, total = list(zip(self.labels, labels, strict=True)), 0
            for bound, count in zip((*map(str, self._bounds), "+Inf"), list(counts), strict=True):
                total += count
                yield f"{self.name}_bucket{_braced([*pairs, ('le', bound)])} {total}"
            yield f"{self.name}_sum{_braced(pairs)} {self._sums.get(labels, 0.0)}"
            yield f"{self.name}_count{_braced(pairs)} {total}"


def _braced(pairs: Iterable[tuple[str, str]]) -> str:
    inside = ",".join(f'{name}="{_escaped(value)}"' for name, value in pairs)
    return f"{{{inside}}}" if inside else ""


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def render(families: Iterable[Family | Histogram], *, openmetrics: bool) -> str:
    """All samples, in Prometheus' own text format, or as OpenMetrics without its closing line."""
    lines: list[str] = []
    for family in families:
        is_bare = openmetrics and family.kind == "counter"
        name = family.name.removesuffix("_total") if is_bare else family.name
        lines += (f"# HELP {name} {_escaped(family.meaning)}", f"# TYPE {name} {family.kind}")
        lines += family.lines()
    return "\n".join(lines) + "\n"
