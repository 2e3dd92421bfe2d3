"""This file is `relay messages`: list and show them, retry, park and drop them."""

import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from relay.cli import say
from relay.model import DocumentName, MessageId, TenantId
from relay.ports import Filter, MessageState, Record

if TYPE_CHECKING:
    from relay.ports import Store

messages_app = typer.Typer(help="Look at messages, and decide about them.", no_args_is_help=True)

State = Literal["pending", "delivered", "parked", "dropped"]

Tenant = Annotated[str | None, typer.Option(help="Only this tenant's.")]
Document = Annotated[str | None, typer.Option(help="Only those of this document name.")]
StateOption = Annotated[State | None, typer.Option(help="Only those in this state.")]
Ids = Annotated[list[str] | None, typer.Argument(metavar="[MESSAGE_ID]...")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask before many are changed.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]

_MOST = 10_000
"""So many are pinned one by one between the preview and the decision; beyond, all that match are meant."""


@messages_app.command("list")
def messages_list(
    tenant: Tenant = None,
    document: Document = None,
    state: StateOption = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 100,
    as_json: Json = False,
) -> None:
    """List messages in the order they were handed over."""
    found = _found(_filter(tenant, document, state, ()), limit + 1)
    if as_json:
        say.as_json([_summary(record) for record in found[:limit]])
    elif found:
        head = ("message id", "tenant", "document", "state", "attempts", "handed over", "reason")
        say.table(head, [_row(record) for record in found[:limit]])
    else:
        say.note("no such messages")
    if len(found) > limit:
        say.note(f"these are the first {limit}; see --limit")


@messages_app.command("show")
def show(
    message_id: Annotated[str, typer.Argument(metavar="MESSAGE_ID")],
    tenant: Tenant = None,
    as_json: Json = False,
) -> None:
    """Tell a message's whole story: what happened, what it waits for, since when, and its next try."""
    from relay.cli import telling

    told = telling.tell(MessageId(message_id), None if tenant is None else TenantId(tenant.upper()))
    if not told:
        say.give_up(f"there is no message {message_id}", say.TROUBLE)
    if as_json:
        say.as_json([one.as_json() for one in told] if len(told) > 1 else told[0].as_json())
        return
    for number, one in enumerate(told):
        if number:
            say.line("")
        for text in one.lines():
            say.line(text)


@messages_app.command("retry")
def retry(
    message_ids: Ids = None,
    tenant: Tenant = None,
    document: Document = None,
    state: StateOption = None,
    yes: Yes = False,
) -> None:
    """Put parked or dropped messages back at their place in the queue, and end a waiting one's own delay.

    With filters in place of ids, the parked ones are meant unless --state says otherwise.
    """
    wanted = _wanted(message_ids, tenant, document, state, "parked")
    _decide("retried", wanted, yes, lambda outbox, chosen: outbox.retry(chosen))


@messages_app.command("park")
def park(
    message_ids: Ids = None,
    tenant: Tenant = None,
    document: Document = None,
    reason: Annotated[str, typer.Option(help="Why; it is shown with the message.")] = "parked by hand",
    yes: Yes = False,
) -> None:
    """Take waiting messages out of the queue until they are retried or dropped."""
    wanted = _wanted(message_ids, tenant, document, None if message_ids else "pending", "pending")
    _decide("parked", wanted, yes, lambda outbox, chosen: outbox.park(chosen, reason))


@messages_app.command("drop")
def drop(
    message_ids: Ids = None,
    tenant: Tenant = None,
    document: Document = None,
    state: StateOption = None,
    reason: Annotated[str, typer.Option(help="Why; it is shown with the message.")] = "dropped by hand",
    yes: Yes = False,
) -> None:
    """Give messages up: they will not be delivered, and go when delivered ones do.

    With filters in place of ids, the parked ones are meant unless --state says otherwise.
    """
    wanted = _wanted(message_ids, tenant, document, state, "parked")
    _decide("dropped", wanted, yes, lambda outbox, chosen: outbox.drop(chosen, reason))


# --- which ones ---------------------------------------------------------------------------------------------


