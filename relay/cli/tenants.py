"""`relay tenants`: list and show tenants, pause and resume them, retry ION now."""

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

tenants_app = typer.Typer(
    help="List and show tenants; pause and resume them, retry ION now.", no_args_is_help=True
)

TenantArgument = Annotated[str, typer.Argument(metavar="TENANT")]


@tenants_app.command("list")
def tenants_list(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """List the tenants that are configured or have messages."""
    from relay.cli.common import load_settings, read_overview

    settings = load_settings()
    rows = [
        {
            "tenant_id": tenant.tenant_id,
            "configured": tenant.configured,
            "state": tenant.state,
            "reason": tenant.reason,
            "logical_id": settings.tenants[tenant.tenant_id].logical_id if tenant.configured else None,
        }
        for tenant in read_overview(settings).tenants
    ]
    if as_json:
        output.print_json(rows)
    else:
        names = ("tenant_id", "state", "logical_id", "reason")
        output.print_table(
            ("tenant", "state", "logical id", "reason"), [[row[name] for name in names] for row in rows]
        )


@tenants_app.command("show")
def show(
    tenant: TenantArgument, as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False
) -> None:
    """Show why a tenant's messages wait.

    That is its state, its documents by age, and its blocked lanes.
    """
    from relay.cli.common import configured_tenants, load_settings, with_outbox
    from relay.core.model import TenantId
    from relay.reports import tenant as tenant_report
    from relay.reports.overview import read_overview

    settings, name = load_settings(), TenantId(tenant.upper())

    async def work(outbox: "Store") -> "TenantReport":
        overview = await read_overview(outbox, configured_tenants(settings), datetime.now(UTC))
        if not overview.knows(name):
            _fail_unknown(tenant, overview)
        return await tenant_report.read_tenant(outbox, name, overview)

    report = with_outbox(settings.outbox, work)
    if as_json:
        output.print_json(report.as_json())
    else:
        _print(report)


@tenants_app.command("pause")
def pause(
    tenant: TenantArgument,
    reason: Annotated[str, typer.Option(help="Why; shown by relay status.")] = "paused by hand",
) -> None:
    """Stop sending for a tenant until it is resumed.

    A pause survives restarts of the relay.
    """
    from relay.cli.common import current_user
    from relay.cli.lost_answers import act_once

    if not reason.strip():
        output.fail("--reason is empty; give a reason, or omit the option")

    async def act(outbox: "Store", name: "TenantId") -> None:
        who = current_user()
        await act_once(outbox, lambda: outbox.pause(name, reason, who), "pause", name, who, reason)

    name = _act_on(tenant, act)
    output.print_line(f"{name} is paused: {reason}; resume it with: relay tenants resume {name}")


@tenants_app.command("resume")
def resume(tenant: TenantArgument) -> None:
    """Resume a paused or halted tenant at once."""
    from relay.cli.common import current_user
    from relay.cli.lost_answers import act_once

    async def act(outbox: "Store", name: "TenantId") -> None:
        who = current_user()
        await act_once(outbox, lambda: outbox.resume(name, who), "resume", name, who)

    output.print_line(f"{_act_on(tenant, act)} is resumed")


@tenants_app.command("ask")
def ask(tenant: TenantArgument) -> None:
    """Retry ION now instead of waiting for the next attempt.

    This ends a back-off, and the halt of refused credentials; a pause stays.
    """
    from relay.cli.common import current_user
    from relay.cli.lost_answers import act_once

    async def act(outbox: "Store", name: "TenantId") -> None:
        who = current_user()
        await act_once(outbox, lambda: outbox.ask(name, who), "ask", name, who)

    output.print_line(f"{_act_on(tenant, act)}: ION is retried now, if a relay owns the tenant")


def _act_on(given: str, act: "Callable[[Store, TenantId], Awaitable[None]]") -> str:
    """Change a tenant that is configured here or known to the outbox; its name."""
    from relay.cli.common import configured_tenants, load_settings, name_outbox, with_outbox
    from relay.core.model import TenantId
    from relay.reports.overview import read_overview

    settings, name = load_settings(), TenantId(given.upper())
    name_outbox(settings.outbox.location)

    async def work(outbox: "Store") -> None:
        overview = await read_overview(outbox, configured_tenants(settings), datetime.now(UTC))
        if not overview.knows(name):
            _fail_unknown(given, overview)
        await act(outbox, name)

    with_outbox(settings.outbox, work)
    return name


def _fail_unknown(given: str, overview: "Overview") -> NoReturn:
    names = ", ".join(overview.names()) or "none"
    output.fail(f"there is no tenant {given}; known tenants: {names}")


def _print(report: "TenantReport") -> None:
    now, tenant = report.context.now, report.tenant
    count = tenant.count
    reason = f": {tenant.reason}" if tenant.reason else ""
    since = f" for {time_since(tenant.since, now)}" if tenant.since else ""
    owned = f", owned by {tenant.relay}" if tenant.relay else ""
    output.print_line(f"tenant {tenant.tenant_id} is {tenant.state}{since}{owned}{reason}")
    counted = (f"{getattr(count, state)} {state}" for state in ("pending", "delivered", "parked", "dropped"))
    output.print_line("  " + ", ".join(counted))
    for wait in report.waits_for:
        output.print_line(wait.sentence(now, "Its messages wait for"))
    if report.documents:
        answers = {True: "yes", False: "no", None: "unknown"}
        rows = [
            (document.name, answers[document.accepted], sum(document.ages.counts), *document.ages.counts)
            for document in report.documents
        ]
        output.print_table(("document", "accepted", "waiting", *age_labels()), rows)
    for lane in report.lanes:
        key = "without a key" if lane.ordering_key is None else f"of key {lane.ordering_key}"
        output.print_line(
            f"the lane {key} is blocked by {lane.blocker.message_id}, retried "
            f"{time_until(lane.blocker.not_before, now)}: {lane.blocker.reason}; {lane.behind} behind it"
        )
