"""The outbox on PostgreSQL: `ports.Store` in one database. A call is a transaction."""

import asyncio
import time
from collections.abc import Mapping, Sequence, Set
from dataclasses import replace
from functools import partial

from typing_extensions import override

from relay.core.model import (
    DocumentName,
    Draft,
    Message,
    MessageId,
    MessageKey,
    OrderingKey,
    RowId,
    Settlement,
    TenantId,
    TenantState,
)
from relay.core.ports import Mode, Notification, NotSettled
from relay.outbox.facade import OutboxFacade
from relay.outbox.postgres import activity as recorded
from relay.outbox.postgres import admin_queries as queries
from relay.outbox.postgres import audit as audit_log
from relay.outbox.postgres import bulk, retention, schema, selection, tenants
from relay.outbox.postgres import due as due_rows
from relay.outbox.postgres import incidents as store_incidents
from relay.outbox.postgres import settle as writes
from relay.outbox.postgres.change_watch import ChangeWatch
from relay.outbox.postgres.connection import StoreConnection
from relay.outbox.postgres.database import Database, PostgresLocation, reading, writing
from relay.outbox.postgres.identity import StoreIdentity
from relay.outbox.postgres.leases import PostgresLeases, ReadFences
from relay.outbox.postgres.transfer import PostgresTransfer
from relay.outbox.values import PendingFilter

_REST_TIMES = 5
"""After a poll none for so many times as long as it took."""

_MERGE_SECONDS = 10.0


class PostgresOutbox(OutboxFacade):
    """Made by `open_outbox`, inside a running loop."""

    def __init__(
        self, location: PostgresLocation, *, notify: bool, lease_seconds: float | None, purging: bool
    ) -> None:
        super().__init__(rest_times=_REST_TIMES, purging=purging)
        self._identity = StoreIdentity(location.where, self._change)
        self._is_shared = lease_seconds is not None
        self._location = replace(location, accept=self._identity.accept) if self._is_shared else location
        self._notify = notify
        self._database = Database(self._location, self._check)
        self._watch: ChangeWatch | None = None
        self._next_merge = 0.0
        self._read_fences = ReadFences()
        self._leases = PostgresLeases(
            self._database, self._identity, self._token, lease_seconds or 0.0, lambda: self._relay
        )
        self.transfer = PostgresTransfer(self._database)
        """The rows as they are, to be copied."""

    @property
    @override
    def leases(self) -> PostgresLeases | None:
        return self._leases if self._is_shared else None

    @property
    @override
    def mode(self) -> Mode:
        return "poll" if self._watch is None else self._watch.mode

    async def verify(self) -> None:
        """Raise StoreError unless the database can be reached and holds an outbox for this relay."""
        await self._database.read(partial(schema.verify, self._location))

    async def _check(self, session: StoreConnection) -> None:
        """Of each connection, before it is used."""
        await schema.verify(self._location, session)
        if self._is_shared:
            await self._identity.check(session)

    def _change(self, reason: str) -> None:
        self._read_fences.clear()
        self._restart_walks()
        self._database.reconnect()
        if self._watch is not None:
            self._watch.reconnect()
        self._report_change(reason)

    # --- messages ---------------------------------------------------------------------------------

    documents = reading(due_rows.documents)
    message = reading(due_rows.message)
    may_write = writing(tenants.write_nothing)

    @override
    async def add(self, drafts: Sequence[Draft]) -> Sequence[MessageId]:
        return await self._database.write(partial(writes.add, drafts=writes.with_message_ids(drafts)))

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
        fence = self._leases.fences.get(tenant, 0)
        pending = PendingFilter(frozenset(held), frozenset(known), limit)
        found = await self._database.read(
            partial(due_rows.due, tenant=tenant, accepted=accepted, pending=pending, max_bytes=max_bytes)
        )
        if self._leases.in_use:
            self._read_fences.note(tenant, known, [message.row for message in found], fence)
        return found

    @override
    async def _settle(self, settlements: Sequence[tuple[MessageKey, Settlement]]) -> NotSettled:
        """What this relay lost the lease of stays as it is: another one owns it now."""

        async def work(session: StoreConnection) -> NotSettled:
            token = self._token if self._leases.in_use else None
            # Only here: the connection may have shown that it is another store.
            fences = self._read_fences.of(key.row for key, _ in settlements)
            return await writes.settle(session, settlements, token, fences, purging=self._purging)

        if writes.needs_transaction(settlements):
            return await self._database.write(work)
        return await self._database.read(work) if settlements else NotSettled()

    # --- notifications ----------------------------------------------------------------------------

    @override
    def _get_watch(self) -> ChangeWatch:
        if self._watch is None:
            self._watch = ChangeWatch(self._location, self._send_mark if self._notify else None)
        return self._watch

    async def _send_mark(self, mark: str) -> None:
        await self._database.read(partial(tenants.notify, mark=mark))

    @override
    async def notification(self) -> Notification:
        started = time.perf_counter()
        found = await self._database.read(tenants.notification)
        self._poll_rate.polled(time.perf_counter() - started)
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
    incidents = reading(store_incidents.incidents)
    _beat = writing(tenants.beat)
    _sweep = writing(tenants.sweep)

    @override
    async def report(self, states: Sequence[TenantState]) -> None:
        await self._database.write(
            partial(tenants.report, relay=self._relay, token=self._token, reported=tuple(states))
        )

    @override
    async def beat(self, relay: str, details: Mapping[str, str]) -> bool:
        """The counters are merged on this occasion."""
        again = await super().beat(relay, details)
        now = asyncio.get_running_loop().time()
        if now >= self._next_merge:
            self._next_merge = now + _MERGE_SECONDS
            await self._database.write(retention.merge_counts)
        return again

    @override
    async def leave(self, relay: str) -> None:
        await self._leases.leave()
        await self._database.write(partial(tenants.leave, relay=relay, token=self._token))

    @override
    async def unclean(self) -> bool:
        """Relays that are alive do not count."""
        await self._leases.sweep()
        return await super().unclean()

    # --- for operators ----------------------------------------------------------------------------

    counts = reading(queries.counts)
    states = reading(tenants.states)
    relays = reading(tenants.relays)
    size = reading(queries.size)
    notification_queue = reading(store_incidents.notification_queue)
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
            await self._watch.close()
        await self._database.close()
