"""This file is what a tenant's worker is given: the rules it keeps, and the parts it works with."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf
from typing import Protocol

from relay.core.fair_share import FairShare
from relay.core.model import DocumentName, Ordering, StateName, TenantId
from relay.core.ports import Ion, Outbox
from relay.core.protocol import Policy
from relay.core.retry import Schedule
from relay.delivery.prefetch import OutboxRetry
from relay.delivery.settler import Settler
from relay.observability.incidents import Incidents, Tally
from relay.observability.liveness import Component, Liveness
from relay.observability.logs import Log
from relay.observability.metrics import Meter
from relay.observability.tracing import Traces


@dataclass(frozen=True, slots=True)
class TenantRules:
    """What the settings say about a tenant's delivery. Durations in seconds."""

    tenant_id: TenantId
    ordering: Ordering
    max_in_flight: int
    max_message_bytes: int
    policy: Policy
    schedule: Schedule
    park_after: float | None
    probe: float
    grace: float


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
class TenantContext:
    """What a tenant's worker works with. `chance`: in [0, 1).

    `holds()`: whether a post may begin, by this process' own clock (where relays share an outbox).
    `shares`: of all posts under way of the process.
    `liveness`: where it says that it gets on.
    `traces`: where spans go; None: nobody asked for them.
    """

    outbox: Outbox
    ion: Ion
    settler: Settler
    shares: FairShare
    outbox_retry: OutboxRetry
    incidents: Incidents
    tally: Tally
    meter: Meter
    log: Log
    chance: Callable[[], float]
    holds: Callable[[], bool]
    report: StateReport
    stopping: asyncio.Event
    traces: Traces | None = None
    liveness: Component = field(default_factory=lambda: Liveness().component("tenant", inf))
