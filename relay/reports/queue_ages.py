"""Waiting messages by age, and by tenant or document."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from relay.core.admin import AGES, Admin, QueueAges
from relay.core.model import TenantId

By = Literal["tenant", "document"]

COUNT_LIMIT = 10_000
"""Messages that are counted of each document of a tenant, those with the lowest ids."""


@dataclass(frozen=True, slots=True)
class QueueRow:
    """The messages of one tenant or document by age; `more`: there are more than were counted."""

    name: str
    counts: tuple[int, ...]
    more: bool

    @property
    def total(self) -> int:
        """Of all ages."""
        return sum(self.counts)

    def as_json(self) -> dict[str, Any]:
        """A count for each limit in `ages_seconds`, and a last one for older messages."""
        return {"total": self.total, "counts": list(self.counts), "more": self.more}


@dataclass(frozen=True, slots=True)
class QueueReport:
    """The whole table, the longest queue first."""

    by: By
    rows: Sequence[QueueRow]

    @property
    def total(self) -> QueueRow:
        """The sum of all rows."""
        return _sum("", self.rows)

    def as_json(self) -> dict[str, Any]:
        """As `relay queue --json` prints it."""
        name = {"tenant": "tenant_id", "document": "document_name"}[self.by]
        return {
            "by": self.by,
            "ages_seconds": list(map(int, AGES)),
            **self.total.as_json(),
            "lines": [{name: row.name, **row.as_json()} for row in self.rows],
        }


def age_labels() -> Sequence[str]:
    """The heads of the age columns: up to that age, and the last for older messages."""
    return [*map(_age_label, AGES), "older"]


def _age_label(seconds: float) -> str:
    name, size = next((name, size) for name, size in _UNITS if seconds >= size)
    return f"{seconds / size:.0f} {name}"


_UNITS = (("day", 86400), ("h", 3600), ("min", 60))


def group(found: Iterable[QueueAges], by: By) -> QueueReport:
    """A row for each tenant, or for each document of all tenants."""
    groups: dict[str, list[QueueRow]] = {}
    for one in found:
        name = one.tenant if by == "tenant" else one.document
        groups.setdefault(name, []).append(QueueRow(name, one.counts, one.more))
    rows = (_sum(name, members) for name, members in groups.items())
    return QueueReport(by, sorted(rows, key=lambda row: (-row.total, row.name)))


def _sum(name: str, rows: Sequence[QueueRow]) -> QueueRow:
    counts = tuple(sum(row.counts[place] for row in rows) for place in range(len(AGES) + 1))
    return QueueRow(name, counts, any(row.more for row in rows))


async def read_queue(outbox: Admin, tenant: TenantId | None, by: By, limit: int) -> QueueReport:
    """The queue of one tenant, or of all; `limit`: messages to count of each document of a tenant."""
    return group(await outbox.queue_ages(tenant, limit), by)
