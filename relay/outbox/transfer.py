"""Copies an outbox into another one, whole, in batches; a copy that was interrupted is resumed.

How far a copy came is not recorded, but read from what TO holds. So a copy that was interrupted anywhere is
started again, compares what is there, and continues. What TO holds must be FROM's, or the copy is refused
before it writes anything.
"""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass

from relay.core.admin import FIRST, Admin
from relay.core.ports import RowRefusedError
from relay.outbox.isolation import isolate
from relay.outbox.transfer_rows import StoredAuditEntry, StoredMessage, Transfer

BATCH = 500
BATCH_BYTES = 8 * 1024 * 1024
"""A batch is one transaction in TO and in memory as a whole: rows at most, payload bytes approximately."""

_ISOLATING_SECONDS = 10.0
"""So long the rows that TO refuses are looked for one by one."""

STATES = ("pending", "delivered", "parked", "dropped")


class RefusedError(Exception):
    """The copy must not be made as things are; the text gives the reason and the hint. TO is unchanged."""


@dataclass(frozen=True, slots=True)
class CopySide:
    """An outbox in a copy. `name` is what people read: its URL without a password."""

    name: str
    transfer: Transfer
    admin: Admin


@dataclass(frozen=True, slots=True)
class Copied:
    """The result: rows written in this run, and the messages by state on both sides in the end."""

    written: int
    source: Mapping[str, int]
    target: Mapping[str, int]

    @property
    def complete(self) -> bool:
        """Whether both hold the same; if not, somebody wrote to one of them meanwhile."""
        return self.source == self.target


async def copy(
    source: CopySide, target: CopySide, *, forced: bool, progress: Callable[[int, int], None]
) -> Copied:
    """Make TO hold what FROM holds: rows with ids, states, times and history, pauses, and the audit.

    `forced`: even while a relay runs on FROM. `progress` gets (rows read, rows in all) after each batch.
    Raises RefusedError, and StoreError as the outboxes do; then it may be run again.
    """
    await _require_stopped(source, target, forced=forced)
    copied = await _copied_up_to(source, target)
    await _copy_audit(source, target)
    await target.transfer.skip_ids(await source.transfer.last_id())
    await target.transfer.write_controls(await source.transfer.read_controls())
    total, seen, written = sum((await _by_state(source)).values()), 0, 0
    async for batch in _batches(source.transfer):
        wanted = await _missing(target.transfer, batch) if batch[0].id <= copied else batch
        await _write(target, wanted)
        seen, written = seen + len(batch), written + len(wanted)
        progress(seen, max(seen, total))
    await target.transfer.skip_ids(await source.transfer.last_id())
    return Copied(written, await _by_state(source), await _by_state(target))


async def _write(target: CopySide, rows: Sequence[StoredMessage]) -> None:
    """All of them but those that TO refuses, of which the error names the first."""
    _, refused = await isolate(rows, target.transfer.write_rows, _ISOLATING_SECONDS) if rows else ([], [])
    if refused:
        row, words = refused[0]
        raise RowRefusedError(
            f"message {row.message_id!r} of tenant {row.tenant_id} (row {row.id}) cannot be written into "
            f"{target.name}, nor can {len(refused) - 1} others of the {len(rows)} read with it: {words}; "
            "correct the trigger or the constraint that refuses it, then run the copy again"
        )


# --- checks before ---------------------------------------------------------------------------------


async def _require_stopped(source: CopySide, target: CopySide, *, forced: bool) -> None:
    for side, allowed in ((target, False), (source, forced)):
        running = [beat.relay for beat in await side.admin.relays() if beat.alive]
        if running and not allowed:
            raise RefusedError(
                f"a relay runs on {side.name} ({', '.join(running)}); stop it first, "
                "and wait 15 s if it was killed"
            )


async def _copied_up_to(source: CopySide, target: CopySide) -> int:
    """The highest id that TO holds already, FIRST for none. Raises RefusedError if any is not FROM's."""
    last: int = FIRST
    async for batch in _batches(target.transfer):
        known = {row.id: row for row in await source.transfer.read_rows([row.id for row in batch])}
        for row in batch:
            _require_copied(row, known.get(row.id), source, target)
        last = batch[-1].id
    return last


def _require_copied(
    there: StoredMessage, here: StoredMessage | None, source: CopySide, target: CopySide
) -> None:
    name = f"message {there.message_id!r} of tenant {there.tenant_id} (row {there.id})"
    if here is None or there.enqueued != here.enqueued:
        raise RefusedError(
            f"{target.name} holds {name}, which {source.name} does not; "
            "copy into an empty outbox, or resume the copy that was begun"
        )
    if there.state == "delivered" and here.state != "delivered":
        raise RefusedError(
            f"{name} is delivered in {target.name} and {here.state} in {source.name}: "
            "a relay worked on the copy; continue with it there, or copy into an empty outbox"
        )


async def _copy_audit(source: CopySide, target: CopySide) -> None:
    """All of it, before the rows. Raises RefusedError if TO's has entries of its own."""
    here = {entry.id: entry async for entry in _entries(source.transfer)}
    async for entry in _entries(target.transfer):
        if entry.id not in here or here[entry.id].begun != entry.begun:
            raise RefusedError(
                f"the audit of {target.name} has an entry that {source.name} does not have "
                f"({entry.what} by {entry.who}, entry {entry.id}); copy into an outbox whose audit is "
                "empty, or resume the copy that was begun"
            )
    entries = list(here.values())
    for start in range(0, len(entries), BATCH):
        await target.transfer.write_audit(entries[start : start + BATCH])


async def _entries(transfer: Transfer) -> AsyncIterator[StoredAuditEntry]:
    after: int = FIRST
    while page := await transfer.read_audit(after, BATCH):
        for entry in page:
            yield entry
        after = page[-1].id


# --- the rows -------------------------------------------------------------------------------------


async def _batches(transfer: Transfer) -> AsyncIterator[Sequence[StoredMessage]]:
    after: int = FIRST
    while batch := await transfer.read_page(after, BATCH, BATCH_BYTES):
        yield batch
        after = batch[-1].id


async def _missing(target: Transfer, batch: Sequence[StoredMessage]) -> Sequence[StoredMessage]:
    """Those of the batch that TO does not have, or has as they were before."""
    there = {row.id: row for row in await target.read_rows([row.id for row in batch])}
    return [row for row in batch if row.id not in there or row.whole != there[row.id].whole]


async def _by_state(side: CopySide) -> Mapping[str, int]:
    counts = (await side.admin.counts()).values()
    return {state: sum(getattr(count, state) for count in counts) for state in STATES}
