"""This file is the shape of the queue: how many messages wait, by age, and by tenant or document."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from relay.core.admin import AGES, Admin, QueueAges
from relay.core.model import TenantId

By = Literal["tenant", "document"]

LOOKED_AT = 10_000
"""So many messages of each tenant's document are counted, those with the lowest ids."""


@dataclass(frozen=True, slots=True)
class Line:
    """The messages of one tenant or document by age; `more`: at least so many, not all were counted."""

    name: str
    counts: tuple[int, ...]
    more: bool

    @property
    def total(self) -> int:
        """Of all ages."""
        return sum(self.counts)

    def as_json(self) -> dict[str, Any]:
        """The counts have an edge of `ages_seconds` each, and the last is what is older."""
        return {"total": self.total, "counts": list(self.counts), "more": self.more}


@dataclass(frozen=True, slots=True)
class QueueShape:
    """The whole table: the longest queue first."""

    by: By
    lines: Sequence[Line]

    @property
    def altogether(self) -> Line:
        """All lines together."""
        return _together("", self.lines)

    def as_json(self) -> dict[str, Any]:
        """As `relay queue --json` prints it."""
        name = {"tenant": "tenant_id", "document": "document_name"}[self.by]
        return {
            "by": self.by,
            "ages_seconds": list(map(int, AGES)),
            **self.altogether.as_json(),
            "lines": [{name: line.name, **line.as_json()} for line in self.lines],
        }


def ages() -> Sequence[str]:
    """The heads of the age columns: younger than that, and the last for what is older."""
    return [*map(_edge, AGES), "older"]


def _edge(seconds: float) -> str:
    name, size = next((name, size) for name, size in _UNITS if seconds >= size)
    return f"{seconds / size:.0f} {name}"


_UNITS = (("day", 86400), ("h", 3600), ("min", 60))


def fold(shapes: Iterable[QueueAges], by: By) -> QueueShape:
    """One line a tenant, or a document of whatever tenant."""
    lines: dict[str, list[Line]] = {}
    for shape in shapes:
        name = shape.tenant if by == "tenant" else shape.document
        lines.setdefault(name, []).append(Line(name, shape.counts, shape.more))
    folded = (_together(name, parts) for name, parts in lines.items())
    return QueueShape(by, sorted(folded, key=lambda line: (-line.total, line.name)))


def _together(name: str, lines: Sequence[Line]) -> Line:
    counts = tuple(sum(line.counts[place] for line in lines) for place in range(len(AGES) + 1))
    return Line(name, counts, any(line.more for line in lines))


async def shape(outbox: Admin, tenant: TenantId | None, by: By, limit: int = LOOKED_AT) -> QueueShape:
    """Of one tenant, or of all."""
    return fold(await outbox.queue_ages(tenant, limit), by)
