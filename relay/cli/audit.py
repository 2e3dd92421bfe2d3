"""`relay audit`: the operators' actions, and how many messages each changed."""

from typing import Annotated

import typer

from relay.cli import output
from relay.core.model import TenantId
from relay.reports.times import instant


def audit(
    tenant: Annotated[str | None, typer.Option(help="Only actions on this tenant.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="Maximum number of entries.")] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List what operators did, newest first.

    That is actions on messages and tenants, logins to the page, and payloads that were viewed.
    """
    from relay.cli.common import load_settings, with_outbox

    name = None if tenant is None else TenantId(tenant.upper())
    entries = with_outbox(load_settings().outbox, lambda outbox: outbox.audit(limit, name))
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
        for entry in entries
    ]
    if as_json:
        output.print_json(rows)
    elif rows:
        names = ("at", "who", "what", "tenant_id", "messages", "outcome", "selection", "reason")
        head = [name.replace("_id", "") for name in names]
        output.print_table(head, [[row[name] for name in names] for row in rows])
    else:
        output.print_note("the audit is empty")
