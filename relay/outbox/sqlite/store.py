"""The outbox on SQLite: `ports.Store` on one file. A call is a transaction in a thread."""

import asyncio
import time
from collections.abc import Sequence, Set
from functools import partial
from pathlib import Path
from sqlite3 import Connection

from typing_extensions import override

from relay.core.model import DocumentName, Message, OrderingKey, RowId, Settlement, TenantId, TenantState
from relay.core.ports import Leases, Mode, Notification
from relay.outbox.facade import OutboxFacade
from relay.outbox.sqlite import admin_queries as queries
from relay.outbox.sqlite import audit as audit_log
from relay.outbox.sqlite import bulk, selection, tenants
from relay.outbox.sqlite import due as due_rows
from relay.outbox.sqlite import settle as writes
from relay.outbox.sqlite.change_watch import ChangeWatch
from relay.outbox.sqlite.database import Database, reading, writing
from relay.outbox.sqlite.file_lock import FileLock
from relay.outbox.sqlite.transfer import SqliteTransfer
from relay.outbox.values import PendingFilter

_REST_TIMES = 20
"""After a poll none for so many times as long as it took: at most 5 % of a core."""


class SqliteOutbox(OutboxFacade):
    """Made by `open_outbox`, inside a running loop."""

    leases: Leases | None = None
    """A file has one relay: nothing is shared."""
    mode: Mode = "poll"

    def __init__(self, path: Path, lock: FileLock | None, *, purging: bool) -> None:
        super().__init__(rest_times=_REST_TIMES, purging=purging)
        self._database = Database(path)
        self._lock = lock
        self._watch: ChangeWatch | None = None
        self._purge = writes.PayloadPurge()
        self.transfer = SqliteTransfer(self._database)
        """The rows as they are, to be copied."""

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
    async def settle(self, settlements: Sequence[tuple[RowId, Settlement]]) -> None:
        work = partial(writes.settle, settlements=tuple(settlements), purging=self._purging)
        await self._database.write(work)

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

    prune = writing(writes.prune)
    prune_audit = writing(audit_log.prune)
    leave = writing(tenants.leave)
    _beat = writing(tenants.beat)
    _sweep = writing(tenants.sweep)

    @override
    async def purge_payloads(self, older_than: float, limit: int) -> int:
        self._purge = await self._database.write(
            partial(writes.purge_payloads, before=self._purge, older_than=older_than, limit=limit)
        )
        return self._purge.examined

    @override
    async def report(self, states: Sequence[TenantState]) -> None:
        await self._database.write(partial(tenants.report, relay=self._relay, reported=tuple(states)))

    # --- for operators ----------------------------------------------------------------------------

    counts = reading(queries.counts)
    states = reading(tenants.states)
    relays = reading(tenants.relays)
    size = reading(queries.size)
    find = reading(queries.find)
    show = reading(queries.show)
    lane_head = reading(queries.lane_head)
    payload = reading(queries.payload)
    queue_ages = reading(queries.queue_ages)
    preview = reading(queries.preview)
    _now = reading(selection.moment)
    _begin = writing(bulk.begin)
    advance = writing(bulk.advance)
    cancel = writing(bulk.cancel)
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
