"""This file is `relay status`: how every tenant is, from the outbox, also while no relay is running."""

import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from relay.cli import say

if TYPE_CHECKING:
    from relay.desk import Count, RelayBeat
    from relay.model import TenantId, TenantState
    from relay.ports import Control, Store

UNCONFIGURED, STOPPED, PAUSED, IDLE = "unconfigured", "stopped", "paused", "idle"
"""What a tenant is where no relay says it: not in the settings, without a relay, paused by a person."""


def status(
    alive: Annotated[
        bool, typer.Option("--alive", help="Only whether a relay is running: exit code 0, or 1.")
    ] = False,
    here: Annotated[
        bool, typer.Option("--here", help="The same of the relays on this host, or in this container, only.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show running relays, and every tenant's state and messages."""
    from relay.cli.desk import at_outbox, settings

    known = settings()
    if alive or here:
        relays = at_outbox(known.outbox, lambda outbox: outbox.relays())
        raise typer.Exit(_tell_running(relays, socket.gethostname() if here else None))
    seen = at_outbox(known.outbox, look)
    if as_json:
        say.as_json(
            {"tenants": seen.tenants(known.tenants), "relays": [_relay(beat) for beat in seen.relays]}
        )
    else:
        _show(seen, known.tenants)


NOT_RUNNING = "no relay is running; start one with: relay run"


@dataclass(frozen=True, slots=True)
class Seen:
    """What the outbox says about tenants and relays at one moment."""

    counts: "Mapping[TenantId, Count]"
    states: "Mapping[TenantId, TenantState]"
    controls: "Mapping[TenantId, Control]"
    relays: "Sequence[RelayBeat]"

    @property
    def running(self) -> bool:
        """Whether any relay is alive."""
        return any(beat.alive for beat in self.relays)

    def state(self, tenant: "TenantId", configured: Mapping[str, object]) -> tuple[str, str]:
        """The tenant's state, live if a relay says it, and the reason."""
        from relay.desk import Count

        live, control = self.states.get(tenant), self.controls.get(tenant)
        if live is not None:
            return live.state, live.reason
        if control is not None and control.paused is not None:
            return PAUSED, control.paused
        if tenant not in configured:
            return UNCONFIGURED, "no tenant of this name is configured; its messages wait"
        if not self.running:
            return STOPPED, "no relay is running"
        if not self.counts.get(tenant, Count()).pending:
            return IDLE, ""
        return STOPPED, "the relay that runs does not carry it"

    def tenants(self, configured: Mapping[str, object]) -> dict[str, dict[str, Any]]:
        """Every tenant that has messages or is configured, as JSON gives it."""
        from relay.desk import Count
        from relay.model import TenantId

        found = {}
        for name in sorted({*configured, *self.counts, *self.states}):
            tenant = TenantId(name)
            count, live = self.counts.get(tenant, Count()), self.states.get(tenant)
            state, reason = self.state(tenant, configured)
            oldest = count.oldest_due_seconds
            found[name] = {
                "state": state,
                "pending": count.pending,
                "delivered": count.delivered,
                "parked": count.parked,
                "dropped": count.dropped,
                "oldest_due_seconds": None if oldest is None else round(oldest, 3),
                "reason": reason or None,
                "since": say.instant(live.since) if live else None,
                "next_try": say.instant(live.next_try) if live else None,
                "configured": name in configured,
            }
        return found


async def look(outbox: "Store") -> Seen:
    """Read it all."""
    return Seen(
        await outbox.counts(),
        await outbox.states(),
        (await outbox.signals()).controls,
        await outbox.relays(),
    )


def _tell_running(relays: "Sequence[RelayBeat]", host: str | None) -> int:
    """Name those that are alive, on any host or on this one; the exit code."""
    running = [beat.relay for beat in relays if beat.alive and host in (None, beat.details.get("host"))]
    if running:
        say.line(f"running: {', '.join(running)}")
        return say.FINE
    say.line(NOT_RUNNING if host is None else f"no relay is running on {host}; start one with: relay run")
    return say.TROUBLE


def _relay(beat: "RelayBeat") -> dict[str, Any]:
    return {
        "relay": beat.relay,
        "alive": beat.alive,
        "started_at": say.instant(beat.started_at),
        "beat_at": say.instant(beat.beat_at),
        **{key: value for key, value in beat.details.items() if key not in ("relay", "alive")},
    }


def _show(seen: Seen, configured: Mapping[str, object]) -> None:
    now = datetime.now(UTC)
    for beat in seen.relays:
        last = say.ago(beat.beat_at, now)
        mode = f", by {beat.details['mode']}" if "mode" in beat.details else ""
        rest = f"running for {say.ago(beat.started_at, now)}{mode}" if beat.alive else f"silent for {last}"
        say.line(f"relay {beat.relay}: {rest}")
    if not seen.running:
        say.line(NOT_RUNNING)
    rows = []
    for name, tenant in seen.tenants(configured).items():
        oldest, since, next_try = tenant["oldest_due_seconds"], tenant["since"], tenant["next_try"]
        rows.append(
            (
                name,
                tenant["state"],
                tenant["pending"],
                tenant["delivered"],
                tenant["parked"],
                "" if oldest is None else say.duration(oldest),
                "" if since is None else say.ago(datetime.fromisoformat(since), now),
                "" if next_try is None else say.ahead(datetime.fromisoformat(next_try), now),
                tenant["reason"] or "",
            )
        )
    if not rows:
        say.line("no tenant is configured, and the outbox holds no messages")
        return
    head = ("tenant", "state", "pending", "delivered", "parked", "oldest", "since", "next try", "reason")
    say.table(head, rows)
