"""What a tenant's worker is given: the rules of its delivery, and the components that it works with."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from relay.core.answers import hint_for
from relay.core.byte_budget import ByteBudget
from relay.core.content import Check
from relay.core.fair_share import FairShare
from relay.core.model import DocumentName, Ordering, StateName, TenantId
from relay.core.ports import Ion, Outbox
from relay.core.protocol import GetOutcome, Policy, PostOutcome
from relay.core.replies import IonCall
from relay.core.retry import Schedule
from relay.delivery.outbox_retry import OutboxRetry
from relay.delivery.settler import Settler
from relay.observability.incidents import Incidents, Tally
from relay.observability.liveness import Component
from relay.observability.logs import Log
from relay.observability.metrics import Meter
from relay.observability.tracing import Traces


@dataclass(frozen=True, slots=True)
class TenantRules:
    """What the settings say about a tenant's delivery. Durations in seconds, `least_rate` in bytes each.

    `opaque`: patterns of the documents that may have any bytes. `check`: of the content of all others.
    """

    tenant_id: TenantId
    ordering: Ordering
    max_in_flight: int
    max_message_bytes: int
    policy: Policy
    schedule: Schedule
    park_after: float | None
    probe: float
    grace: float
    least_rate: int
    opaque: tuple[str, ...] = ()
    check: Check = "off"


class StateReport(Protocol):
    """Shows the tenant's live state to operators. `next_try`: in the loop's time."""

    def __call__(
        self,
        state: StateName,
        reason: str,
        next_try: float | None,
        *,
        kind: str = "",
        documents: tuple[DocumentName, ...] = (),
    ) -> None:
        """The tenant is in this state from now on; `kind` and `documents` as in `TenantState`."""


@dataclass(frozen=True, slots=True)
class Telemetry:
    """Where a tenant's worker reports what it does. `traces` None: no spans are wanted."""

    log: Log
    incidents: Incidents
    tally: Tally
    meter: Meter
    liveness: Component
    report: StateReport
    traces: Traces | None

    def report_incident(self, call: IonCall, outcome: GetOutcome | PostOutcome) -> None:
        """The answer to this call failed as its row of the table says."""
        row = outcome.row
        self.incidents.report(row.name, detail=outcome.detail, fault=row.fault, hint=hint_for(row, call))


@dataclass(frozen=True, slots=True)
class TenantContext:
    """What a tenant's worker works with. `chance`: in [0, 1).

    `fair_share`: of all posts in flight of the process. `memory`: for the messages of all its tenants.
    `holds()`: whether a post may begin, by this process' own clock (where replicas share an outbox).
    """

    outbox: Outbox
    outbox_retry: OutboxRetry
    settler: Settler
    ion: Ion
    fair_share: FairShare
    memory: ByteBudget
    holds: Callable[[], bool]
    chance: Callable[[], float]
    stopping: asyncio.Event
    telemetry: Telemetry
