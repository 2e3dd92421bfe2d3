"""This file is how an outbox is copied into another one, whole, in batches, as often as it takes to finish.

Nothing is noted about how far a copy came: what TO holds says it. So a copy that was cut off anywhere is
begun again, compares what is there, and goes on. What TO holds must be FROM's, or the copy refuses before
it writes anything.
"""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass

from relay.core.admin import Admin
from relay.outbox.transfer_rows import Entry, Row, Rows

BATCH = 500
BATCH_BYTES = 8 * 1024 * 1024
"""A batch is one transaction in TO and in memory as a whole: at most so many rows, about so many bytes."""

STATES = ("pending", "delivered", "parked", "dropped")


class RefusedError(Exception):
    """The copy must not be made as things are; the text says why and what to do. TO is as it was."""


@dataclass(frozen=True, slots=True)
class Side:
    """An outbox in a copy. `name` is what people read: its URL without a password."""

    name: str
    rows: Rows
    desk: Admin


@dataclass(frozen=True, slots=True)
class Copied:
    """What came of it: rows written in this run, and the messages by state on both sides in the end."""

    written: int
    source: Mapping[str, int]
    target: Mapping[str, int]

    @property
    def complete(self) -> bool:
        """Whether both hold the same; if not, somebody wrote to one of them meanwhile."""
        return self.source == self.target


async def copy(source: Side, target: Side, *, forced: bool, tell: Callable[[int, int], None]) -> Copied:
    """Make TO hold what FROM holds: rows with ids, states, times and stories, and what persons decided.

    `forced`: even while a relay runs on FROM. `tell` gets (rows seen, rows altogether) after each batch.
    Raises RefusedError, and StoreError as the outboxes do; then it may be run again.
    """
    await _require_still(source, target, forced=forced)
    shared = await _shared(source, target)
    await _copy_audit(source, target)
    await target.rows.skip_to(await source.rows.last())
    await target.rows.decide(await source.rows.decided())
    altogether, seen, written = sum((await _by_state(source)).values()), 0, 0
    async for batch in _batches(source.rows):
        wanted = await _missing(target.rows, batch) if batch[0].id <= shared else batch
        if wanted:
            await target.rows.take_in(wanted)
        seen, written = seen + len(batch), written + len(wanted)
        tell(seen, max(seen, altogether))
    await target.rows.skip_to(await source.rows.last())
    return Copied(written, await _by_state(source), await _by_state(target))


# --- may it be made? ------------------------------------------------------------------------------


async def _require_still(source: Side, target: Side, *, forced: bool) -> None:
    for side, excused in ((target, False), (source, forced)):
        running = [beat.relay for beat in await side.desk.relays() if beat.alive]
        if running and not excused:
            raise RefusedError(
                f"a relay runs on {side.name} ({', '.join(running)}); stop it first, "
                "and wait 15 s if it was killed"
            )


async def _shared(source: Side, target: Side) -> int:
    """The highest id that TO holds already, 0 for none. Raises RefusedError if any of it is not FROM's."""
    last = 0
    async for batch in _batches(target.rows):
        known = {row.id: row for row in await source.rows.pick([row.id for row in batch])}
        for row in batch:
            _require_part(row, known.get(row.id), source, target)
        last = batch[-1].id
    return last


def _require_part(there: Row, here: Row | None, source: Side, target: Side) -> None:
    named = f"message {there.message_id!r} of tenant {there.tenant_id} (row {there.id})"
    if here is None or there.enqueued != here.enqueued:
        raise RefusedError(
            f"{target.name} holds {named}, which {source.name} does not; "
            "copy into an empty outbox, or into a part of the same copy"
        )
    if there.state == "delivered" and here.state != "delivered":
        raise RefusedError(
            f"{named} is delivered in {target.name} and {here.state} in {source.name}: "
            "a relay worked on the copy; go on with it there, or copy into an empty outbox"
        )


async def _copy_audit(source: Side, target: Side) -> None:
    """All of it, before the rows. Raises RefusedError if TO's has entries of its own."""
    here = {entry.id: entry async for entry in _entries(source.rows)}
    async for entry in _entries(target.rows):
        if entry.id not in here or here[entry.id].begun != entry.begun:
            raise RefusedError(
                f"the audit of {target.name} has an entry that {source.name} has not "
                f"({entry.what} by {entry.who}, entry {entry.id}); copy into an outbox where nobody decided "
                "anything yet, or into a part of the same copy"
            )
    entries = list(here.values())
    for start in range(0, len(entries), BATCH):
        await target.rows.enter(entries[start : start + BATCH])


async def _entries(rows: Rows) -> AsyncIterator[Entry]:
    after = 0
    while page := await rows.entries(after, BATCH):
        for entry in page:
            yield entry
        after = page[-1].id


# --- the rows -------------------------------------------------------------------------------------


async def _batches(rows: Rows) -> AsyncIterator[Sequence[Row]]:
    after = 0
    while batch := await rows.page(after, BATCH, BATCH_BYTES):
        yield batch
        after = batch[-1].id


async def _missing(target: Rows, batch: Sequence[Row]) -> Sequence[Row]:
    """Those of the batch that TO has not, or has as they were before."""
    there = {row.id: row for row in await target.pick([row.id for row in batch])}
    return [row for row in batch if row.id not in there or row.whole != there[row.id].whole]


async def _by_state(side: Side) -> Mapping[str, int]:
    counts = (await side.desk.counts()).values()
    return {state: sum(getattr(count, state) for count in counts) for state in STATES}
