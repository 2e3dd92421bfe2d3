"""What operators are told is the same on every store: a message's story, a tenant's, the shape, the next tries."""

from datetime import datetime, timedelta

import pytest

from relay.core.accepted_documents import withheld
from relay.core.model import (
    DocumentName,
    Draft,
    MessageId,
    Ordering,
    OrderingKey,
    Released,
    TenantId,
    TenantState,
)
from relay.core.ports import Store
from relay.reports import message as message_report
from relay.reports import queue_ages, tenant
from relay.reports.next_tries import next_tries
from relay.reports.overview import look
from tests.contract.stores import ACME, GLOBEX, ROOM

ORDER, SHIPMENT = DocumentName("Sync.SalesOrder"), DocumentName("Sync.Shipment")
KEY = OrderingKey("SO-1")
CONFIGURED: dict[TenantId, Ordering] = {ACME: "key", GLOBEX: "key"}


@pytest.fixture
async def waiting(store: Store) -> tuple[Store, datetime]:
    """One message in its own delay, one behind it, one that is not accepted, one of a paused tenant; and "now"."""
    await store.add(
        [
            Draft(ACME, ORDER, b"x", MessageId("head"), ordering_key=KEY),
            Draft(ACME, ORDER, b"x", MessageId("behind"), ordering_key=KEY),
            Draft(ACME, SHIPMENT, b"x", MessageId("withheld")),
            Draft(GLOBEX, ORDER, b"x", MessageId("theirs")),
        ]
    )
    messages = await store.due(ACME, {ORDER}, frozenset(), frozenset(), 1, ROOM)
    await store.settle([(messages[0].row, Released("HTTP 500", counted=True, wait=600))])
    (record,) = await store.show(MessageId("head"), ACME)
    now = record.queued_at
    await store.pause(GLOBEX, "change night", "ann@desk")
    await store.beat("host-1", {})
    state = TenantState(ACME, "sending", withheld([SHIPMENT]), now, now + timedelta(minutes=1))
    await store.report([state])
    return store, now


async def test_the_next_tries(waiting: tuple[Store, datetime]) -> None:
    store, now = waiting
    found = await next_tries(store, CONFIGURED, now)
    assert [(one.tenant_id, one.message_id, one.rule) for one in found.tries] == [
        (ACME, None, "not-accepted"),
        (ACME, "head", "back-off"),
        (GLOBEX, None, "paused"),
    ]
    assert found.running


async def test_the_shape(waiting: tuple[Store, datetime]) -> None:
    store, _ = waiting
    found = await queue_ages.shape(store, None, "document")
    assert [(line.name, line.counts[0], line.total) for line in found.lines] == [
        (ORDER, 3, 3),
        (SHIPMENT, 1, 1),
    ]


async def test_a_tenants_story(waiting: tuple[Store, datetime]) -> None:
    store, now = waiting
    told = await tenant.tell(store, ACME, await look(store, CONFIGURED, now))
    assert [(one.name, one.accepted) for one in told.documents] == [(ORDER, True), (SHIPMENT, False)]
    assert [(lane.head.message_id, lane.behind) for lane in told.lanes] == [("head", 1)]
    assert [wait.rule for wait in told.waits_for] == ["not-accepted"]
    assert told.tenant.relay == "host-1"


@pytest.mark.parametrize(
    ("message", "rules"),
    [("head", ["back-off"]), ("behind", ["lane"]), ("withheld", ["not-accepted"]), ("theirs", ["paused"])],
)
async def test_a_messages_story(waiting: tuple[Store, datetime], message: str, rules: list[str]) -> None:
    store, now = waiting
    (told,) = await message_report.tell(store, MessageId(message), None, CONFIGURED, now)
    assert [wait.rule for wait in told.waits_for] == rules
