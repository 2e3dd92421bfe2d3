"""This file is `relay tenants`: list and show them, pause one, let it go on, have ION asked again."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from relay.cli import output
from relay.reports.queue_ages import age_labels
from relay.reports.times import time_since, time_until

if TYPE_CHECKING:
    from relay.core.model import TenantId
    from relay.core.ports import Store
    from relay.reports.overview import Overview
    from relay.reports.tenant import TenantReport

tenants_app = typer.Typer(help="Look at tenants, pause and resume them, ask ION again.", no_args_is_help=True)

TenantArgument = Annotated[str, typer.Argument(metavar="TENANT")]


@tenants_app.command("list")
def tenants_list(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """List the tenants that are configured or have messages."""
    from relay.cli.common import settings
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
        for tenant in overview(known).tenants
    ]
    if as_json:
        output.as_json(rows)
    else:
        names = ("tenant_id", "state", "logical_id", "reason")
        output.table(
            ("tenant", "state", "logical id", "reason"), [[row[name] for name in names] for row in rows]
        )


@tenants_app.command("show")
def show(
    tenant: TenantArgument, as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False
) -> None:
    """Tell why a tenant waits: its state, its documents by age, and the lanes that are held and by what."""
    from relay.cli.common import at_outbox, configured, settings
    from relay.core.model import TenantId
    from relay.reports import tenant as view
    from relay.reports.overview import read_overview

    known, name = settings(), TenantId(tenant.upper())

    async def work(outbox: "Store") -> "view.TenantReport":
        seen = await read_overview(outbox, configured(known), datetime.now(UTC))
        if not seen.knows(name):
            _give_up(tenant, seen)
        return await view.read_tenant(outbox, name, seen)

    told = at_outbox(known.outbox, work)
    if as_json:
        output.as_json(told.as_json())
    else:
        _tell(told)


@tenants_app.command("pause")
def pause(
    tenant: TenantArgument,
    reason: Annotated[str, typer.Option(help="Why; the status shows it.")] = "paused by hand",
) -> None:
    """Send nothing more of this tenant until it is resumed; lasts over restarts."""
    from relay.cli.common import who

    if not reason.strip():
        output.give_up("--reason: give one, or leave the option out")

    async def decide(outbox: "Store", name: "TenantId") -> None:
        await outbox.pause(name, reason, who())

    name = _decided(tenant, decide)
    output.line(f"{name} is paused: {reason}; end it with: relay tenants resume {name}")


@tenants_app.command("resume")
def resume(tenant: TenantArgument) -> None:
    """Let a paused or halted tenant begin again at once."""
    from relay.cli.common import who

    async def decide(outbox: "Store", name: "TenantId") -> None:
        await outbox.resume(name, who())

    output.line(f"{_decided(tenant, decide)} is resumed")


@tenants_app.command("ask")
def ask(tenant: TenantArgument) -> None:
    """Try ION again now: ends the wait between two tries, and that of refused credentials; a pause stays."""
    from relay.cli.common import who

    async def decide(outbox: "Store", name: "TenantId") -> None:
        await outbox.ask(name, who())

    output.line(f"{_decided(tenant, decide)}: ION is asked again, if a relay carries it")


def _decided(given: str, decide: "Callable[[Store, TenantId], Awaitable[None]]") -> str:
    """Decide about a tenant that is configured here or known to the outbox; its name."""
    from relay.cli.common import at_outbox, configured, settings
    from relay.core.model import TenantId
    from relay.reports.overview import read_overview

    known, name = settings(), TenantId(given.upper())

    async def work(outbox: "Store") -> None:
        seen = await read_overview(outbox, configured(known), datetime.now(UTC))
        if not seen.knows(name):
            _give_up(given, seen)
        await decide(outbox, name)

    at_outbox(known.outbox, work)
    return name


def _give_up(given: str, seen: "Overview") -> NoReturn:
    names = ", ".join(seen.names()) or "none"
    output.give_up(f"there is no tenant {given}; there are: {names}")


def _tell(told: "TenantReport") -> None:
    now, tenant = told.context.now, told.tenant
    count = tenant.count
    reason = f": {tenant.reason}" if tenant.reason else ""
    since = f" for {time_since(tenant.since, now)}" if tenant.since else ""
    owned = f", carried by {tenant.relay}" if tenant.relay else ""
    output.line(f"tenant {tenant.tenant_id} is {tenant.state}{since}{owned}{reason}")
    counted = (f"{getattr(count, state)} {state}" for state in ("pending", "delivered", "parked", "dropped"))
    output.line("  " + ", ".join(counted))
    for wait in told.waits_for:
        output.line(wait.sentence(now, "Its messages wait for"))
    if told.documents:
        answers = {True: "yes", False: "no", None: "not known"}
        rows = [
            (document.name, answers[document.accepted], sum(document.ages.counts), *document.ages.counts)
            for document in told.documents
        ]
        output.table(("document", "accepted", "waiting", *age_labels()), rows)
    for lane in told.lanes:
        key = "without a key" if lane.ordering_key is None else f"of key {lane.ordering_key}"
        output.line(
            f"the lane {key} is held by {lane.head.message_id}, tried again "
            f"{time_until(lane.head.not_before, now)}: {lane.head.reason}; {lane.behind} behind it"
        )
