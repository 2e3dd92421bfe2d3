"""This file is `relay status`: how every tenant is, from the outbox, also while no relay is running."""

import socket
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from relay.cli import output
from relay.reports.times import duration, time_since, time_until

if TYPE_CHECKING:
    from relay.config.settings import Settings
    from relay.core.admin import RelayBeat
    from relay.reports.overview import Overview, TenantStatus


def status(
    alive: Annotated[
        bool, typer.Option("--alive", help="Only whether a relay is running: exit code 0, or 1.")
    ] = False,
    here: Annotated[
        bool, typer.Option("--here", help="The same of the relays on this host, or in this container, only.")
    ] = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Every two seconds anew, until q or Ctrl-C.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show running relays, and every tenant's state and messages."""
    from relay.cli.common import at_outbox, settings

    if watch and (alive or here or as_json):
        output.give_up("--watch goes with none of --alive, --here and --json")
    known = settings()
    if watch:
        from relay.cli.watch import watch_status

        watch_status(known)
        return
    if alive or here:
        relays = at_outbox(known.outbox, lambda outbox: outbox.relays())
        raise typer.Exit(_tell_running(relays, socket.gethostname() if here else None))
    seen = overview(known)
    if as_json:
        output.as_json(seen.as_json())
    else:
        _show(seen)


NOT_RUNNING = "no relay is running; start one with: relay run"


def overview(known: "Settings") -> "Overview":
    """How everything is now."""
    from relay.cli.common import at_outbox, configured
    from relay.reports.overview import read_overview

    return at_outbox(known.outbox, lambda outbox: read_overview(outbox, configured(known), datetime.now(UTC)))


def _tell_running(relays: "Sequence[RelayBeat]", host: str | None) -> int:
    """Name those that are alive, on any host or on this one; the exit code."""
    running = [beat.relay for beat in relays if beat.alive and host in (None, beat.details.get("host"))]
    if running:
        output.line(f"running: {', '.join(running)}")
        return output.FINE
    output.line(NOT_RUNNING if host is None else f"no relay is running on {host}; start one with: relay run")
    return output.TROUBLE


def _show(seen: "Overview") -> None:
    for text in above(seen):
        output.line(text)
    if rows := table(seen.tenants, seen):
        output.table(HEAD, rows)


HEAD = ("tenant", "state", "pending", "delivered", "parked", "oldest", "since", "next try", "reason")
"""Of the table."""


def above(seen: "Overview") -> Sequence[str]:
    """What stands above the table: the relays, and what is missing."""
    lines = [f"relay {beat.relay}: {_how(beat, seen)}" for beat in seen.relays]
    if not seen.running:
        lines.append(NOT_RUNNING)
    if not seen.tenants:
        lines.append("no tenant is configured, and the outbox holds no messages")
    return lines


def _how(beat: "RelayBeat", seen: "Overview") -> str:
    if not beat.alive:
        return f"silent for {time_since(beat.beat_at, seen.at)}"
    mode = f", by {beat.details['mode']}" if "mode" in beat.details else ""
    share = f", carries {seen.owned(beat.relay)} of the tenants" if len(seen.relays) > 1 else ""
    return f"running for {time_since(beat.started_at, seen.at)}{mode}{share}"


def table(tenants: "Sequence[TenantStatus]", seen: "Overview") -> Sequence[Sequence[object]]:
    """A row for each of them."""
    return [_row(tenant, seen.at) for tenant in tenants]


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
        f"{tenant.reason} ({tenant.code})" if tenant.code else tenant.reason,
    )
