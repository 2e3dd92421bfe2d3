"""Reports are the same on every store: a message, a tenant, the queue by age, the next tries."""

from datetime import datetime, timedelta

import pytest

from relay.core.admin import Filter
from relay.core.model import (
    NOT_ACCEPTED,
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
from relay.reports.message import read_messages
from relay.reports.next_tries import read_next_tries
from relay.reports.overview import read_overview
from relay.reports.queue_ages import read_queue
from relay.reports.tenant import read_tenant
from tests.contract.stores import ACME, GLOBEX, ROOM

ORDER, SHIPMENT, COMMA = DocumentName("Sync.SalesOrder"), DocumentName("Sync.Shipment"), DocumentName("A, B")
KEY = OrderingKey("SO-1")
CONFIGURED: dict[TenantId, Ordering] = {ACME: "key", GLOBEX: "key"}


@pytest.fixture
async def waiting(store: Store) -> tuple[Store, datetime]:
    """A message that backs off, one behind it, one that is not accepted, one of a paused tenant; and "now"."""
    await store.add(
        [
            Draft(ACME, ORDER, b"x", MessageId("head"), ordering_key=KEY),
            Draft(ACME, ORDER, b"x", MessageId("behind"), ordering_key=KEY),
            Draft(ACME, SHIPMENT, b"x", MessageId("not-accepted")),
            Draft(GLOBEX, ORDER, b"x", MessageId("theirs")),
        ]
    )
    messages = await store.due(ACME, {ORDER}, frozenset(), frozenset(), 1, ROOM)
    await store.settle([(messages[0].key, Released("HTTP 500", counted=True, wait=600))])
    (record,) = await store.show(MessageId("head"), ACME)
    now = record.queued_at
    await store.pause(GLOBEX, "change night", "ann@desk")
    await store.beat("host-1", {})
    state = TenantState(
        ACME, "sending", "", now, now + timedelta(minutes=1), kind=NOT_ACCEPTED, documents=(SHIPMENT,)
    )
    await store.report([state])
    return store, now


async def test_the_next_tries(waiting: tuple[Store, datetime]) -> None:
    store, now = waiting
    found = await read_next_tries(store, CONFIGURED, now)
    assert [(one.tenant_id, one.message_id, one.rule) for one in found.tries] == [
        (ACME, None, "not-accepted"),
        (ACME, "head", "back-off"),
        (GLOBEX, None, "paused"),
    ]
    assert found.running


async def test_the_queue_by_document(waiting: tuple[Store, datetime]) -> None:
    store, _ = waiting
    found = await read_queue(store, None, "document", 100)
    assert [(row.name, row.counts[0], row.total) for row in found.rows] == [
        (ORDER, 3, 3),
        (SHIPMENT, 1, 1),
    ]


async def test_a_tenants_report(waiting: tuple[Store, datetime]) -> None:
    store, now = waiting
    report = await read_tenant(store, ACME, await read_overview(store, CONFIGURED, now))
    assert [(one.name, one.accepted) for one in report.documents] == [(ORDER, True), (SHIPMENT, False)]
    assert [(lane.blocker.message_id, lane.behind) for lane in report.lanes] == [("head", 1)]
    assert [wait.rule for wait in report.waits_for] == ["not-accepted"]
    assert report.tenant.relay == "host-1"


@pytest.mark.parametrize(
    ("message", "rules"),
    [
        ("head", ["back-off"]),
        ("behind", ["lane"]),
        ("not-accepted", ["not-accepted"]),
        ("theirs", ["paused"]),
    ],
)
async def test_a_messages_report(waiting: tuple[Store, datetime], message: str, rules: list[str]) -> None:
    store, now = waiting
    (report,) = await read_messages(store, MessageId(message), None, CONFIGURED, now)
    assert [wait.rule for wait in report.waits_for] == rules


async def test_a_document_name_with_a_comma_is_one_document(store: Store) -> None:
    """Any printable name is allowed; the wait reason is stored as data, so no name is ever split."""
    await store.add([Draft(ACME, name, b"x") for name in (COMMA, DocumentName("A"), DocumentName("B"))])
    await store.beat("host-1", {})
    (record, *_) = await store.find(Filter(ACME, document=COMMA), 1)
    now = record.queued_at
    await store.report([TenantState(ACME, "idle", "", now, kind=NOT_ACCEPTED, documents=(COMMA,))])
    overview = await read_overview(store, CONFIGURED, now)
    assert (overview.tenant(ACME).reason, overview.tenant(ACME).code) == (
        "waiting to be accepted by ION: A, B",
        "RELAY-108",
    )
    report = await read_tenant(store, ACME, overview)
    assert {one.name: one.accepted for one in report.documents} == {"A": True, "A, B": False, "B": True}
    (message,) = await read_messages(store, record.message_id, ACME, CONFIGURED, now)
    assert [wait.rule for wait in message.waits_for] == ["not-accepted"]
    assert message.waits_for[0].text.startswith("A, B is not accepted by ION")
