"""`relay outbox copy`: move an outbox between SQLite and PostgreSQL; an interrupted copy is resumed."""

import asyncio
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from relay.cli import output

if TYPE_CHECKING:
    from relay.outbox import OutboxLocation
    from relay.outbox.transfer import Copied, CopySide


def copy(
    source: Annotated[str, typer.Argument(metavar="FROM", help="URL of the outbox to copy.")],
    target: Annotated[
        str, typer.Argument(metavar="TO", help="URL of an empty outbox, or of an interrupted copy of FROM.")
    ],
    force: Annotated[bool, typer.Option("--force", help="Copy even while a relay runs on FROM.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Copy an outbox to another database; ids and order stay the same.

    Stop the relays and applications that write to FROM first, and start them on TO afterwards. An
    interrupted copy resumes when the command is run again.
    """
    from relay.cli.common import load_settings
    from relay.outbox.transfer import RefusedError

    at = load_settings().outbox
    here, there = (replace(at.location, url=url) for url in (source, target))
    if source == target or _is_one_file(here, there):
        output.fail("FROM and TO are the same outbox")
    try:
        done = asyncio.run(_copied(here, there, force=force))
    except RefusedError as refused:
        output.fail(str(refused), output.FAILURE)
    finally:
        output.clear_progress()
    if as_json:
        sides = {"from": dict(done.source), "to": dict(done.target)}
        places = {"source": here.place, "target": there.place}
        output.print_json({"written": done.written, "complete": done.complete, **sides, **places})
    else:
        _show(done, here.shown, there.shown)
    if not done.complete:
        output.fail(
            "the outbox changed while it was copied; stop what writes to it, and copy again", output.FAILURE
        )


def _is_one_file(source: "OutboxLocation", target: "OutboxLocation") -> bool:
    """Whether both name the same file, perhaps by a link. Raises StoreError where one names no outbox."""
    if source.is_served or target.is_served:
        return False
    try:
        return source.path.samefile(target.path)
    except OSError:  # one does not exist; opening it explains what is wrong
        return False


async def _copied(source: "OutboxLocation", target: "OutboxLocation", *, force: bool) -> "Copied":
    from relay.cli.common import name_outbox
    from relay.outbox.transfer import copy as copy_rows

    async with AsyncExitStack() as opened:
        here = await _side(opened, source, create=False, exclusive=not force)
        name_outbox(source)
        name_outbox(target, create=True)
        there = await _side(opened, target, create=True, exclusive=True)
        return await copy_rows(here, there, forced=force, progress=output.show_progress)


async def _side(
    opened: AsyncExitStack, location: "OutboxLocation", *, create: bool, exclusive: bool
) -> "CopySide":
    """`exclusive`: no relay and no other copy can open a file meanwhile."""
    from relay.outbox import open_outbox
    from relay.outbox.transfer import CopySide

    outbox = await open_outbox(location, create=create, exclusive=exclusive, notify=False)
    opened.push_async_callback(outbox.close)
    return CopySide(location.shown, outbox.transfer, outbox)


def _show(done: "Copied", source: str, target: str) -> None:
    output.print_table(
        ("state", "from", "to"), [(state, count, done.target[state]) for state, count in done.source.items()]
    )
    output.print_line(f"{source} was copied to {target}: {done.written} rows in this run")
