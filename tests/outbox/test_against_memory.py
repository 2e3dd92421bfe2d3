"""The SQLite outbox compared with the one in memory, over random sequences of calls."""

import asyncio
import json
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from relay.core.admin import Action, BulkAction, Filter, Record
from relay.core.model import (
    Delivered,
    DocumentName,
    Draft,
    Message,
    MessageId,
    OrderingKey,
    Parked,
    Released,
    RowId,
    TenantId,
)
from relay.core.ports import ConflictError
from relay.outbox import SqliteOutbox, open_outbox
from relay.outbox.sqlite import due
from relay.outbox.values import LANES, WINDOW
from tests.support.keys import settle_rows
from tests.support.memory import MemoryOutbox

TENANTS = st.sampled_from([TenantId("ACME"), TenantId("acme"), TenantId("GLOBEX")])
DOCUMENTS = st.sampled_from([DocumentName("A"), DocumentName("B"), DocumentName("C")])
KEYS = st.sampled_from([None, OrderingKey("k1"), OrderingKey("k2"), OrderingKey("K1")])
IDS = st.sampled_from([MessageId(f"m{i}") for i in range(12)])
PLACES = st.integers(0, 14)
"""Which row, counted from the lowest: the ids themselves may have gaps, and not the same in each store."""
REASONS = st.sampled_from(["HTTP 503", "HTTP 400: ünfair"])
WAITS = st.sampled_from([0.0, 3600.0])
DRAFTS = st.builds(
    Draft,
    TENANTS,
    DOCUMENTS,
    st.binary(min_size=1, max_size=40),
    IDS,
    ordering_key=KEYS,
    parameters=st.sampled_from([{}, {"documentId": "1"}]),
)
SETTLEMENTS = (
    st.just(Delivered()) | st.builds(Released, REASONS, st.booleans(), WAITS) | st.builds(Parked, REASONS)
)
FILTERS = st.builds(
    Filter,
    tenant=st.none() | st.sampled_from([TenantId("ACME"), TenantId("GLOBEX")]),
    document=st.none() | DOCUMENTS,
    state=st.sampled_from([None, "pending", "delivered", "parked", "dropped"]),
    ids=st.just(()) | st.lists(IDS, max_size=3).map(tuple),
    reason=st.sampled_from([None, None, "503", "ünfair", "%"]),
)


def timeless(message: Message) -> tuple[Message, bool]:
    """All that does not depend on when exactly it was read, nor on the id."""
    return replace(
        message, row=RowId(0), holds_for=0.0, age=0.0, parameters=json.dumps(json.loads(message.parameters))
    ), (message.holds_for > 60)


def as_seen(record: Record) -> tuple[Any, ...]:
    return (
        record.tenant_id, record.document_name, record.message_id, record.ordering_key,
        record.parameters, record.size, record.state, record.reason, record.attempts,
        record.not_before is None, record.settled_at is None,
        [(what, detail) for _, what, detail in record.history],
    )  # fmt: skip


async def rows_of(store: SqliteOutbox | MemoryOutbox) -> list[RowId]:
    return [record.row for record in await store.find(Filter(), 1000)]


