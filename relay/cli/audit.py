"""This file is `relay audit`: who decided what, when, and about how many messages."""

from typing import Annotated

import typer

from relay.cli import output
from relay.core.model import TenantId
from relay.reports.times import instant


def audit(
    tenant: Annotated[str | None, typer.Option(help="Only what concerns this tenant.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Tell what persons did, the newest first: decisions about messages and tenants, payloads shown."""
    from relay.cli.common import at_outbox, settings

    name = None if tenant is None else TenantId(tenant.upper())
    found = at_outbox(settings().outbox, lambda outbox: outbox.audit(limit, name))
    rows = [
        {
            "id": entry.id,
            "at": instant(entry.at),
            "who": entry.who,
            "what": entry.what,
            "tenant_id": entry.tenant,
            "selection": entry.selection,
            "reason": entry.reason,
            "messages": entry.messages,
            "outcome": entry.outcome,
            "ended_at": instant(entry.ended_at),
        }
        for entry in found
    ]
    if as_json:
        output.as_json(rows)
    elif rows:
        names = ("at", "who", "what", "tenant_id", "messages", "outcome", "selection", "reason")
        head = [name.replace("_id", "") for name in names]
        output.table(head, [[row[name] for name in names] for row in rows])
    else:
        output.note("nobody did anything yet")
