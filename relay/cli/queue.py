"""`relay queue`: the number of waiting messages by age, and by tenant or document."""

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from relay.cli import output
from relay.core.model import TenantId

if TYPE_CHECKING:
    from relay.reports.queue_ages import QueueRow


def queue(
    tenant: Annotated[str | None, typer.Option(help="Only this tenant.")] = None,
    by: Annotated[
        Literal["tenant", "document"] | None,
        typer.Option(help="Group by tenant (the default without --tenant) or by document."),
    ] = None,
    limit: Annotated[
        int, typer.Option(min=1, help="Maximum number counted for each tenant's document.")
    ] = 10_000,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show how many messages wait, by age; longest queue first."""
    from relay.cli.common import load_settings, with_outbox
    from relay.reports.queue_ages import age_labels, read_queue

    name = None if tenant is None else TenantId(tenant.upper())
    lines = by or ("tenant" if tenant is None else "document")
    found = with_outbox(load_settings().outbox, lambda outbox: read_queue(outbox, name, lines, limit))
    if as_json:
        output.print_json(found.as_json())
    elif found.rows:
        output.print_line("waiting messages by age, up to:")
        rows = [_row("all", found.total), *(_row(line.name, line) for line in found.rows)]
        output.print_table((lines, "total", *age_labels()), rows)
    else:
        output.print_note("no message is waiting")


def _row(name: str, line: "QueueRow") -> tuple[object, ...]:
    return (name, f"{line.total}{'+' if line.more else ''}", *line.counts)