class OutboxMachine(RuleBasedStateMachine):
    """Each call goes to both; both answer the same."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        self.runner = asyncio.Runner()
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "relay.db"
        self.memory = MemoryOutbox(time.time)
        self.sqlite: SqliteOutbox

    @initialize(window=st.sampled_from([0, 2, WINDOW]), lanes=st.sampled_from([0, 2, LANES]))
    def begin(self, window: int, lanes: int) -> None:
        """Small limits: each of the ways to read what is due is taken with a handful of rows."""
        self.patch.setattr(due, "WINDOW", window)
        self.patch.setattr(due, "LANES", lanes)
        self.open()

    def open(self) -> None:
        opened = self.runner.run(open_outbox(f"sqlite:///{self.path}"))
        assert isinstance(opened, SqliteOutbox)
        self.sqlite = opened

    def both(self, call: Callable[[SqliteOutbox | MemoryOutbox], Awaitable[Any]]) -> Any:
        async def tried(store: SqliteOutbox | MemoryOutbox) -> Any:
            try:
                return await call(store)
            except ConflictError as error:
                return str(error)

        on_disk, in_memory = self.runner.run(tried(self.sqlite)), self.runner.run(tried(self.memory))
        assert on_disk == in_memory
        return on_disk

    @rule(drafts=st.lists(DRAFTS, max_size=6))
    def add(self, drafts: list[Draft]) -> None:
        self.both(lambda store: store.add(drafts))

    @rule(pairs=st.lists(st.tuples(PLACES, SETTLEMENTS), max_size=8))
    def settle(self, pairs: list[Any]) -> None:
        async def ask(store: SqliteOutbox | MemoryOutbox) -> None:
            rows = await rows_of(store)
            await settle_rows(store, [(rows[place], fate) for place, fate in pairs if place < len(rows)])

        self.both(ask)

    @rule(
        tenant=TENANTS,
        accepted=st.frozensets(DOCUMENTS),
        held=st.frozensets(KEYS),
        places=st.frozensets(PLACES),
        limit=st.integers(1, 6),
        max_bytes=st.integers(1, 100),
    )
    def due(self, tenant: TenantId, places: frozenset[int], **asked: Any) -> None:
        async def ask(store: SqliteOutbox | MemoryOutbox) -> Any:
            rows = await rows_of(store)
            known = {rows[place] for place in places if place < len(rows)}
            found = await store.due(TenantId(tenant.upper()), known=known, **asked)
            return [timeless(message) for message in found]

        self.both(ask)

    @rule(wanted=FILTERS, limit=st.integers(0, 6))
    def find(self, wanted: Filter, limit: int) -> None:
        async def ask(store: SqliteOutbox | MemoryOutbox) -> Any:
            return [as_seen(record) for record in await store.find(wanted, limit)]

        self.both(ask)

    @rule(wanted=FILTERS, reason=REASONS, what=st.sampled_from(["retry", "park", "drop"]))
    def decide(self, wanted: Filter, reason: str, what: Action) -> None:
        async def ask(store: SqliteOutbox | MemoryOutbox) -> Any:
            seen = await store.preview(what, wanted, 3)
            done = await store.decide(BulkAction(what, seen.wanted, "ann@desk", reason))
            assert done == seen.total
            return done, sorted(seen.groups), [as_seen(record) for record in seen.sample]

        self.both(ask)

    @rule(message_id=IDS)
    def show(self, message_id: MessageId) -> None:
        async def ask(store: SqliteOutbox | MemoryOutbox) -> Any:
            records = await store.show(message_id, None)
            before = [
                await store.before(record, ordering, skipped, 3)
                for record in records
                for ordering in ("key", "tenant", "none")
                for skipped in (set[DocumentName](), {DocumentName("B")})
            ]
            return [as_seen(record) for record in records], [list(map(as_seen, each)) for each in before]

        self.both(ask)

    @rule(tenant=TENANTS, paused=st.booleans())
    def pause(self, tenant: TenantId, paused: bool) -> None:
        upper = TenantId(tenant.upper())
        self.both(lambda store: store.pause(upper, "why") if paused else store.resume(upper, "ann@desk"))

    @rule()
    def start_again(self) -> None:
        self.runner.run(self.sqlite.close())
        self.open()

    @invariant()
    def the_same_is_counted_and_signalled(self) -> None:
        async def ask(store: SqliteOutbox | MemoryOutbox) -> Any:
            counts = {
                tenant: replace(count, oldest_due_seconds=count.oldest_due_seconds is not None)
                for tenant, count in (await store.counts()).items()
            }
            return counts, await store.notification(), await store.documents(TenantId("ACME"))

        if hasattr(self, "sqlite"):
            self.both(ask)

    def teardown(self) -> None:
        if hasattr(self, "sqlite"):
            self.runner.run(self.sqlite.close())
        self.patch.undo()
        self.runner.close()
        self.folder.cleanup()


TestOutbox = OutboxMachine.TestCase
TestOutbox.settings = settings(
    max_examples=25,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize=True,
    phases=[
        Phase.explicit,
        Phase.generate,
    ],  # a failure's steps are few anyway; shrinking files takes minutes
)
