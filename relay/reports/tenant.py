"""This file is why one tenant waits: its state, its documents, and its lanes that are held and by what."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from relay.core.admin import QueueAges
from relay.core.model import DocumentName, Ordering, TenantId
from relay.reports import delays
from relay.reports.message import surroundings
from relay.reports.overview import Overview, Source, Tenant
from relay.reports.queue_ages import LOOKED_AT
from relay.reports.wait_reasons import Around, Wait, holding, withheld


@dataclass(frozen=True, slots=True)
class Document:
    """A document with waiting messages. `accepted` None: not known now, since ION is not being sent to."""

    name: DocumentName
    shape: QueueAges
    accepted: bool | None

    def as_json(self) -> dict[str, Any]:
        """With the counts by age, as in `relay queue --json`."""
        return {
            "document_name": self.name,
            "accepted": self.accepted,
            "total": sum(self.shape.counts),
            "counts": list(self.shape.counts),
            "more": self.shape.more,
        }


@dataclass(frozen=True, slots=True)
class TenantReport:
    """A tenant, and everything that its messages wait for, as the outbox knows it."""

    tenant: Tenant
    around: Around
    documents: Sequence[Document]
    lanes: Sequence[delays.HeldLane]

    @property
    def ordering(self) -> Ordering | None:
        """How it keeps its order; None: it is not configured here."""
        return self.around.ordering

    @property
    def waits_for(self) -> Sequence[Wait]:
        """What holds its messages back, the outermost first; empty where nothing waits."""
        if not self.tenant.count.pending:
            return []
        outer = holding(self.tenant.tenant_id, self.around)
        inner = [
            withheld(document.name, self.around.state)
            for document in self.documents
            if document.accepted is False
        ]
        return [outer, *inner] if outer else inner

    def as_json(self) -> dict[str, Any]:
        """As `relay tenants show --json` prints it."""
        return {
            "tenant_id": self.tenant.tenant_id,
            **self.tenant.as_json(),
            "ordering": self.ordering,
            "waits_for": [wait.as_json() for wait in self.waits_for],
            "documents": [document.as_json() for document in self.documents],
            "lanes": [lane.as_json() for lane in self.lanes],
        }


async def tell(outbox: Source, tenant: TenantId, overview: Overview) -> TenantReport:
    """The story of a tenant that the overview knows."""
    around = surroundings(tenant, overview)
    records = await delays.first_waiting(outbox, tenant)
    return TenantReport(
        overview.tenant(tenant),
        around,
        [
            Document(shape.document, shape, _accepted(shape.document, around))
            for shape in await outbox.queue_ages(tenant, LOOKED_AT)
        ],
        delays.held_lanes(records, around.ordering or "key", around.not_accepted, overview.at),
    )


def _accepted(document: DocumentName, around: Around) -> bool | None:
    if document in around.not_accepted:
        return False
    sends = around.state is not None and around.state.state in ("sending", "idle")
    return True if sends else None
