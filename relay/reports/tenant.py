"""Why one tenant waits: its state, its documents, and its blocked lanes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from relay.core.admin import QueueAges
from relay.core.model import DocumentName, Ordering, TenantId
from relay.reports.delays import BlockedLane, blocked_lanes, read_first_pending
from relay.reports.overview import Overview, ReportStore, TenantStatus
from relay.reports.queue_ages import COUNT_LIMIT
from relay.reports.wait_reasons import WaitContext, WaitReason, not_accepted, tenant_wait_reason


@dataclass(frozen=True, slots=True)
class WaitingDocument:
    """A document with waiting messages. `accepted` None: not known while nothing is sent to ION."""

    name: DocumentName
    ages: QueueAges
    accepted: bool | None

    def as_json(self) -> dict[str, Any]:
        """With the counts by age, as in `relay queue --json`."""
        return {
            "document_name": self.name,
            "accepted": self.accepted,
            "total": sum(self.ages.counts),
            "counts": list(self.ages.counts),
            "more": self.ages.more,
        }


@dataclass(frozen=True, slots=True)
class TenantReport:
    """A tenant, and everything that its messages wait for, as the outbox has it."""

    tenant: TenantStatus
    context: WaitContext
    documents: Sequence[WaitingDocument]
    lanes: Sequence[BlockedLane]

    @property
    def ordering(self) -> Ordering | None:
        """The tenant's ordering; None: it is not configured here."""
        return self.context.ordering

    @property
    def waits_for(self) -> Sequence[WaitReason]:
        """What keeps its messages waiting, the tenant's own reason first; empty where nothing waits."""
        if not self.tenant.count.pending:
            return []
        outer = tenant_wait_reason(self.tenant.tenant_id, self.context)
        inner = [
            not_accepted(document.name, self.context.state)
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


async def read_tenant(outbox: ReportStore, tenant: TenantId, overview: Overview) -> TenantReport:
    """The report on a tenant that is in the overview."""
    context = overview.wait_context(tenant)
    records = await read_first_pending(outbox, tenant)
    return TenantReport(
        overview.tenant(tenant),
        context,
        [
            WaitingDocument(ages.document, ages, _accepted(ages.document, context))
            for ages in await outbox.queue_ages(tenant, COUNT_LIMIT)
        ],
        blocked_lanes(records, context.ordering or "key", context.not_accepted, overview.at),
    )


def _accepted(document: DocumentName, context: WaitContext) -> bool | None:
    if document in context.not_accepted:
        return False
    is_sending = context.state is not None and context.state.state in ("sending", "idle")
    return True if is_sending else None
