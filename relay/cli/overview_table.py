"""The table of `relay status`, which `relay status --watch` draws too."""

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from relay.observability import error_codes
from relay.reports.times import duration, time_since, time_until

if TYPE_CHECKING:
    from relay.core.admin import RelayBeat
    from relay.reports.overview import Overview, TenantStatus

HEAD = ("tenant", "state", "pending", "delivered", "parked", "oldest", "since", "next try", "reason")

NO_RELAY = "no relay is running; start one with: relay run"


def summary(overview: "Overview") -> Sequence[str]:
    """The lines above the table: the relays, and what is missing."""
    lines = [f"relay {beat.relay}: {_describe(beat, overview)}" for beat in overview.relays]
    lines += [
        f"warning: {found.detail}; {found.hint} ({error_codes.of_kind(found.kind)})"
        for found in overview.incidents
    ]
    if not overview.running:
        lines.append(NO_RELAY)
    if not overview.tenants:
        lines.append("no tenant is configured, and the outbox holds no messages")
    return lines


def rows(tenants: "Sequence[TenantStatus]", now: datetime) -> Sequence[Sequence[object]]:
    """One row for each tenant, in the columns of HEAD."""
    return [_row(tenant, now) for tenant in tenants]


def _describe(beat: "RelayBeat", overview: "Overview") -> str:
    if not beat.alive:
        return f"silent for {time_since(beat.beat_at, overview.at)}"
    mode = f", mode {beat.details['mode']}" if "mode" in beat.details else ""
    count = overview.owned(beat.relay)
    owned = f", owns {count} tenant{'' if count == 1 else 's'}" if len(overview.relays) > 1 else ""
    return f"running for {time_since(beat.started_at, overview.at)}{mode}{owned}"


def _row(tenant: "TenantStatus", now: datetime) -> tuple[object, ...]:
    count = tenant.count
    return (
        tenant.tenant_id,
        tenant.state,
        count.pending,
        count.delivered,
        count.parked,
        "" if count.oldest_due_seconds is None else duration(count.oldest_due_seconds),
        time_since(tenant.since, now),
        time_until(tenant.next_try, now),
        f"{tenant.summary} ({tenant.code})" if tenant.code else tenant.summary,
    )
