"""`relay messages`: list, show, retry, park and drop messages."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from relay.cli import bulk, output
from relay.core.admin import Filter, MessageState, Record
from relay.core.model import DocumentName, MessageId, TenantId
from relay.reports.times import instant

if TYPE_CHECKING:
    from relay.reports.message import MessageReport

messages_app = typer.Typer(help="List and show messages; retry, park or drop them.", no_args_is_help=True)

State = Literal["pending", "delivered", "parked", "dropped"]

Tenant = Annotated[str | None, typer.Option(help="Only messages of this tenant.")]
Document = Annotated[str | None, typer.Option(help="Only messages of this document.")]
StateOption = Annotated[State | None, typer.Option(help="Only messages in this state.")]
Ids = Annotated[list[str] | None, typer.Argument(metavar="[MESSAGE_ID]...")]
Containing = Annotated[
    str | None,
    typer.Option("--containing", metavar="TEXT", help="Only messages whose reason contains this text."),
]
Reason = Annotated[str, typer.Option(help="Why; shown with the message and in the audit.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@messages_app.command("list")
def messages_list(
    tenant: Tenant = None,
    document: Document = None,
    state: StateOption = None,
    containing: Containing = None,
    limit: Annotated[int, typer.Option(min=1, help="Maximum number of messages.")] = 100,
    as_json: Json = False,
) -> None:
    """List messages in the order they were enqueued."""
    found = _find(_filter(tenant, document, state, (), containing), limit + 1)
    if as_json:
        output.print_json([_summary(record) for record in found[:limit]])
    elif found:
        head = ("message id", "tenant", "document", "state", "attempts", "enqueued", "reason")
        output.print_table(head, [_row(record) for record in found[:limit]])
    else:
        output.print_note("no message matches")
    if len(found) > limit:
        output.print_note(f"only the first {limit} are shown; see --limit")


@messages_app.command("show")
def show(
    message_id: Annotated[str, typer.Argument(metavar="MESSAGE_ID")],
    tenant: Tenant = None,
    as_json: Json = False,
) -> None:
    """Show a message's history and what it waits for."""
    from relay.cli.common import configured_tenants, load_settings, with_outbox
    from relay.reports import message

    settings, name = load_settings(), None if tenant is None else TenantId(tenant.upper())
    reports = with_outbox(
        settings.outbox,
        lambda outbox: message.read_messages(
            outbox, MessageId(message_id), name, configured_tenants(settings), datetime.now(UTC)
        ),
    )
    if not reports:
        output.fail(f"there is no message {message_id}", output.FAILURE)
    if as_json:
        values = [report.as_json() for report in reports]
        output.print_json(values if len(values) > 1 else values[0])
        return
    for number, report in enumerate(reports):
        if number:
            output.print_line("")
        _print(report)


@messages_app.command("retry")
def retry(
    message_ids: Ids = None,
    tenant: Tenant = None,
    document: Document = None,
    state: StateOption = None,
    containing: Containing = None,
    reason: Reason = "",
    yes: Yes = False,
) -> None:
    """Retry parked or dropped messages.

    They return to their place in the queue; for a waiting message the back-off ends. With filters
    instead of ids, parked messages are selected unless --state is given.
    """
    selection = _selection(message_ids, tenant, document, state, "parked", containing)
    bulk.run("retry", selection, reason, yes=yes)


@messages_app.command("park")
def park(
    message_ids: Ids = None,
    tenant: Tenant = None,
    document: Document = None,
    containing: Containing = None,
    reason: Reason = "parked by hand",
    yes: Yes = False,
) -> None:
    """Take waiting messages out of the queue.

    They stay parked until they are retried or dropped.
    """
    selection = _selection(
        message_ids, tenant, document, None if message_ids else "pending", "pending", containing
    )
    bulk.run("park", selection, reason, yes=yes)


@messages_app.command("drop")
def drop(
    message_ids: Ids = None,
    tenant: Tenant = None,
    document: Document = None,
    state: StateOption = None,
    containing: Containing = None,
    reason: Reason = "dropped by hand",
    yes: Yes = False,
) -> None:
    """Drop messages: they are not delivered.

    They are purged like delivered messages. With filters instead of ids, parked messages are selected unless
    --state is given.
    """
    selection = _selection(message_ids, tenant, document, state, "parked", containing)
    bulk.run("drop", selection, reason, yes=yes)


# --- selection ----------------------------------------------------------------------------------------------


def _filter(
    tenant: str | None,
    document: str | None,
    state: MessageState | None,
    ids: Sequence[str],
    containing: str | None,
) -> Filter:
    return Filter(
        None if tenant is None else TenantId(tenant.upper()),
        None if document is None else DocumentName(document),
        state,
        tuple(MessageId(given) for given in dict.fromkeys(ids)),
        containing,
    )


def _selection(
    ids: Sequence[str] | None,
    tenant: str | None,
    document: str | None,
    state: MessageState | None,
    default: MessageState,
    containing: str | None,
) -> Filter:
    if ids:
        return _filter(tenant, document, state, ids, containing)
    if tenant is None and document is None and state is None and containing is None:
        output.fail("give message ids, or select with --tenant, --document, --state or --containing")
    return _filter(tenant, document, state or default, (), containing)


def _find(selection: Filter, limit: int) -> Sequence[Record]:
    from relay.cli.common import load_settings, with_outbox

    return with_outbox(load_settings().outbox, lambda outbox: outbox.find(selection, limit))


# --- printing -----------------------------------------------------------------------------------------------


def _print(report: "MessageReport") -> None:
    record = report.record
    output.print_line(f"message {record.message_id}")
    output.print_line(
        f"  tenant {record.tenant_id}, document {record.document_name}, to {record.to_logical_id}"
    )
    if record.ordering_key is not None:
        output.print_line(f"  ordering key {record.ordering_key}")
    for name, value in record.parameters.items():
        output.print_line(f"  {name} = {value}")
    for happening in report.history:
        output.print_line(f"  {instant(happening.at) or ''}  {happening.text}")
    output.print_line(report.summary)
    for command in report.commands:
        output.print_line(f"  {command}")
    if report.waits_for and report.relay is not None:
        output.print_line(f"Its tenant is owned by {report.relay}.")
    for wait in report.waits_for:
        output.print_line(wait.sentence(report.context.now))


def _summary(record: Record) -> dict[str, Any]:
    return {
        "message_id": record.message_id,
        "tenant_id": record.tenant_id,
        "document_name": record.document_name,
        "state": record.state,
        "reason": record.reason,
        "attempts": record.attempts,
        "created_at": instant(record.created_at),
        "queued_at": instant(record.queued_at),
        "settled_at": instant(record.settled_at),
        "not_before": instant(record.not_before),
        "ordering_key": record.ordering_key,
        "size": record.size,
    }


def _row(record: Record) -> tuple[object, ...]:
    return (
        record.message_id,
        record.tenant_id,
        record.document_name,
        record.state,
        record.attempts,
        instant(record.created_at),
        record.reason or "",
    )
