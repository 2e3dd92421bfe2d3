"""Stores what `relay enqueue` read, and reports the message ids, also where the outbox' answer is lost."""

import asyncio
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple, NoReturn

import typer

from relay.cli import output
from relay.core.model import Draft, classic_message_id
from relay.core.ports import StoreError

if TYPE_CHECKING:
    from relay.config.sections import OutboxSettings
    from relay.core.ports import Store


class Given(NamedTuple):
    """A message to enqueue, and where it was read from."""

    source: str
    draft: Draft


def store(given: Sequence[Given], at: "OutboxSettings", *, create: bool, as_json: bool) -> None:
    """Enqueue all or none, and print their ids.

    The ids are generated before, so that a repetition after a lost answer enqueues nothing twice.
    """
    from relay.cli.common import name_outbox, with_outbox
    from relay.cli.lost_answers import make_once

    named = [(one, _with_id(one.draft)) for one in given]
    drafts = [draft for _, draft in named]

    async def add(outbox: "Store") -> None:
        try:
            await make_once(lambda: outbox.add(drafts))
        except StoreError as error:
            if not error.answer_lost:
                raise
            output.print_note(f"relay: {error}")
            _fail_unknown(named, output.FAILURE)
        except asyncio.CancelledError:  # Ctrl-C
            _fail_unknown(named, output.INTERRUPTED)

    name_outbox(at.location, create=create)
    with_outbox(at, add, create=create)
    _print(drafts, at.place if as_json else None)


def _with_id(draft: Draft) -> Draft:
    return replace(draft, message_id=draft.message_id or classic_message_id(os.urandom(16)))


def _print(drafts: Iterable[Draft], place: str | None) -> None:
    """The ids, as JSON if the outbox' place is given; where they cannot be written, that all is stored."""
    try:
        if place is not None:
            names = ("tenant_id", "document_name", "message_id")
            objects = [{name: getattr(draft, name) for name in names} | {"outbox": place} for draft in drafts]
            output.print_json(objects)
        else:
            for draft in drafts:
                output.print_line(str(draft.message_id))
        output.flush()
    except OSError as error:
        output.discard(sys.stdout)
        output.print_note(f"relay: the messages are stored; their ids cannot be written: {error.strerror}")
        for draft in drafts:
            output.print_note(str(draft.message_id))
        raise typer.Exit(output.FAILURE) from None


def _fail_unknown(named: Sequence[tuple[Given, Draft]], code: int) -> NoReturn:
    """Say under which ids the messages are, if they are, and how to repeat the command."""
    count = "the message was" if len(named) == 1 else f"the {len(named)} messages were all"
    output.print_note(f"relay: it is not known whether {count} stored; nothing is enqueued twice if you")
    generated = [(one.source, draft.message_id) for one, draft in named if one.draft.message_id is None]
    if not generated:
        output.print_note("  repeat the command as it was: it names the message ids")
    else:
        output.print_note("  repeat it with the message ids that were generated:")
        for source, message_id in generated:
            output.print_note(f"  {source}: {message_id}")
    raise typer.Exit(code)
