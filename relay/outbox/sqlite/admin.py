"""This file is the outbox on SQLite as operators call it: look, decide chunk by chunk, read the audit."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from sqlite3 import Connection

from relay.core.admin import (
    FIRST,
    Action,
    AuditEntry,
    BulkAction,
    Count,
    Filter,
    Preview,
    QueueAges,
    Record,
    RelayBeat,
)
from relay.core.model import AuditId, MessageId, RowId, TenantId, TenantState
from relay.core.ports import RELAY
from relay.outbox import bulk
from relay.outbox.sqlite import admin_queries, audit, tenants
from relay.outbox.sqlite import selection as selections
from relay.outbox.sqlite.database import Database


class SqliteAdmin:
    """`desk.Desk` on one SQLite file."""

    _database: Database

    # --- looking ----------------------------------------------------------------------------------

    async def counts(self) -> Mapping[TenantId, Count]:
        """See desk.Desk."""
        return await self._database.read(admin_queries.counts)

    async def states(self) -> Mapping[TenantId, TenantState]:
        """See desk.Desk."""
        return await self._database.read(tenants.states)

    async def relays(self) -> Sequence[RelayBeat]:
        """See desk.Desk."""
        return await self._database.read(tenants.relays)

    async def size(self) -> int:
        """See desk.Desk."""
        return await self._database.read(admin_queries.size)

    async def find(self, wanted: Filter, limit: int, after: RowId = FIRST) -> Sequence[Record]:
        """See desk.Desk."""
        return await self._database.read(partial(admin_queries.find, wanted=wanted, limit=limit, after=after))

    async def show(self, message_id: MessageId, tenant: TenantId | None) -> Sequence[Record]:
        """See desk.Desk."""
        return await self._database.read(partial(admin_queries.show, message_id=message_id, tenant=tenant))

    async def ahead(self, record: Record) -> Record | None:
        """See desk.Desk."""
        return await self._database.read(partial(admin_queries.ahead, record=record))

    async def payload(self, row: RowId, limit: int) -> bytes | None:
        """See desk.Desk."""
        return await self._database.read(partial(admin_queries.payload, row=row, limit=limit))

    async def shape(self, tenant: TenantId | None, limit: int) -> Sequence[QueueAges]:
        """See desk.Desk."""
        return await self._database.read(partial(admin_queries.shape, tenant=tenant, limit=limit))

    # --- deciding about messages ------------------------------------------------------------------

    async def preview(self, what: Action, wanted: Filter, sample: int = 5) -> Preview:
        """See desk.Desk."""
        return await self._database.read(
            partial(admin_queries.preview, what=what, wanted=wanted, sample=sample)
        )

    async def begin(self, order: BulkAction) -> AuditId:
        """See desk.Desk."""
        if order.wanted.moment is None:
            now = await self._database.read(selections.moment)
            order = replace(order, wanted=replace(order.wanted, moment=now))
        return await self._database.write(partial(audit.begin, order=order))

    async def go_on(self, audit_id: AuditId) -> AuditEntry:
        """See desk.Desk."""
        return await self._database.write(partial(audit.go_on, audit=audit_id))

    async def decide(self, order: BulkAction) -> int:
        """See desk.Desk."""
        return await bulk.to_the_end(self, order)

    async def cancel(self, audit_id: AuditId, who: str) -> bool:
        """See desk.Desk."""
        return await self._database.write(partial(audit.cancel, audit=audit_id, who=who))

    # --- the audit --------------------------------------------------------------------------------

    async def audit(self, limit: int, tenant: TenantId | None = None) -> Sequence[AuditEntry]:
        """See desk.Desk."""
        return await self._database.read(partial(audit.newest, limit=limit, tenant=tenant))

    async def entry(self, audit_id: AuditId) -> AuditEntry | None:
        """See desk.Desk."""
        return await self._database.read(partial(audit.entry, audit=audit_id))

    async def note(self, who: str, what: str, tenant: TenantId | None, selection: str) -> None:
        """See desk.Desk."""
        await self._database.write(
            partial(audit.note, who=who, what=what, tenant=tenant, selection=selection)
        )

    # --- deciding about tenants -------------------------------------------------------------------

    async def pause(self, tenant: TenantId, reason: str, who: str = RELAY) -> None:
        """See ports.Outbox and desk.Desk."""

        def work(connection: Connection) -> None:
            tenants.pause(connection, tenant, reason)
            audit.note(connection, who, "pause", tenant, reason=reason)

        await self._database.write(work)

    async def resume(self, tenant: TenantId, who: str) -> None:
        """See desk.Desk."""

        def work(connection: Connection) -> None:
            tenants.resume(connection, tenant)
            audit.note(connection, who, "resume", tenant)

        await self._database.write(work)

    async def ask(self, tenant: TenantId, who: str) -> None:
        """See desk.Desk."""

        def work(connection: Connection) -> None:
            tenants.bump(connection, tenant)
            audit.note(connection, who, "ask", tenant)

        await self._database.write(work)
