"""This file is the outbox on PostgreSQL as workers and operators call it: a call is a transaction."""

import asyncio
import os
import time
from collections.abc import Mapping, Sequence, Set
from functools import partial

from relay.core.model import (
    DocumentName,
    Draft,
    Message,
    MessageId,
    OrderingKey,
    RowId,
    Settlement,
    TenantId,
    TenantState,
)
from relay.core.ports import Mode, Notification
from relay.outbox.poll_rate import PollRate
from relay.outbox.postgres import audit, due, schema, settle, tenants
from relay.outbox.postgres.admin import PostgresAdmin
from relay.outbox.postgres.change_watch import ChangeWatch
from relay.outbox.postgres.database import Database, Place
from relay.outbox.postgres.leases import PostgresLeases, Readings
from relay.outbox.postgres.transfer import PostgresRows

_REST_TIMES = 5
"""After a look at the signals none for so many times as long as it takes."""

_FOLD_SECONDS = 10.0


class PostgresOutbox(PostgresAdmin):
    """`ports.Store` in a PostgreSQL database. Made by `open_outbox`, inside a running loop."""

    def __init__(self, place: Place, *, notify: bool, lease_seconds: float, purging: bool) -> None:
        """`shedding`: payloads go when their message is delivered."""
        self._place = place
        self._notify = notify
        self._database = Database(place, partial(schema.verify, place))
        self.rows = PostgresRows(self._database)
        """The rows as they are, to be copied."""
        self._watch: ChangeWatch | None = None
        self._pace = PollRate(_REST_TIMES, asyncio.get_running_loop().time)
        self._next_fold = 0.0
        self._token = os.urandom(16).hex()  # tells this process from every other one
        self._relay = self._token  # until the first heartbeat says the name
        self._met_unclean = False
        self._readings = Readings()
        self._leases = PostgresLeases(self._database, self._token, lease_seconds, lambda: self._relay)
        self._shedding = purging
        self._shed = settle.PayloadPurge()

    @property
    def leases(self) -> PostgresLeases:
        """See ports.Store."""
        return self._leases

    @property
    def mode(self) -> Mode:
        """See ports.Store."""
        return "poll" if self._watch is None else self._watch.mode

    async def verify(self) -> None:
        """Raise StoreError unless the database can be reached and holds an outbox for this relay."""
        await self._database.read(partial(schema.verify, self._place))

    # --- ports.Outbox: messages -------------------------------------------------------------------

    async def add(self, drafts: Sequence[Draft]) -> Sequence[MessageId]:
        """See ports.Outbox."""
        return await self._database.write(partial(settle.add, drafts=settle.named(drafts)))

    async def due(
        self,
        tenant: TenantId,
        accepted: Set[DocumentName],
        held: Set[OrderingKey | None],
        known: Set[RowId],
        limit: int,
        max_bytes: int,
    ) -> Sequence[Message]:
        """See ports.Outbox."""
        fence = self._leases.fences.get(tenant, 0)
        span = due.Span(frozenset(held), frozenset(known), limit)
        found = await self._database.read(
            partial(due.due, tenant=tenant, accepted=accepted, span=span, max_bytes=max_bytes)
        )
        if self._leases.in_use:
            self._readings.note(tenant, known, [message.row for message in found], fence)
        return found

    async def documents(self, tenant: TenantId) -> frozenset[DocumentName]:
        """See ports.Outbox."""
        return await self._database.read(partial(due.documents, tenant=tenant))

    async def settle(self, settlements: Sequence[tuple[RowId, Settlement]]) -> None:
        """See ports.Outbox. What this relay lost the lease of stays as it is: another carries it now."""
        token = self._token if self._leases.in_use else None
        fences = self._readings.fences(row for row, _ in settlements)
        said = partial(settle.settle, settlements=settlements, token=token, fences=fences)
        work = partial(said, purging=self._shedding)
        if settle.needs_transaction(settlements):
            await self._database.write(work)
        elif settlements:
            await self._database.read(work)

    async def may_write(self) -> None:
        """See ports.Outbox."""
        await self._database.write(tenants.write_nothing)

    async def prune(self, older_than: float, limit: int) -> int:
        """See ports.Outbox."""
        return await self._database.write(partial(settle.prune, older_than=older_than, limit=limit))

    async def purge_payloads(self, older_than: float, limit: int) -> int:
        """See ports.Outbox."""
        self._shed = await self._database.write(
            partial(settle.purge_payloads, before=self._shed, older_than=older_than, limit=limit)
        )
        return self._shed.looked_at

    async def prune_audit(self, older_than: float, limit: int) -> int:
        """See ports.Outbox."""
        return await self._database.write(partial(audit.prune, older_than=older_than, limit=limit))

    # --- ports.Outbox: who has work ---------------------------------------------------------------

    async def arrivals(self, within: float) -> Notification:
        """See ports.Outbox."""
        loop = asyncio.get_running_loop()
        if self._watch is None:
            self._watch = ChangeWatch(self._place, self._hint if self._notify else None)
        end = loop.time() + within
        await asyncio.sleep(min(within, self._pace.rest))
        await self._watch.change(max(0.0, end - loop.time()))
        return await self.notification()

    async def _hint(self, mark: str) -> None:
        await self._database.read(partial(tenants.hint, mark=mark))

    async def notification(self) -> Notification:
        """See ports.Outbox."""
        started = time.perf_counter()
        found = await self._database.read(tenants.notification)
        self._pace.looked(time.perf_counter() - started)
        return found

    # --- ports.Outbox: this relay -----------------------------------------------------------------

    async def report(self, states: Sequence[TenantState]) -> None:
        """See ports.Outbox."""
        await self._database.write(
            partial(tenants.report, relay=self._relay, token=self._token, reported=tuple(states))
        )

    async def beat(self, relay: str, details: Mapping[str, str]) -> bool:
        """See ports.Outbox. The counters are folded on this occasion."""
        beat = await self._database.write(
            partial(tenants.beat, relay=relay, token=self._token, details=details, before=self._relay)
        )
        self._met_unclean = self._met_unclean or beat.met_another
        self._relay = relay
        now = asyncio.get_running_loop().time()
        if now >= self._next_fold:
            self._next_fold = now + _FOLD_SECONDS
            await self._database.write(settle.fold)
        return beat.again

    async def leave(self, relay: str) -> None:
        """See ports.Outbox."""
        await self._leases.leave()
        await self._database.write(partial(tenants.leave, relay=relay, token=self._token))

    async def unclean(self) -> bool:
        """See ports.Outbox. Relays that live are no concern of this one."""
        await self._leases.sweep()
        return await self._database.write(partial(tenants.sweep, token=self._token)) or self._met_unclean

    async def close(self) -> None:
        """See ports.Outbox."""
        if self._watch is not None:
            await self._watch.close()
        await self._database.close()
