"""This file is `relay next`: the next tries and why, the soonest first."""

from datetime import UTC, datetime
from typing import Annotated

import typer

from relay.cli import say
from relay.cli.status import NOT_RUNNING
from relay.view.times import ahead, instant


def next_(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Show what is tried next, when, and why not before.

    The soonest stands first, what needs a person last.
    """
    from relay.cli.desk import at_outbox, configured, settings
    from relay.view.tries import next_tries

    known = settings()
    found = at_outbox(known.outbox, lambda outbox: next_tries(outbox, configured(known), datetime.now(UTC)))
    if as_json:
        say.as_json(found.as_json())
        return
    if not found.running:
        say.line(NOT_RUNNING)
    if not found.tries:
        say.note("nothing waits for a time of its own")
        return
    say.table(
        ("next try", "at", "tenant", "message", "rule", "reason"),
        [
            (
                ahead(one.at, found.now) or "not by itself",
                (instant(one.at) or "")[:19],
                one.tenant_id,
                one.message_id or "all",
                one.rule,
                one.reason,
            )
            for one in found.tries
        ],
    )
