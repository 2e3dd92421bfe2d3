"""This file is the outbox on SQLite as workers and operators call it: a call is a transaction in a thread."""

import asyncio
import os
import time
from collections.abc import Mapping, Sequence, Set
from functools import partial
from math import inf
from pathlib import Path
from sqlite3 import Connection

from relay.model import (
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
from relay.outbox import decisions
from relay.outbox.sqlite import decide, desk, due, settle, tenants
from relay.outbox.sqlite.database import Database
from relay.outbox.sqlite.lock import Lock
from relay.outbox.sqlite.rows import SqliteRows
from relay.outbox.sqlite.watch import Watch
from relay.ports import Count, Filter, Leases, Record, RelayBeat, Signals

_LOOKS_SHARE = 20
"""After a look at the signals none for so many times as long: at most 5 % of the time goes there."""


class SqliteOutbox:
    """`ports.Outbox` and `ports.Desk` on one SQLite file. Made by `open_outbox`, inside a running loop."""

    leases: Leases | None = None
    """A file has one relay: nothing is shared."""

    def __init__(self, path: Path, lock: Lock | None) -> None:
        self._database = Database(path)
        self._lock = lock
        self._watch: Watch | None = None
        self._next_look = 0.0
        self._look_before = inf
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
        await self._database.write(partial(settle.settle, settlements=tuple(settlements)))

    async def prune(self, older_than: float, limit: int) -> int:
        """See ports.Outbox."""
        return await self._database.write(partial(settle.prune, older_than=older_than, limit=limit))

    # --- ports.Outbox: who has work ---------------------------------------------------------------

    async def arrivals(self, within: float) -> Signals:
        """See ports.Outbox."""
        loop = asyncio.get_running_loop()
        if self._watch is None:
            self._watch = Watch(self._database.path, loop)
        end = loop.time() + within
        await asyncio.sleep(min(within, max(0.0, self._next_look - loop.time())))
        await self._watch.change(max(0.0, end - loop.time()))
        return await self.signals()

    async def signals(self) -> Signals:
        """See ports.Outbox."""
        found, seconds = await self._database.read(_timed_signals)
        # the quicker of two: one that only waited for the interpreter must not put off the next
        self._next_look = asyncio.get_running_loop().time() + _LOOKS_SHARE * min(seconds, self._look_before)
        self._look_before = seconds
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

    # --- ports.Desk -------------------------------------------------------------------------------

    async def counts(self) -> Mapping[TenantId, Count]:
        """See ports.Desk."""
        return await self._database.read(desk.counts)

    async def states(self) -> Mapping[TenantId, TenantState]:
        """See ports.Desk."""
        return await self._database.read(tenants.states)

    async def relays(self) -> Sequence[RelayBeat]:
        """See ports.Desk."""
        return await self._database.read(tenants.relays)

    async def find(self, wanted: Filter, limit: int) -> Sequence[Record]:
        """See ports.Desk."""
        return await self._database.read(partial(desk.find, wanted=wanted, limit=limit))

    async def show(self, message_id: MessageId, tenant: TenantId | None) -> Sequence[Record]:
        """See ports.Desk."""
        return await self._database.read(partial(desk.show, message_id=message_id, tenant=tenant))

    async def ahead(self, record: Record) -> Record | None:
        """See ports.Desk."""
        return await self._database.read(partial(desk.ahead, record=record))

    async def retry(self, wanted: Filter) -> int:
        """See ports.Desk."""
        return await self._decide(wanted, decisions.retry())

    async def park(self, wanted: Filter, reason: str) -> int:
        """See ports.Desk."""
        return await self._decide(wanted, decisions.park(reason))

    async def drop(self, wanted: Filter, reason: str) -> int:
        """See ports.Desk."""
        return await self._decide(wanted, decisions.drop(reason))

    async def pause(self, tenant: TenantId, reason: str) -> None:
        """See ports.Outbox and ports.Desk."""
        await self._database.write(partial(tenants.pause, tenant=tenant, reason=reason))

    async def resume(self, tenant: TenantId) -> None:
        """See ports.Desk."""
        await self._database.write(partial(tenants.resume, tenant=tenant))

    async def _decide(self, wanted: Filter, decision: decisions.Decision) -> int:
        """What is meant is what is there now; rows that arrive meanwhile are not."""
        upto = await self._database.read(desk.newest_row)
        after, rows = RowId(0), 0
        while True:
            done = await self._database.write(
                partial(decide.chunk, wanted=wanted, decision=decision, after=after, upto=upto)
            )
            rows += done.rows
            if done.last is None:
                return rows
            after = done.last


def _timed_signals(connection: Connection) -> tuple[Signals, float]:
    started = time.perf_counter()
    found = tenants.signals(connection)
    return found, time.perf_counter() - started
