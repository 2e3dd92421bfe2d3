"""This file is `relay next`: the next tries and why, the soonest first."""

from datetime import UTC, datetime
from typing import Annotated

import typer

from relay.cli import output
from relay.cli.status import NOT_RUNNING
from relay.reports.times import instant, time_until


def next_(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Show what is tried next, when, and why not before.

    The soonest stands first, what needs a person last.
    """
    from relay.cli.common import at_outbox, configured, settings
    from relay.reports.next_tries import read_next_tries

    known = settings()
    found = at_outbox(
        known.outbox, lambda outbox: read_next_tries(outbox, configured(known), datetime.now(UTC))
    )
    if as_json:
        output.as_json(found.as_json())
        return
    if not found.running:
        output.line(NOT_RUNNING)
    if not found.tries:
        output.note("nothing waits for a time of its own")
        return
    output.table(
        ("next try", "at", "tenant", "message", "rule", "reason"),
        [
            (
                time_until(one.at, found.now) or "not by itself",
                (instant(one.at) or "")[:19],
                one.tenant_id,
                one.message_id or "all",
                one.rule,
                one.reason,
            )
            for one in found.tries
        ],
    )
