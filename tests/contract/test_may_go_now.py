"""Which messages may go now is the same for the worker and for every report, over random outboxes on each store."""

import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import get_args

import pytest

from relay.core.lanes import Lanes
from relay.core.model import (
    DocumentName,
    Draft,
    Message,
    MessageId,
    Ordering,
    OrderingKey,
    Released,
    TenantId,
    TenantState,
)
from relay.core.ports import Store
from relay.reports.delays import held_until
from relay.reports.message import read_messages
from relay.reports.next_tries import read_next_tries
from relay.reports.overview import read_overview
from relay.reports.tenant import read_tenant
from tests.contract.stores import ROOM

ORDER, SHIPMENT, REFUSED = map(DocumentName, ("Sync.SalesOrder", "Sync.Shipment", "Sync.Item"))
ACCEPTED = frozenset({ORDER, SHIPMENT})
ROUNDS = 6


async def fill(store: Store, tenant: TenantId, chance: random.Random) -> tuple[Sequence[Message], set[str]]:
    """Up to 14 messages of few keys and documents; all of them in order, and those that wait for their time."""
    keys = [None, OrderingKey("a"), OrderingKey("b")]
    count = chance.randint(1, 14)
    await store.add(
        [
            Draft(
                tenant,
                chance.choice([ORDER, SHIPMENT, REFUSED]),
                b"x",
                MessageId(f"{tenant}-{number}"),
                ordering_key=chance.choice(keys),
            )
            for number in range(count)
        ]
    )
    messages = await store.due(tenant, ACCEPTED | {REFUSED}, frozenset(), frozenset(), 99, ROOM)
    waiting = [message for message in messages if chance.random() < 0.25]
    await store.settle([(one.key, Released("HTTP 500", counted=True, wait=3600)) for one in waiting])
    return messages, {one.message_id for one in waiting}


def expected(messages: Sequence[Message], waiting: set[str], ordering: Ordering) -> set[str]:
    """The rule in its plainest form: accepted, and neither it nor one before it in its lane waits for its time."""
    may_go: set[str] = set()
    blocked: set[object] = set()
    for message in messages:
        if message.document_name not in ACCEPTED:
            continue
        lane = {"key": message.ordering_key, "tenant": "all", "none": message.row}[ordering]
        if message.message_id in waiting:
            blocked.add(lane)
        if lane not in blocked:
            may_go.add(message.message_id)
    return may_go


async def sent(store: Store, tenant: TenantId, ordering: Ordering) -> set[str]:
    """What a worker sends now: it reads and sends until there is nothing more."""
    lanes = Lanes(ordering, max_messages=3, max_bytes=ROOM)
    finished: set[Message] = set()
    for _ in range(40):
        plan = lanes.plan_read(0.0, {message.row for message in finished})
        if plan is not None:
            lanes.add(await store.due(tenant, ACCEPTED, plan.held, plan.known, 4, ROOM), plan, 0.0)
        message = lanes.take(cautious=False)
        if message is not None:
            lanes.finish(message)
            finished.add(message)
    return {message.message_id for message in finished}


@pytest.mark.parametrize("ordering", get_args(Ordering))
@pytest.mark.parametrize("seed", range(3))
async def test_worker_and_reports_agree(store: Store, ordering: Ordering, seed: int) -> None:
    chance = random.Random(f"{ordering} {seed}")
    for number in range(ROUNDS):
        tenant = TenantId(f"T{number}")
        messages, waiting = await fill(store, tenant, chance)
        now = datetime.now(UTC)
        state = TenantState(tenant, "sending", "", now, now + timedelta(minutes=1), documents=(REFUSED,))
        await store.beat("host-1", {})
        await store.report([state])
        wanted = expected(messages, waiting, ordering)
        accepted = {m.message_id for m in messages if m.document_name in ACCEPTED}
        configured = {tenant: ordering}

        assert await sent(store, tenant, ordering) == wanted

        overview = await read_overview(store, configured, now)
        shown = set[str]()
        for message in messages:
            (report,) = await read_messages(store, message.message_id, tenant, configured, now)
            rules = {wait.rule for wait in report.waits_for}
            is_held = "back-off" in rules or any(w.rule == "lane" and w.next_try for w in report.waits_for)
            if "not-accepted" not in rules and not is_held:
                shown.add(message.message_id)
            assert ("back-off" in rules) == (message.message_id in waiting)
        assert shown == wanted

        tries = await read_next_tries(store, configured, now)
        mine = {one.message_id: one.at for one in tries.tries if one.tenant_id == tenant and one.message_id}
        assert mine.keys() == waiting & accepted

        tenant_report = await read_tenant(store, tenant, overview)
        behind = sum(lane.behind + 1 for lane in tenant_report.lanes)
        assert ordering == "none" or behind == len(accepted - wanted)

        records = [
            report.record
            for m in messages
            for report in await read_messages(store, m.message_id, tenant, configured, now)
        ]
        held = held_until(records, ordering, {REFUSED}, now)
        assert {record.message_id for record, until in held if until is None} == wanted
