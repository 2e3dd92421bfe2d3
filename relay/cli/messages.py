"""This file is `relay messages`: list and show them, retry, park and drop them."""

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

messages_app = typer.Typer(help="Look at messages, and decide about them.", no_args_is_help=True)

State = Literal["pending", "delivered", "parked", "dropped"]

Tenant = Annotated[str | None, typer.Option(help="Only this tenant's.")]
Document = Annotated[str | None, typer.Option(help="Only those of this document name.")]
StateOption = Annotated[State | None, typer.Option(help="Only those in this state.")]
Ids = Annotated[list[str] | None, typer.Argument(metavar="[MESSAGE_ID]...")]
Containing = Annotated[
    str | None, typer.Option("--containing", metavar="TEXT", help="Only those whose reason contains this.")
]
Reason = Annotated[str, typer.Option(help="Why; it is shown with the message, and in the audit.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask before many are changed.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@messages_app.command("list")
def messages_list(
    tenant: Tenant = None,
    document: Document = None,
    state: StateOption = None,
    containing: Containing = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 100,
    as_json: Json = False,
) -> None:
    """List messages in the order they were handed over."""
    found = _found(_filter(tenant, document, state, (), containing), limit + 1)
    if as_json:
        output.as_json([_summary(record) for record in found[:limit]])
    elif found:
        head = ("message id", "tenant", "document", "state", "attempts", "handed over", "reason")
        output.table(head, [_row(record) for record in found[:limit]])
    else:
        output.note("no such messages")
    if len(found) > limit:
        output.note(f"these are the first {limit}; see --limit")


@messages_app.command("show")
def show(
    message_id: Annotated[str, typer.Argument(metavar="MESSAGE_ID")],
    tenant: Tenant = None,
    as_json: Json = False,
) -> None:
    """Tell a message's whole story: what happened, what it waits for, since when, and its next try."""
    from relay.cli.common import at_outbox, configured, settings
    from relay.reports import message

    known, name = settings(), None if tenant is None else TenantId(tenant.upper())
    told = at_outbox(
        known.outbox,
        lambda outbox: message.read_messages(
            outbox, MessageId(message_id), name, configured(known), datetime.now(UTC)
        ),
    )
    if not told:
        output.give_up(f"there is no message {message_id}", output.TROUBLE)
    if as_json:
        output.as_json([one.as_json() for one in told] if len(told) > 1 else told[0].as_json())
        return
    for number, one in enumerate(told):
        if number:
            output.line("")
        _tell(one)


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
    """Put parked or dropped messages back at their place in the queue, and end a waiting one's own delay.

    With filters in place of ids, the parked ones are meant unless --state says otherwise.
    """
    wanted = _wanted(message_ids, tenant, document, state, "parked", containing)
    bulk.decide("retry", wanted, reason, yes=yes)


@messages_app.command("park")
def park(
    message_ids: Ids = None,
    tenant: Tenant = None,
    document: Document = None,
    containing: Containing = None,
    reason: Reason = "parked by hand",
    yes: Yes = False,
) -> None:
    """Take waiting messages out of the queue until they are retried or dropped."""
    wanted = _wanted(message_ids, tenant, document, None if message_ids else "pending", "pending", containing)
    bulk.decide("park", wanted, reason, yes=yes)


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
    """Give messages up: they will not be delivered, and go when delivered ones do.

    With filters in place of ids, the parked ones are meant unless --state says otherwise.
    """
    wanted = _wanted(message_ids, tenant, document, state, "parked", containing)
    bulk.decide("drop", wanted, reason, yes=yes)


# --- which ones ---------------------------------------------------------------------------------------------


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


def _wanted(
    ids: Sequence[str] | None,
    tenant: str | None,
    document: str | None,
    state: MessageState | None,
    usual: MessageState,
    containing: str | None,
) -> Filter:
    if ids:
        return _filter(tenant, document, state, ids, containing)
    if tenant is None and document is None and state is None and containing is None:
        output.give_up("give message ids, or say which with --tenant, --document, --state or --containing")
    return _filter(tenant, document, state or usual, (), containing)


def _found(wanted: Filter, limit: int) -> Sequence[Record]:
    from relay.cli.common import at_outbox, settings

    return at_outbox(settings().outbox, lambda outbox: outbox.find(wanted, limit))


# --- showing ------------------------------------------------------------------------------------------------


def _tell(story: "MessageReport") -> None:
    record = story.record
    output.line(f"message {record.message_id}")
    output.line(f"  tenant {record.tenant_id}, document {record.document_name}, to {record.to_logical_id}")
    if record.ordering_key is not None:
        output.line(f"  ordering key {record.ordering_key}")
    for name, value in record.parameters.items():
        output.line(f"  {name} = {value}")
    for happening in story.history:
        output.line(f"  {instant(happening.at) or ''}  {happening.text}")
    output.line(story.summary)
    if story.waits_for and story.relay is not None:
        output.line(f"Its tenant is carried by {story.relay}.")
    for wait in story.waits_for:
        output.line(wait.sentence(story.context.now))


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
