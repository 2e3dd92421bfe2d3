"""This file is the outbox on SQLite as workers and operators call it: a call is a transaction in a thread."""

import asyncio
import os
import time
from collections.abc import Mapping, Sequence, Set
from functools import partial
from pathlib import Path
from sqlite3 import Connection

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
from relay.core.ports import Leases, Mode, Notification
from relay.outbox.poll_rate import PollRate
from relay.outbox.sqlite import audit, due, settle, tenants
from relay.outbox.sqlite.admin import SqliteAdmin
from relay.outbox.sqlite.change_watch import ChangeWatch
from relay.outbox.sqlite.database import Database
from relay.outbox.sqlite.file_lock import Lock
from relay.outbox.sqlite.transfer import SqliteRows

_REST_TIMES = 20
"""After a look at the signals none for so many times as long as it works: at most 5 % of a core."""


class SqliteOutbox(SqliteAdmin):
    """`ports.Outbox` and `desk.Desk` on one SQLite file. Made by `open_outbox`, inside a running loop."""

    leases: Leases | None = None
    mode: Mode = "poll"
    """A file has one relay: nothing is shared."""

    def __init__(self, path: Path, lock: Lock | None, *, purging: bool) -> None:
        """`shedding`: payloads go when their message is delivered."""
        self._database = Database(path)
        self._shedding = purging
        self._shed = settle.PayloadPurge()
        self._lock = lock
        self._watch: ChangeWatch | None = None
        self._pace = PollRate(_REST_TIMES, asyncio.get_running_loop().time)
        self._token = os.urandom(8).hex()  # tells this process from an earlier one of the same name
        self._relay = self._token  # until the first heartbeat says the name
        self._met_unclean = False
        self.rows = SqliteRows(self._database)
        """The rows as they are, to be copied."""

    # --- ports.Outbox: messages -------------------------------------------------------------------

    async def add(self, drafts: Sequence[Draft]) -> Sequence[MessageId]:
        """See ports.Outbox."""
        return await self._database.write(partial(settle.add, drafts=drafts))

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
        span = due.Span(frozenset(held), frozenset(known), limit)
        wanted = frozenset(accepted)
        return await self._database.read(
            partial(due.due, tenant=tenant, accepted=wanted, span=span, max_bytes=max_bytes)
        )

    async def documents(self, tenant: TenantId) -> frozenset[DocumentName]:
        """See ports.Outbox."""
        return await self._database.read(partial(due.documents, tenant=tenant))

    async def settle(self, settlements: Sequence[tuple[RowId, Settlement]]) -> None:
        """See ports.Outbox."""
        work = partial(settle.settle, settlements=tuple(settlements), purging=self._shedding)
        await self._database.write(work)

    async def may_write(self) -> None:
        """See ports.Outbox."""
        await self._database.write(lambda _: None)

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
            self._watch = ChangeWatch(self._database.path, loop)
        end = loop.time() + within
        await asyncio.sleep(min(within, self._pace.rest))
        await self._watch.change(max(0.0, end - loop.time()))
        return await self.notification()

    async def notification(self) -> Notification:
        """See ports.Outbox."""
        found, seconds = await self._database.read(_timed_signals)
        self._pace.looked(seconds)
        return found

    # --- ports.Outbox: this relay -----------------------------------------------------------------

    async def report(self, states: Sequence[TenantState]) -> None:
        """See ports.Outbox."""
        await self._database.write(partial(tenants.report, relay=self._relay, reported=tuple(states)))

    async def beat(self, relay: str, details: Mapping[str, str]) -> bool:
        """See ports.Outbox."""
        beat = await self._database.write(
            partial(tenants.beat, relay=relay, token=self._token, details=dict(details), before=self._relay)
        )
        self._met_unclean = self._met_unclean or beat.met_another
        self._relay = relay
        return beat.again

    async def leave(self, relay: str) -> None:
        """See ports.Outbox."""
        await self._database.write(partial(tenants.leave, relay=relay))

    async def unclean(self) -> bool:
        """See ports.Outbox."""
        return await self._database.write(partial(tenants.sweep, token=self._token)) or self._met_unclean

    async def close(self) -> None:
        """See ports.Outbox."""
        if self._watch is not None:
            self._watch.close()
        try:
            await self._database.close()
        finally:
            if self._lock is not None:
                self._lock.release()


def _timed_signals(connection: Connection) -> tuple[Notification, float]:
    """Also its seconds of processor: one that only waited for the interpreter must not put off the next."""
    started = time.thread_time()
    found = tenants.notification(connection)
    return found, time.thread_time() - started
