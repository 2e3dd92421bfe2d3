"""`relay status`: the state of every tenant, read from the outbox; no relay needs to be running."""

import socket
from typing import TYPE_CHECKING, Annotated

import typer

from relay.cli import output, overview_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from relay.core.admin import RelayBeat


def status(
    alive: Annotated[
        bool, typer.Option("--alive", help="Only report whether a relay is running: exit code 0 or 1.")
    ] = False,
    here: Annotated[bool, typer.Option("--here", help="Like --alive, for relays on this host only.")] = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Refresh every two seconds until q or Ctrl-C.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show the running relays, and each tenant's state and messages."""
    from relay.cli.common import load_settings, read_overview, with_outbox

    if watch and (alive or here or as_json):
        output.fail("--watch cannot be combined with --alive, --here or --json")
    settings = load_settings()
    if watch:
        from relay.cli.watch import watch_status

        watch_status(settings)
        return
    if alive or here:
        relays = with_outbox(settings.outbox, lambda outbox: outbox.relays())
        raise typer.Exit(_print_running(relays, socket.gethostname() if here else None))
    overview = read_overview(settings)
    if as_json:
        output.print_json(overview.as_json())
        return
    for line in overview_table.summary(overview):
        output.print_line(line)
    if overview.tenants:
        output.print_table(overview_table.HEAD, overview_table.rows(overview.tenants, overview.at))


def _print_running(relays: "Sequence[RelayBeat]", host: str | None) -> int:
    """Name the relays that are alive, on any host or on this one; the exit code."""
    running = [beat.relay for beat in relays if beat.alive and host in (None, beat.details.get("host"))]
    if running:
        output.print_line(f"running: {', '.join(running)}")
        return output.SUCCESS
    no_relay = f"no relay is running on {host}; start one with: relay run"
    output.print_line(overview_table.NO_RELAY if host is None else no_relay)
    return output.FAILURE
