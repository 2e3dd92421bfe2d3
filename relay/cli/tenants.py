"""This file is `relay tenants`: list them, pause one, let it go on, have ION asked again."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from relay.cli import say

if TYPE_CHECKING:
    from relay.model import TenantId
    from relay.ports import Store

tenants_app = typer.Typer(help="Pause and resume tenants, and have ION asked again.", no_args_is_help=True)

TenantArgument = Annotated[str, typer.Argument(metavar="TENANT")]


@tenants_app.command("list")
def tenants_list(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """List the tenants that are configured or have messages."""
    from relay.cli.desk import settings
    from relay.cli.status import overview

    known = settings()
    rows = [
        {
            "tenant_id": tenant.tenant_id,
            "configured": tenant.configured,
            "state": tenant.state,
            "reason": tenant.reason,
            "logical_id": known.tenants[tenant.tenant_id].logical_id if tenant.configured else None,
        }
        for tenant in overview(known).tenants()
    ]
    if as_json:
        say.as_json(rows)
    else:
        names = ("tenant_id", "state", "logical_id", "reason")
        say.table(
            ("tenant", "state", "logical id", "reason"), [[row[name] for name in names] for row in rows]
        )


@tenants_app.command("pause")
def pause(
    tenant: TenantArgument,
    reason: Annotated[str, typer.Option(help="Why; the status shows it.")] = "paused by hand",
) -> None:
    """Send nothing more of this tenant until it is resumed; lasts over restarts."""
    from relay.cli.desk import who

    if not reason.strip():
        say.give_up("--reason: give one, or leave the option out")

    async def decide(outbox: "Store", name: "TenantId") -> None:
        await outbox.pause(name, reason, who())

    name = _decided(tenant, decide)
    say.line(f"{name} is paused: {reason}; end it with: relay tenants resume {name}")


@tenants_app.command("resume")
def resume(tenant: TenantArgument) -> None:
    """Let a paused or halted tenant begin again at once."""
    from relay.cli.desk import who

    async def decide(outbox: "Store", name: "TenantId") -> None:
        await outbox.resume(name, who())

    say.line(f"{_decided(tenant, decide)} is resumed")


@tenants_app.command("ask")
def ask(tenant: TenantArgument) -> None:
    """Try ION again now: ends the wait between two tries, and that of refused credentials; a pause stays."""
    from relay.cli.desk import who

    async def decide(outbox: "Store", name: "TenantId") -> None:
        await outbox.ask(name, who())

    say.line(f"{_decided(tenant, decide)}: ION is asked again, if a relay carries it")


def _decided(given: str, decide: "Callable[[Store, TenantId], Awaitable[None]]") -> str:
    """Decide about a tenant that is configured here or known to the outbox; its name."""
    from relay.cli.desk import at_outbox, configured, settings
    from relay.model import TenantId
    from relay.view.overview import look

    known, name = settings(), TenantId(given.upper())

    async def work(outbox: "Store") -> "list[TenantId]":
        seen = await look(outbox, configured(known), datetime.now(UTC))
        names = sorted({*seen.configured, *seen.counts, *seen.controls})
        if name in names:
            await decide(outbox, name)
        return names

    names = at_outbox(known.outbox, work)
    if name not in names:
        say.give_up(f"there is no tenant {given}; there are: {', '.join(names) or 'none'}")
    return name
