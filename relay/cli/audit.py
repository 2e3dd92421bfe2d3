"""`relay audit`: the operators' actions, and how many messages each changed."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from relay.cli import output
from relay.core.admin import AuditEntry
from relay.core.model import TenantId
from relay.reports.times import instant

if TYPE_CHECKING:
    from relay.core.ports import Store
    from relay.reports.action_outcome import ActionOutcome

_MOST_OUTCOMES = 100
"""Retries whose messages are counted, the newest ones."""


async def _read(
    outbox: "Store", limit: int, tenant: TenantId | None
) -> Sequence[tuple[AuditEntry, "ActionOutcome | None"]]:
    from relay.reports.action_outcome import read_outcome

    found = await outbox.audit(limit, tenant)
    counted = [await read_outcome(outbox, entry) for entry in found[:_MOST_OUTCOMES]]
    return list(zip(found, [*counted, *[None] * (len(found) - len(counted))], strict=True))


def audit(
    tenant: Annotated[str | None, typer.Option(help="Only actions on this tenant.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="Maximum number of entries.")] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List what operators did, newest first.

    That is actions on messages and tenants, logins to the page, and payloads that were viewed; of retries
    also what became of the messages since.
    """
    from relay.cli.common import load_settings, with_outbox

    name = None if tenant is None else TenantId(tenant.upper())
    entries = with_outbox(load_settings().outbox, lambda outbox: _read(outbox, limit, name))
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
            "became": None if became is None else became.as_json(),
        }
        for entry, became in entries
    ]
    if as_json:
        output.print_json(rows)
    elif rows:
        names = ("at", "who", "what", "tenant_id", "messages", "outcome", "selection", "reason")
        head = [*(name.replace("_id", "") for name in names), "became"]
        words = [became.sentence if became else "" for _, became in entries]
        table = [[*(row[name] for name in names), word] for row, word in zip(rows, words, strict=True)]
        output.print_table(head, table)
    else:
        output.print_note("the audit is empty")
