"""`relay next`: the scheduled attempts and their reasons, soonest first."""

from datetime import UTC, datetime
from typing import Annotated

import typer

from relay.cli import output
from relay.cli.overview_table import NO_RELAY
from relay.reports.times import instant, time_until


def next_(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Show what is retried next, when, and why.

    Soonest first; what waits for an operator comes last.
    """
    from relay.cli.common import configured_tenants, load_settings, with_outbox
    from relay.reports.next_tries import read_next_tries

    settings = load_settings()
    found = with_outbox(
        settings.outbox,
        lambda outbox: read_next_tries(outbox, configured_tenants(settings), datetime.now(UTC)),
    )
    if as_json:
        output.print_json(found.as_json())
        return
    if not found.running:
        output.print_line(NO_RELAY)
    if not found.tries:
        output.print_note("nothing is scheduled")
        return
    output.print_table(
        ("next try", "at", "tenant", "message", "rule", "reason"),
        [
            (
                time_until(one.at, found.now) or "not scheduled",
                (instant(one.at) or "")[:19],
                one.tenant_id,
                one.message_id or "all",
                one.rule,
                one.reason,
            )
            for one in found.tries
        ],
    )
