"""The outbox on SQLite: `ports.Store` on one file. A call is a transaction in a thread."""

import asyncio
import contextlib
import time
from collections.abc import Mapping, Sequence, Set
from functools import partial
from pathlib import Path
from sqlite3 import Connection

from typing_extensions import override

from relay.core.model import (
    DocumentName,
    Message,
    MessageKey,
    OrderingKey,
    RowId,
    Settlement,
    TenantId,
    TenantState,
)
from relay.core.ports import Leases, Mode, Notification, NotSettled, RestoredBackup, StoreIncident
from relay.outbox.facade import OutboxFacade
from relay.outbox.sqlite import activity as recorded
from relay.outbox.sqlite import admin_queries as queries
from relay.outbox.sqlite import audit as audit_log
from relay.outbox.sqlite import bulk, incidents, retention, selection, tenants, write_ahead_log
from relay.outbox.sqlite import due as due_rows
from relay.outbox.sqlite import settle as writes
from relay.outbox.sqlite.change_watch import ChangeWatch
from relay.outbox.sqlite.database import Connect, Database, connect, reading, writing
from relay.outbox.sqlite.file_lock import FileLock
from relay.outbox.sqlite.identity import StoreIdentity
from relay.outbox.sqlite.last_use import read_use
from relay.outbox.sqlite.sole_relay import BOOT_ID, boot_id
from relay.outbox.sqlite.transfer import SqliteTransfer
from relay.outbox.values import PendingFilter

_REST_TIMES = 20
"""After a poll none for so many times as long as it took: at most 5 % of a core."""


class SqliteOutbox(OutboxFacade):
    """Made by `open_outbox`, inside a running loop."""

    leases: Leases | None = None
    """A file has one relay: nothing is shared."""
    mode: Mode = "poll"

    def __init__(
        self,
        path: Path,
        lock: FileLock | None,
        *,
        purging: bool,
        connect: Connect = connect,
        restored: RestoredBackup | None = None,
    ) -> None:
        super().__init__(rest_times=_REST_TIMES, purging=purging)
        identity = StoreIdentity(None if lock is None else self._notice_change)
        self._database = Database(path, identity, connect, lock)
        self._lock, self._restored = lock, restored
        self._watch: ChangeWatch | None = None
        self.transfer = SqliteTransfer(self._database)
        """The rows as they are, to be copied."""

    def _notice_change(self) -> None:
        """Called in a thread of the database."""
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._change)

    def _change(self) -> None:
        self._restart_walks()
        self._report_change("the file holds another outbox, or an earlier copy of this one")

    # --- messages ---------------------------------------------------------------------------------

    add = writing(writes.add)
    documents = reading(due_rows.documents)
    message = reading(due_rows.message)

    @override
    async def due(
        self,
        tenant: TenantId,
        accepted: Set[DocumentName],
        held: Set[OrderingKey | None],
        known: Set[RowId],
        limit: int,
        max_bytes: int,
    ) -> Sequence[Message]:
        pending = PendingFilter(frozenset(held), frozenset(known), limit)
        wanted = frozenset(accepted)  # copies: the thread reads them while the caller continues
        return await self._database.read(
            partial(due_rows.due, tenant=tenant, accepted=wanted, pending=pending, max_bytes=max_bytes)
        )

    @override
    async def _settle(self, settlements: Sequence[tuple[MessageKey, Settlement]]) -> NotSettled:
        work = partial(writes.settle, settlements=tuple(settlements), purging=self._purging)
        return await self._database.write(work)

    @override
    async def may_write(self) -> None:
        await self._database.write(lambda _: None)

    # --- notifications ----------------------------------------------------------------------------

    @override
    def _get_watch(self) -> ChangeWatch:
        if self._watch is None:
            self._watch = ChangeWatch(self._database.path, asyncio.get_running_loop())
        return self._watch

    @override
    async def notification(self) -> Notification:
        found, seconds = await self._database.read(_timed_notification)
        self._poll_rate.polled(seconds)
        return found

    # --- housekeeping -----------------------------------------------------------------------------

    clock = reading(selection.clock)
    _settled_long_ago = reading(retention.settled_long_ago)
    _delete = writing(retention.delete)
    _purge = writing(retention.purge)
    prune_audit = writing(audit_log.prune)
    record_activity = writing(recorded.record)
    record_waiting = writing(recorded.record_waiting)
    prune_activity = writing(recorded.prune)
    _leave = writing(tenants.leave)
    _beat = writing(tenants.beat)
    _sweep = writing(tenants.sweep)

    @override
    async def beat(self, relay: str, details: Mapping[str, str]) -> bool:
        if self._lock is None:
            return await super().beat(relay, details)
        again = await super().beat(relay, {**details, BOOT_ID: boot_id()})
        await self._record_use()
        return again

    @override
    async def leave(self, relay: str) -> None:
        await self._leave(relay)
        await self._record_use()

    async def _record_use(self) -> None:
        """Beside the file, so that the next start notices an older copy in its place."""
        if self._lock is not None:
            self._lock.record(await self._database.read(read_use))

    @override
    async def restored(self) -> RestoredBackup | None:
        return self._restored

    @override
    async def log_bytes(self) -> int | None:
        return await self._database.read(lambda _: write_ahead_log.log_bytes(self._database.path))

    @override
    async def report(self, states: Sequence[TenantState]) -> None:
        await self._database.write(partial(tenants.report, relay=self._relay, reported=tuple(states)))

    @override
    async def incidents(self) -> Sequence[StoreIncident]:
        """A relay lets the log shrink on this occasion, so that only one that cannot is an incident."""
        path = self._database.path
        if self._lock is not None and write_ahead_log.log_bytes(path) > incidents.MAX_LOG_BYTES:
            await self._database.outside(write_ahead_log.shrink)
        grown = await self._database.read(lambda _: incidents.log_grown(path))
        return [*incidents.shared(await self.relays()), *grown]

    # --- for operators ----------------------------------------------------------------------------

    @override
    async def notification_queue(self) -> float | None:
        return None

    counts = reading(queries.counts)
    states = reading(tenants.states)
    relays = reading(tenants.relays)
    size = reading(queries.size)
    find = reading(queries.find)
    show = reading(queries.show)
    before = reading(queries.before)
    payload = reading(queries.payload)
    queue_ages = reading(queries.queue_ages)
    preview = reading(queries.preview)
    activity = reading(recorded.activity)
    deliveries = reading(recorded.deliveries)
    _now = reading(selection.moment)
    _begin = writing(bulk.begin)
    advance = writing(bulk.advance)
    cancel = writing(bulk.cancel)
    outcome = reading(bulk.outcome)
    audit = reading(audit_log.newest)
    entry = reading(audit_log.entry)
    note = writing(audit_log.note)
    pause = writing(tenants.pause)
    resume = writing(tenants.resume)
    ask = writing(tenants.ask)

    @override
    async def close(self) -> None:
        if self._watch is not None:
            self._watch.close()
        try:
            await self._database.close()
        finally:
            if self._lock is not None:
                self._lock.release()


def _timed_notification(connection: Connection) -> tuple[Notification, float]:
    """Also its CPU seconds: one that only waited for the interpreter must not put off the next."""
    started = time.thread_time()
    found = tenants.notification(connection)
    return found, time.thread_time() - started
