"""Bulk actions on messages: preview, confirmation, execution in chunks, and cancellation by Ctrl-C."""

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

_PARTICIPLES: dict[AuditAction, str] = {"retry": "retried", "park": "parked", "drop": "dropped"}

_MAX_GROUPS = 10
_SAMPLE_SIZE = 5


def run(action: Action, selection: Filter, reason: str, *, yes: bool) -> None:
    """Preview, ask for confirmation unless ids were given, and change exactly the messages previewed."""
    from relay.cli.common import current_user, load_settings, name_outbox, with_outbox

    at = load_settings().outbox
    name_outbox(at.location)
    if selection.ids:
        _check_ids(
            selection, with_outbox(at, lambda outbox: outbox.find(selection, limit=10 * len(selection.ids)))
        )
    preview = with_outbox(at, lambda outbox: outbox.preview(action, selection, _SAMPLE_SIZE))
    if not selection.ids and not preview.total:
        output.print_line(f"0 messages {_PARTICIPLES[action]}: no message matches")
        return
    if not selection.ids and not yes:
        _confirm(preview)
    bulk_action = BulkAction(action, preview.wanted, current_user(), reason)
    try:
        done, interrupted = with_outbox(at, lambda outbox: _execute(outbox, bulk_action, preview.total))
    finally:
        output.clear_progress()
    _report(done, selection, interrupted=interrupted)


async def _execute(outbox: "Store", action: BulkAction, total: int) -> tuple[AuditEntry, bool]:
    """Run all chunks, or cancel the rest on Ctrl-C; the audit entry, and whether Ctrl-C was pressed."""
    from relay.cli.lost_answers import begin_once, make_once

    loop, interrupted = asyncio.get_running_loop(), asyncio.Event()
    loop.add_signal_handler(signal.SIGINT, interrupted.set)
    try:
        audit_id = await begin_once(outbox, action)
        while (entry := await make_once(lambda: outbox.advance(audit_id))).outcome == "running":
            output.show_progress(entry.messages, total)
            if interrupted.is_set():
                await make_once(lambda: outbox.cancel(audit_id, action.who))
        return entry, interrupted.is_set()
    finally:
        loop.remove_signal_handler(signal.SIGINT)


def _report(done: AuditEntry, selection: Filter, *, interrupted: bool) -> None:
    participle = _PARTICIPLES[done.what]
    output.print_line(f"{done.messages} message{'' if done.messages == 1 else 's'} {participle}")
    if done.outcome == "cancelled":
        output.print_note("relay: cancelled before all messages were changed; see relay audit")
        raise typer.Exit(output.INTERRUPTED if interrupted else output.FAILURE)
    if selection.ids and done.messages < len(selection.ids):
        output.print_note(
            f"relay: {len(selection.ids) - done.messages} could not be {participle}: "
            "see their state with relay messages show"
        )
        raise typer.Exit(output.FAILURE)


def _check_ids(selection: Filter, found: Sequence[Record]) -> None:
    known = Counter(record.message_id for record in found)
    missing = [given for given in selection.ids if given not in known]
    if missing:
        errors = [*(f"there is no message {given}" for given in missing), "nothing was changed"]
        output.fail_with(errors, output.FAILURE)
    ambiguous = [given for given, times in known.items() if times > 1]
    if ambiguous:
        output.fail(f"several tenants have a message {ambiguous[0]}; give --tenant; nothing was changed")


def _confirm(preview: Preview) -> None:
    one = preview.total == 1
    output.print_note(
        f"{preview.total} message{'' if one else 's'} would be {_PARTICIPLES[preview.what]}, among them:"
    )
    for tenant, document, state, number in preview.groups[:_MAX_GROUPS]:
        output.print_note(f"  {number} of {tenant}, {document}, {state}")
    for record in preview.sample:
        output.print_note(f"  {record.message_id}{f'  {record.reason}' if record.reason else ''}")
    if preview.total > len(preview.sample):
        output.print_note("  …")
    if not is_interactive():
        output.fail("cannot ask for confirmation without a terminal; add --yes")
    output.confirm("Continue?")


def is_interactive() -> bool:
    """Whether an operator can answer a question."""
    return sys.stdin.isatty()
