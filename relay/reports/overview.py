"""The state of every tenant and of every relay, as the outbox has it; no relay need be running."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any, Literal, Protocol

from relay.core.admin import Admin, Count, RelayBeat
from relay.core.model import Ordering, TenantId, TenantState
from relay.core.ports import Control, Notification, StoreIncident
from relay.observability import error_codes
from relay.reports.times import instant
from relay.reports.wait_reasons import WaitContext, state_code, state_reason

UNCONFIGURED, STOPPED, PAUSED, IDLE = "unconfigured", "stopped", "paused", "idle"
"""States that no relay reports: not in the settings, without a relay, paused by an operator."""

Configured = Mapping[TenantId, Ordering]
"""The tenants of the settings, and the ordering of each."""


Tone = Literal["fine", "attention", "paused", "halted"]
NextStep = Literal["resume", "ask", "see-parked"]
"""Resume the tenant; try ION again now; decide about the parked messages."""


class ReportStore(Admin, Protocol):
    """What reports read; every `ports.Store` is one."""

    async def notification(self) -> Notification:
        """As in `ports.Outbox`."""

    async def incidents(self) -> Sequence[StoreIncident]:
        """As in `ports.Housekeeping`."""


@dataclass(frozen=True, slots=True)
class TenantStatus:
    """The state of one tenant. `state`: a `model.StateName`, or else `stopped` or `unconfigured`.

    `relay`: the relay process that owns it; None where none does.
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

    @property
    def is_failing(self) -> bool:
        """Whether ION fails for it: also while it is being tried again, until something is delivered."""
        return self.state in ("backing-off", "halted") or bool(
            self.reason
            and self.code
            and self.state in ("initialising", "pinging", "sending")
            and not self.waits
        )

    @property
    def waits(self) -> bool:
        """Whether documents wait to be accepted."""
        return self.code == error_codes.NOT_ACCEPTED.code

    @property
    def tone(self) -> Tone:
        """How urgent it is: parked messages, and documents that are not accepted, need attention."""
        if self.state in ("halted", UNCONFIGURED, STOPPED):
            return "halted" if self.state == "halted" or self.count.pending else "paused"
        if self.state == PAUSED:
            return "paused"
        return "attention" if self.is_failing or self.waits or self.count.parked else "fine"

    @property
    def summary(self) -> str:
        """The reason of the state, and that messages are parked."""
        parked = self.count.parked
        note = (
            f"{parked:,} parked message{'s need' if parked != 1 else ' needs'} an operator" if parked else ""
        )
        return "; ".join(filter(None, (self.reason, note)))

    @property
    def next_step(self) -> NextStep | None:
        """The one thing to do first; None: nothing needs an operator."""
        if self.state == PAUSED:
            return "resume"
        if self.is_failing:
            return "ask"
        if self.count.parked:
            return "see-parked"
        return "ask" if self.waits else None

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
    """What the outbox has about tenants and relays at one moment, beside what is configured.

    Derived values are computed once: many pages may be made from one overview.
    """

    at: datetime
    configured: Configured
    counts: Mapping[TenantId, Count]
    states: Mapping[TenantId, TenantState]
    controls: Mapping[TenantId, Control]
    relays: Sequence[RelayBeat]
    log_bytes: int | None = None
    """Of an outbox that is a file."""
    incidents: Sequence[StoreIncident] = ()

    @property
    def running(self) -> bool:
        """Whether any relay is alive."""
        return any(beat.alive for beat in self.relays)

    def paused(self, tenant: TenantId) -> str | None:
        """Why an operator, or the relay, paused the tenant; None: it is not paused."""
        control = self.controls.get(tenant)
        return None if control is None else control.paused

    def live_reason(self, tenant: TenantId) -> str:
        """The reason of the state that a relay reports, in words; empty where there is none."""
        live = self.states.get(tenant)
        return "" if live is None else state_reason(live.kind, live.reason, live.documents)

    def wait_context(self, tenant: TenantId) -> WaitContext:
        """What the outbox has about the tenant that a message may wait for."""
        return WaitContext(
            now=self.at,
            ordering=self.configured.get(tenant),
            state=self.states.get(tenant),
            paused=self.paused(tenant),
            running=self.running,
        )

    def names(self) -> Sequence[TenantId]:
        """Every tenant that is configured, or that the outbox has something about."""
        return sorted({*self.configured, *self.counts, *self.states, *self.controls})

    def knows(self, tenant: TenantId) -> bool:
        """Whether it is one of them."""
        return tenant in self.names()

    def owned(self, relay: str) -> int:
        """How many tenants this relay process owns."""
        return sum(state.relay == relay for state in self.states.values())

    @cached_property
    def tenants(self) -> Sequence[TenantStatus]:
        """Every tenant that is configured, has messages or is owned by a relay, by name."""
        return [self.tenant(name) for name in sorted({*self.configured, *self.counts, *self.states})]

    @cached_property
    def by_urgency(self) -> Sequence[TenantStatus]:
        """The same by urgency: what needs an operator; failures and parked messages; what waits; the rest."""
        return sorted(self.tenants, key=_urgency)

    def tenant(self, tenant: TenantId) -> TenantStatus:
        """One tenant, also one that nothing is known about."""
        live = self.states.get(tenant)
        state, reason = self._state(tenant)
        return TenantStatus(
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
            return state_code(live)
        if state == STOPPED:
            return None if self.running else error_codes.NO_RELAY.code
        return {PAUSED: error_codes.PAUSED.code, UNCONFIGURED: error_codes.UNCONFIGURED.code}.get(state)

    def _state(self, tenant: TenantId) -> tuple[str, str]:
        """The state, as a relay reports it or else by what the outbox has, and the reason."""
        live, paused = self.states.get(tenant), self.paused(tenant)
        if live is not None:
            return live.state, self.live_reason(tenant)
        if paused is not None:
            return PAUSED, paused
        if tenant not in self.configured:
            return UNCONFIGURED, "no tenant of this name is configured; its messages wait"
        if not self.running:
            return STOPPED, "no relay is running"
        if not self.counts.get(tenant, Count()).pending:
            return IDLE, ""
        return STOPPED, "no running relay owns it yet"

    def as_json(self) -> dict[str, Any]:
        """As `relay status --json` prints it."""
        return {
            "tenants": {tenant.tenant_id: tenant.as_json() for tenant in self.tenants},
            "relays": [relay_json(beat) for beat in self.relays],
            "outbox": {"write_ahead_log_bytes": self.log_bytes},
            "warnings": [_warning_json(incident) for incident in self.incidents],
        }


_URGENCY = {"halted": 0, PAUSED: 0, UNCONFIGURED: 0, STOPPED: 0, "backing-off": 1}


def _urgency(tenant: TenantStatus) -> tuple[int, float, TenantId]:
    count = tenant.count
    rank = _URGENCY.get(tenant.state, 1 if tenant.is_failing else 2) if count.pending else 3
    if tenant.tone in ("halted", "attention"):
        rank = min(rank, 1)
    return rank, -(count.oldest_due_seconds or 0.0), tenant.tenant_id


def _warning_json(incident: StoreIncident) -> dict[str, Any]:
    """What is wrong with the outbox itself."""
    code = error_codes.of_kind(incident.kind)
    return {"code": code, "text": incident.detail, "hint": incident.hint}


_OWN_DETAILS = frozenset({"relay", "alive", "boot_id"})
"""Names that a detail must not replace, and details that relays write for each other."""


def relay_json(beat: RelayBeat) -> dict[str, Any]:
    """One relay process: what the outbox knows, and the details that the relay reports."""
    return {
        "relay": beat.relay,
        "alive": beat.alive,
        "started_at": instant(beat.started_at),
        "beat_at": instant(beat.beat_at),
        **{key: value for key, value in beat.details.items() if key not in _OWN_DETAILS},
    }


async def read_overview(outbox: ReportStore, configured: Configured, now: datetime) -> Overview:
    """Read everything that an overview holds."""
    return Overview(
        now,
        configured,
        await outbox.counts(),
        await outbox.states(),
        (await outbox.notification()).controls,
        await outbox.relays(),
        await outbox.log_bytes(),
        await outbox.incidents(),
    )
