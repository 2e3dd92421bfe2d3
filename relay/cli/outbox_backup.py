"""`relay outbox backup` and `relay outbox restore`: a copy of a SQLite outbox, and its return."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from relay.cli import output

if TYPE_CHECKING:
    from relay.outbox.sqlite.backup import Restored, States


def backup(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The backup to make.", show_default=False)],
    force: Annotated[bool, typer.Option("--force", help="Replace FILE if it exists.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Back up a SQLite outbox, also while a relay runs.

    The backup is the outbox at one moment, checked, and readable by its owner alone. FILE appears only when
    it is complete.
    """
    from relay import outbox
    from relay.cli.common import load_settings, name_outbox
    from relay.outbox.location import absolute

    at = load_settings().outbox
    name_outbox(at.location)
    try:
        made = outbox.back_up(at.location, file, force=force, progress=_show_pages)
    finally:
        output.clear_progress()
    if as_json:
        backup_json = {"path": str(absolute(file)), "bytes": made.bytes}
        output.print_json({"outbox": at.place, "backup": backup_json, **made.states})
        return
    output.print_line(f"the outbox {at.place} was backed up to {file}: {_words(made.states)}")


def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The backup.", show_default=False)],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Put a backup in the place of a SQLite outbox.

    Stop the relay and every application that uses the outbox first. FILE is checked and copied; the outbox
    that it replaces is kept beside it. Messages that were delivered since the backup may be sent again.
    """
    from relay import outbox
    from relay.cli.common import current_user, load_settings, name_outbox
    from relay.outbox.location import absolute

    at = load_settings().outbox
    name_outbox(at.location, create=True)
    try:
        done = outbox.restore(at.location, file, who=current_user(), progress=_show_pages)
    finally:
        output.clear_progress()
    if as_json:
        output.print_json(_as_json(done, file))
        return
    output.print_line(f"the outbox {absolute(done.path)} was restored from {file}: {_words(done.states)}")
    for line in _consequences(done):
        output.print_line(line)


def _show_pages(done: int, total: int) -> None:
    output.show_progress(done, total, "pages")


def _words(states: "States") -> str:
    return ", ".join(f"{count:,} {state}" for state, count in states.items())


def _consequences(done: "Restored") -> list[str]:
    """What the operator has to know of the messages since the backup."""
    compared, lines = done.compared, []
    if compared is None:
        lines.append(
            "how many messages were delivered since the backup is unknown: no outbox that can be read was "
            "replaced; all of them may be sent again, under the same message ids"
        )
    else:
        lines.append(
            f"{compared.sent_again:,} messages that were delivered since the backup may be sent again, under "
            "the same message ids"
        )
        if compared.waiting_again:
            lines.append(f"{compared.waiting_again:,} messages that were parked or dropped since wait again")
        if compared.missing:
            lines.append(
                f"{compared.missing:,} messages that were enqueued since are only in the replaced outbox; "
                f"{compared.missing_undelivered:,} of them were not delivered: enqueue these again"
            )
    if done.replaced is not None:
        lines.append(f"the replaced outbox is kept: {done.replaced}")
    return lines


def _as_json(done: "Restored", file: Path) -> dict[str, object]:
    from relay.outbox.location import absolute

    compared = done.compared
    return {
        "outbox": str(absolute(done.path)),
        "backup": str(absolute(file)),
        "replaced": None if done.replaced is None else str(done.replaced),
        "sent_again": None if compared is None else compared.sent_again,
        "waiting_again": None if compared is None else compared.waiting_again,
        "missing": None if compared is None else compared.missing,
        "missing_undelivered": None if compared is None else compared.missing_undelivered,
        **done.states,
    }
