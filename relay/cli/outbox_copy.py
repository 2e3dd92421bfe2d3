"""This file is `relay outbox copy`: move an outbox between SQLite and PostgreSQL, as often as it takes."""

import asyncio
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from relay.cli import output

if TYPE_CHECKING:
    from relay.config.sections import OutboxSettings
    from relay.outbox.transfer import Copied, CopySide


def copy(
    source: Annotated[str, typer.Argument(metavar="FROM", help="The outbox that is copied: a URL.")],
    target: Annotated[str, typer.Argument(metavar="TO", help="An empty outbox, or a part of this copy.")],
    force: Annotated[bool, typer.Option("--force", help="Even while a relay runs on FROM.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Copy an outbox into another one, ids and order unchanged. Cut off anywhere, it goes on when run again.

    Stop relays and applications that write to FROM first; start them on TO when it is done.
    """
    from relay.cli.common import settings
    from relay.outbox import shown
    from relay.outbox.transfer import RefusedError

    at = settings().outbox
    if source == target:
        output.give_up("FROM and TO are the same outbox")
    try:
        done = asyncio.run(_copied(at, source, target, force=force))
    except RefusedError as refused:
        output.give_up(str(refused), output.TROUBLE)
    finally:
        output.end_progress()
    if as_json:
        sides = {"from": dict(done.source), "to": dict(done.target)}
        output.as_json({"written": done.written, "complete": done.complete, **sides})
    else:
        _show(done, shown(source), shown(target))
    if not done.complete:
        output.give_up(
            "an outbox changed while it was copied; stop what writes to it, and copy again", output.TROUBLE
        )


async def _copied(at: "OutboxSettings", source: str, target: str, *, force: bool) -> "Copied":
    from relay.outbox.transfer import copy as copy_rows

    async with AsyncExitStack() as opened:
        here = await _side(opened, at, source, create=False, exclusive=not force)
        there = await _side(opened, at, target, create=True, exclusive=True)
        return await copy_rows(here, there, forced=force, progress=output.progress)


async def _side(
    opened: AsyncExitStack, at: "OutboxSettings", url: str, *, create: bool, exclusive: bool
) -> "CopySide":
    """`exclusive`: no relay begins on a file meanwhile, nor another copy. `at`: the names of tables."""
    from relay.outbox import open_outbox, shown
    from relay.outbox.transfer import CopySide

    location = replace(at.location, url=url)
    outbox = await open_outbox(location, create=create, exclusive=exclusive, notify=False)
    opened.push_async_callback(outbox.close)
    return CopySide(shown(url), outbox.transfer, outbox)


def _show(done: "Copied", source: str, target: str) -> None:
    output.table(
        ("state", "from", "to"), [(state, count, done.target[state]) for state, count in done.source.items()]
    )
    output.line(f"{source} is copied to {target}: {done.written} rows in this run")
