"""This file is how every tenant is, and which relays live, as the outbox has it; no relay need be running."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any, Protocol

from relay.core.accepted_documents import withheld_in
from relay.core.admin import Admin, Count, RelayBeat
from relay.core.model import Ordering, TenantId, TenantState
from relay.core.ports import Control, Notification
from relay.observability import error_codes
from relay.reports.times import instant

UNCONFIGURED, STOPPED, PAUSED, IDLE = "unconfigured", "stopped", "paused", "idle"
"""What a tenant is where no relay says it: not in the settings, without a relay, paused by a person."""

Configured = Mapping[TenantId, Ordering]
"""The tenants of the settings, and how each keeps its order."""


class Source(Admin, Protocol):
    """What an outbox must know to be told about; `ports.Store` does."""

    async def notification(self) -> Notification:
        """See ports.Outbox."""


@dataclass(frozen=True, slots=True)
class Tenant:
    """How one tenant is. `state`: a `model.StateName`, or else `stopped` or `unconfigured`.

    `relay`: the relay process that carries it; None where none does.
    `code`: the run book's, where what is known says exactly which.
    """

    tenant_id: TenantId
    state: str
    reason: str
    since: datetime | None
    next_try: datetime | None
    count: Count
    configured: bool
    relay: str | None = None
    code: str | None = None

    def as_json(self) -> dict[str, Any]:
        """A tenant's value in `relay status --json`."""
        oldest = self.count.oldest_due_seconds
        return {
            "state": self.state,
            "pending": self.count.pending,
            "delivered": self.count.delivered,
            "parked": self.count.parked,
            "dropped": self.count.dropped,
            "oldest_due_seconds": None if oldest is None else round(oldest, 3),
            "reason": self.reason or None,
            "code": self.code,
            "since": instant(self.since),
            "next_try": instant(self.next_try),
            "relay": self.relay,
            "configured": self.configured,
        }


@dataclass(frozen=True)
class Overview:
    """What the outbox says about tenants and relays at one moment, beside what is configured.

    What follows from it is worked out once: many pages may be made from one look.
    """

    at: datetime
    configured: Configured
    counts: Mapping[TenantId, Count]
    states: Mapping[TenantId, TenantState]
    controls: Mapping[TenantId, Control]
    relays: Sequence[RelayBeat]

    @property
    def running(self) -> bool:
        """Whether any relay is alive."""
        return any(beat.alive for beat in self.relays)

    def paused(self, tenant: TenantId) -> str | None:
        """The reason for which a person, or the relay, paused the tenant; None: it is not paused."""
        control = self.controls.get(tenant)
        return None if control is None else control.paused

    def names(self) -> Sequence[TenantId]:
        """Every tenant that is configured, or of which the outbox has anything."""
        return sorted({*self.configured, *self.counts, *self.states, *self.controls})

    def knows(self, tenant: TenantId) -> bool:
        """Whether it is one of them."""
        return tenant in self.names()

    def owned(self, relay: str) -> int:
        """How many tenants this relay process carries."""
        return sum(state.relay == relay for state in self.states.values())

    @cached_property
    def tenants(self) -> Sequence[Tenant]:
        """Every tenant that is configured, has messages or is carried, by name."""
        return [self.tenant(name) for name in sorted({*self.configured, *self.counts, *self.states})]

    @cached_property
    def pressing(self) -> Sequence[Tenant]:
        """The same by need: what waits for a person; trouble and parked messages; what waits; the rest."""
        return sorted(self.tenants, key=_need)

    def tenant(self, tenant: TenantId) -> Tenant:
        """One tenant, also one of which nothing is known."""
        live = self.states.get(tenant)
        state, reason = self._state(tenant)
        return Tenant(
            tenant,
            state,
            reason,
            live.since if live else None,
            live.next_try if live else None,
            self.counts.get(tenant, Count()),
            tenant in self.configured,
            live.relay if live else None,
            self._code(live, state),
        )

    def _code(self, live: TenantState | None, state: str) -> str | None:
        if live is not None:
            withheld = error_codes.NOT_ACCEPTED.code if withheld_in(live.reason) else None
            return error_codes.of_state(live.state, live.reason) or withheld
        if state == STOPPED:
            return None if self.running else error_codes.NO_RELAY.code
        return {PAUSED: error_codes.PAUSED.code, UNCONFIGURED: error_codes.UNCONFIGURED.code}.get(state)

    def _state(self, tenant: TenantId) -> tuple[str, str]:
        """The state, live if a relay says it, and the reason."""
        live, paused = self.states.get(tenant), self.paused(tenant)
        if live is not None:
            return live.state, live.reason
        if paused is not None:
            return PAUSED, paused
        if tenant not in self.configured:
            return UNCONFIGURED, "no tenant of this name is configured; its messages wait"
        if not self.running:
            return STOPPED, "no relay is running"
        if not self.counts.get(tenant, Count()).pending:
            return IDLE, ""
        return STOPPED, "no relay that runs carries it so far"

    def as_json(self) -> dict[str, Any]:
        """As `relay status --json` prints it."""
        return {
            "tenants": {tenant.tenant_id: tenant.as_json() for tenant in self.tenants},
            "relays": [relay_json(beat) for beat in self.relays],
        }


_NEED = {"halted": 0, PAUSED: 0, UNCONFIGURED: 0, STOPPED: 0, "backing-off": 1}


def _need(tenant: Tenant) -> tuple[int, float, TenantId]:
    count = tenant.count
    waits = _NEED.get(tenant.state, 2) if count.pending else 3
    if count.parked:
        waits = min(waits, 1)
    return waits, -(count.oldest_due_seconds or 0.0), tenant.tenant_id


def relay_json(beat: RelayBeat) -> dict[str, Any]:
    """One relay process; what it says of itself stands beside what the outbox knows."""
    return {
        "relay": beat.relay,
        "alive": beat.alive,
        "started_at": instant(beat.started_at),
        "beat_at": instant(beat.beat_at),
        **{key: value for key, value in beat.details.items() if key not in ("relay", "alive")},
    }


async def look(outbox: Source, configured: Configured, now: datetime) -> Overview:
    """Read it all."""
    return Overview(
        now,
        configured,
        await outbox.counts(),
        await outbox.states(),
        (await outbox.notification()).controls,
        await outbox.relays(),
    )