def _filter(
    tenant: str | None, document: str | None, state: MessageState | None, ids: Sequence[str]
) -> Filter:
    return Filter(
        None if tenant is None else TenantId(tenant.upper()),
        None if document is None else DocumentName(document),
        state,
        tuple(MessageId(given) for given in dict.fromkeys(ids)),
    )


def _wanted(
    ids: Sequence[str] | None,
    tenant: str | None,
    document: str | None,
    state: MessageState | None,
    usual: MessageState,
) -> Filter:
    if ids:
        return _filter(tenant, document, state, ids)
    if tenant is None and document is None and state is None:
        say.give_up("give message ids, or say which with --tenant, --document or --state")
    return _filter(tenant, document, state or usual, ())


def _found(wanted: Filter, limit: int) -> Sequence[Record]:
    from relay.cli.desk import at_outbox, settings

    return at_outbox(settings().outbox, lambda outbox: outbox.find(wanted, limit))


# --- deciding -----------------------------------------------------------------------------------------------


def _decide(
    what: str,
    wanted: Filter,
    yes: bool,
    decide: "Callable[[Store, Filter], Awaitable[int]]",
) -> None:
    """Look, ask where many are meant, and change exactly those that were there to see."""
    from relay.cli.desk import at_outbox, settings

    found = _found(wanted, _MOST + 1)
    if wanted.ids:
        _check_ids(wanted, found)
    elif not found:
        say.line(f"0 messages {what}: there are no such messages")
        return
    elif not yes:
        _ask(found, what)
    chosen = wanted if len(found) > _MOST else _exactly(wanted, found)
    done = at_outbox(settings().outbox, lambda outbox: decide(outbox, chosen))
    say.line(f"{done} message{'' if done == 1 else 's'} {what}")
    if wanted.ids and done < len(wanted.ids):
        say.note(
            f"relay: {len(wanted.ids) - done} could not be {what}: see their state with relay messages show"
        )
        raise typer.Exit(say.TROUBLE)


def _exactly(wanted: Filter, found: Sequence[Record]) -> Filter:
    ids = tuple(dict.fromkeys(record.message_id for record in found))
    return Filter(wanted.tenant, wanted.document, wanted.state, ids)


def _check_ids(wanted: Filter, found: Sequence[Record]) -> None:
    known = Counter(record.message_id for record in found)
    missing = [given for given in wanted.ids if given not in known]
    if missing:
        say.refuse([*(f"there is no message {given}" for given in missing), "nothing was done"], say.TROUBLE)
    twice = [given for given, times in known.items() if times > 1]
    if twice:
        say.give_up(f"several tenants have a message {twice[0]}; say which with --tenant; nothing was done")


def _ask(found: Sequence[Record], what: str) -> None:
    many = f"more than {_MOST}" if len(found) > _MOST else str(len(found))
    say.note(f"{many} message{'' if len(found) == 1 else 's'} would be {what}, among them:")
    groups = Counter((record.tenant_id, record.document_name, record.state) for record in found)
    for (tenant, document, state), number in groups.most_common(10):
        say.note(f"  {number} of {tenant}, {document}, {state}")
    for record in found[:5]:
        say.note(f"  {record.message_id}{f'  {record.reason}' if record.reason else ''}")
    if len(found) > 5:
        say.note("  …")
    if not _asks():
        say.give_up("nobody is here to ask; add --yes to do it")
    typer.confirm("Go on?", abort=True, err=True)


def _asks() -> bool:
    """Whether there is a person who could answer."""
    return sys.stdin.isatty()


# --- showing ------------------------------------------------------------------------------------------------


def _summary(record: Record) -> dict[str, Any]:
    return {
        "message_id": record.message_id,
        "tenant_id": record.tenant_id,
        "document_name": record.document_name,
        "state": record.state,
        "reason": record.reason,
        "attempts": record.attempts,
        "created_at": say.instant(record.created_at),
        "queued_at": say.instant(record.queued_at),
        "settled_at": say.instant(record.settled_at),
        "not_before": say.instant(record.not_before),
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
        say.instant(record.created_at),
        record.reason or "",
    )
