"""This file is a decision about messages at the command line: preview, question, and the way to its end."""

import asyncio
import signal
import sys
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer

from relay.cli import output
from relay.core.admin import Action, AuditAction, AuditEntry, BulkAction, Filter, Preview, Record

if TYPE_CHECKING:
    from relay.core.ports import Store

_DONE: dict[AuditAction, str] = {"retry": "retried", "park": "parked", "drop": "dropped"}

_INTERRUPTED = 130

_GROUPS_SHOWN = 10
_SAMPLE = 5


def decide(what: Action, wanted: Filter, reason: str, *, yes: bool) -> None:
    """Look, ask where many are meant, and change exactly those that were there to see."""
    from relay.cli.common import at_outbox, settings, who

    at = settings().outbox
    if wanted.ids:
        _check_ids(wanted, at_outbox(at, lambda outbox: outbox.find(wanted, limit=10 * len(wanted.ids))))
    preview = at_outbox(at, lambda outbox: outbox.preview(what, wanted, _SAMPLE))
    if not wanted.ids and not preview.total:
        output.line(f"0 messages {_DONE[what]}: there are no such messages")
        return
    if not wanted.ids and not yes:
        _ask(preview)
    order = BulkAction(what, preview.wanted, who(), reason)
    try:
        done, interrupted = at_outbox(at, lambda outbox: _carry_out(outbox, order, preview.total))
    finally:
        output.end_progress()
    _report(done, wanted, interrupted=interrupted)


async def _carry_out(outbox: "Store", order: BulkAction, altogether: int) -> tuple[AuditEntry, bool]:
    """Chunk by chunk to the end, or until Ctrl-C, after which it is cancelled; and whether there was one."""
    loop, interrupted = asyncio.get_running_loop(), asyncio.Event()
    loop.add_signal_handler(signal.SIGINT, interrupted.set)
    try:
        audit_id = await outbox.begin(order)
        while (entry := await outbox.advance(audit_id)).outcome == "running":
            output.progress(entry.messages, altogether)
            if interrupted.is_set():
                await outbox.cancel(audit_id, order.who)
        return entry, interrupted.is_set()
    finally:
        loop.remove_signal_handler(signal.SIGINT)


def _report(done: AuditEntry, wanted: Filter, *, interrupted: bool) -> None:
    participle = _DONE[done.what]
    output.line(f"{done.messages} message{'' if done.messages == 1 else 's'} {participle}")
    if done.outcome == "cancelled":
        output.note("relay: cancelled before the rest; see relay audit")
        raise typer.Exit(_INTERRUPTED if interrupted else output.TROUBLE)
    if wanted.ids and done.messages < len(wanted.ids):
        output.note(
            f"relay: {len(wanted.ids) - done.messages} could not be {participle}: "
            "see their state with relay messages show"
        )
        raise typer.Exit(output.TROUBLE)


def _check_ids(wanted: Filter, found: Sequence[Record]) -> None:
    known = Counter(record.message_id for record in found)
    missing = [given for given in wanted.ids if given not in known]
    if missing:
        output.refuse(
            [*(f"there is no message {given}" for given in missing), "nothing was done"], output.TROUBLE
        )
    twice = [given for given, times in known.items() if times > 1]
    if twice:
        output.give_up(
            f"several tenants have a message {twice[0]}; say which with --tenant; nothing was done"
        )


def _ask(preview: Preview) -> None:
    one = preview.total == 1
    output.note(f"{preview.total} message{'' if one else 's'} would be {_DONE[preview.what]}, among them:")
    for tenant, document, state, number in preview.groups[:_GROUPS_SHOWN]:
        output.note(f"  {number} of {tenant}, {document}, {state}")
    for record in preview.sample:
        output.note(f"  {record.message_id}{f'  {record.reason}' if record.reason else ''}")
    if preview.total > len(preview.sample):
        output.note("  …")
    if not asks():
        output.give_up("nobody is here to ask; add --yes to do it")
    typer.confirm("Go on?", abort=True, err=True)


def asks() -> bool:
    """Whether there is a person who could answer."""
    return sys.stdin.isatty()
