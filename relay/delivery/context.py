"""This file is what a tenant's worker is given: the rules it keeps, and the parts it works with."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf

from relay.core.fair_share import Shares
from relay.core.model import Ordering, StateName, TenantId
from relay.core.ports import Endpoint, Outbox
from relay.core.protocol import Policy
from relay.core.retry import Schedule
from relay.delivery.prefetch import Patience
from relay.delivery.settler import Ledger
from relay.observability.liveness import Part, Pulse
from relay.observability.logs import Log, Tally, Troubles
from relay.observability.metrics import Meter
from relay.observability.tracing import Traces


@dataclass(frozen=True, slots=True)
class Rules:
    """How a tenant's messages are carried. Durations in seconds."""

    tenant_id: TenantId
    ordering: Ordering = "key"
    max_in_flight: int = 8
    max_message_bytes: int = 6_000_000
    policy: Policy = field(default_factory=Policy)
    schedule: Schedule = field(default_factory=Schedule)
    park_after: float | None = None
    idle: float = 60.0
    probe: float = 900.0
    grace: float = 25.0


@dataclass(frozen=True, slots=True)
class Parts:
    """What a tenant's worker works with. `chance`: in [0, 1).

    `holds()`: whether a post may begin, by this process' own clock (where relays share an outbox).
    `shares`: of all posts under way of the process.
    `pulse`: where it says that it gets on.
    `traces`: where spans go; None: nobody asked for them.
    `report(state, reason, next try in the loop's time)` shows the tenant's live state to operators.
    """

    outbox: Outbox
    endpoint: Endpoint
    ledger: Ledger
    shares: Shares
    patience: Patience
    troubles: Troubles
    tally: Tally
    meter: Meter
    log: Log
    chance: Callable[[], float]
    holds: Callable[[], bool]
    report: Callable[[StateName, str, float | None], None]
    stopping: asyncio.Event
    traces: Traces | None = None
    pulse: Part = field(default_factory=lambda: Pulse().part("tenant", inf))
