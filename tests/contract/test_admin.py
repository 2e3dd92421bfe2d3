"""What every outbox promises to operators (`admin.Admin`)."""

import secrets
from datetime import UTC, datetime, timedelta

import pytest

from relay.core.admin import FIRST, Count, Filter, MessageState
from relay.core.model import (
    Delivered,
    DocumentName,
    Draft,
    Message,
    MessageId,
    Ordering,
    OrderingKey,
    Parked,
    Released,
    TenantId,
)
from relay.core.ports import Control, Store
from tests.contract.stores import ACME, GLOBEX, ROOM, drop, park, retry, until
from tests.support.keys import key_of, settle_rows

ORDER = DocumentName("Sync.SalesOrder")
SHIPMENT = DocumentName("Sync.Shipment")
K1, K2 = OrderingKey("k1"), OrderingKey("k2")


def draft(
    name: str, document: DocumentName = ORDER, *, tenant: TenantId = ACME, key: OrderingKey | None = None
) -> Draft:
    """The message id doubles as the payload."""
    return Draft(tenant, document, name.encode(), MessageId(name), ordering_key=key)


async def due(store: Store, tenant: TenantId = ACME) -> dict[str, Message]:
    messages = await store.due(tenant, {ORDER, SHIPMENT}, frozenset(), frozenset(), 1000, ROOM)
    return {message.message_id: message for message in messages}


async def leaves(store: Store, wanted: Filter, limit: int) -> list[list[str]]:
    """Leafed through as the page does it: each leaf behind the last row of the one before."""
    seen: list[list[str]] = []
    after = FIRST
    while records := await store.find(wanted, limit, after):
        seen.append([record.message_id for record in records])
        after = records[-1].row
    return seen


async def found(store: Store, wanted: Filter, limit: int = 100) -> list[str]:
    return [record.message_id for record in await store.find(wanted, limit)]


async def states(store: Store) -> dict[str, MessageState]:
    return {record.message_id: record.state for record in await store.find(Filter(), 1000)}


@pytest.fixture
async def mixed(store: Store) -> Store:
    """One of each state for one tenant, one pending of another."""
    await store.add([draft(name) for name in ("delivered", "parked", "dropped")])
    await store.add([draft("pending", SHIPMENT, key=K1), draft("theirs", tenant=GLOBEX)])
    rows = await due(store)
    await store.settle([(rows["delivered"].key, Delivered()), (rows["parked"].key, Parked("HTTP 400"))])
    await drop(store, Filter(ids=(MessageId("dropped"),)), "not wanted")
    return store


# --- reading --------------------------------------------------------------------------------------


async def test_counts_by_tenant_and_state(mixed: Store) -> None:
    counts = await mixed.counts()
    acme = counts[ACME]
    assert (acme.pending, acme.delivered, acme.parked, acme.dropped) == (1, 1, 1, 1)
    assert set(counts) == {ACME, GLOBEX}
    assert acme.oldest_due_seconds is not None
    assert 0 <= acme.oldest_due_seconds < 60


async def test_the_size_grows_with_what_is_stored(store: Store) -> None:
    before = await store.size()
    await store.add([Draft(ACME, ORDER, bytes([1]) + secrets.token_bytes(300_000)) for _ in range(3)])
    assert await store.size() >= before + 900_000


async def test_nothing_is_counted_in_an_empty_outbox(store: Store) -> None:
    assert await store.counts() == {}


async def test_the_oldest_due_is_none_where_nothing_is_due(store: Store) -> None:
    await store.add([draft("a"), draft("b", tenant=GLOBEX)])
    await store.settle([((await due(store))["a"].key, Released("x", wait=3600.0))])
    await store.settle([((await due(store, GLOBEX))["b"].key, Delivered())])
    counts = await store.counts()
    assert (counts[ACME].pending, counts[ACME].oldest_due_seconds) == (1, None)
    assert counts[GLOBEX] == Count(delivered=1)


async def test_the_oldest_due_grows_and_is_the_oldest_over_lanes_and_documents(store: Store) -> None:
    await store.add([draft("a", SHIPMENT, key=K1)])
    first = (await due(store))["a"]
    await until(store.counts, lambda counts: (counts[ACME].oldest_due_seconds or 0) > 0.02)
    await store.add([draft("b"), draft("c", key=K2)])
    assert ((await store.counts())[ACME].oldest_due_seconds or 0) > 0.02
    await store.settle([(first.key, Released("x", wait=3600.0))])
    younger = (await store.counts())[ACME].oldest_due_seconds
    assert younger is not None


async def test_find_gives_what_fits_everything_set(mixed: Store) -> None:
    every = ["delivered", "parked", "dropped", "pending", "theirs"]
    assert await found(mixed, Filter()) == every
    assert await found(mixed, Filter(tenant=ACME)) == every[:4]
    assert await found(mixed, Filter(tenant=TenantId("NOBODY"))) == []
    assert await found(mixed, Filter(document=SHIPMENT)) == ["pending"]
    assert await found(mixed, Filter(tenant=GLOBEX, document=SHIPMENT)) == []
    assert await found(mixed, Filter(state="pending")) == ["pending", "theirs"]
    assert await found(mixed, Filter(tenant=ACME, state="pending", document=ORDER)) == []
    assert await found(mixed, Filter(state="parked", document=ORDER)) == ["parked"]
    assert await found(mixed, Filter(state="dropped", tenant=GLOBEX)) == []
    assert await found(mixed, Filter(state="delivered", tenant=ACME)) == ["delivered"]
    ids = (MessageId("theirs"), MessageId("parked"), MessageId("none"))
    assert await found(mixed, Filter(ids=ids)) == ["parked", "theirs"]
    assert await found(mixed, Filter(ids=ids, state="pending")) == ["theirs"]
    assert await found(mixed, Filter(ids=ids, tenant=ACME)) == ["parked"]


@pytest.mark.parametrize("state", [None, "pending", "parked"])
async def test_find_gives_the_lowest_rows_up_to_the_limit(store: Store, state: MessageState | None) -> None:
    names = [f"{i}" for i in range(12)]
    await store.add(
        [
            draft(
                f"{i}", (ORDER, SHIPMENT)[i % 2], key=(None, K1, K2)[i % 3], tenant=(ACME, GLOBEX)[i // 3 % 2]
            )
            for i in range(12)
        ]
    )
    if state == "parked":
        await park(store, Filter(), "x")
    assert await found(store, Filter(state=state), 7) == names[:7]
    assert await found(store, Filter(state=state), 0) == []


async def test_a_record_tells_everything_but_the_payload(store: Store) -> None:
    before = datetime.now(UTC) - timedelta(seconds=1)
    await store.add(
        [Draft(ACME, ORDER, b"12345", MessageId("m"), ordering_key=K1, parameters={"location": "N"})]
    )
    await store.settle([((await due(store))["m"].key, Released("HTTP 503", True, 60.0))])
    (record,) = await store.find(Filter(), 1)
    assert (record.tenant_id, record.document_name, record.message_id) == (ACME, ORDER, "m")
    assert (record.to_logical_id, record.ordering_key) == ("lid://default", K1)
    assert (record.parameters, record.size, record.state) == ({"location": "N"}, 5, "pending")
    assert (record.reason, record.attempts, record.settled_at) == ("HTTP 503", 1, None)
    assert before < record.created_at <= record.queued_at < datetime.now(UTC) + timedelta(seconds=1)
    assert record.not_before is not None
    assert timedelta(seconds=50) < record.not_before - record.created_at < timedelta(seconds=90)
    assert record.created_at.tzinfo is not None
    assert record.history == ()


async def test_show_has_the_history(store: Store) -> None:
    await store.add([draft("m")])
    row = (await due(store))["m"].row
    await settle_rows(store, [(row, Released("HTTP 412"))])
    await settle_rows(store, [(row, Released("HTTP 500", True, 1.0))])
    await settle_rows(store, [(row, Parked("HTTP 400"))])
    await retry(store, Filter())
    await drop(store, Filter(), "by mistake")
    await retry(store, Filter())
    await park(store, Filter(), "later")
    await retry(store, Filter())
    await settle_rows(store, [(row, Delivered())])
    (record,) = await store.show(MessageId("m"), None)
    assert [(what, detail) for _, what, detail in record.history] == [
        ("released", "HTTP 412"),
        ("counted", "HTTP 500"),
        ("parked", "HTTP 400"),
        ("retried", ""),
        ("dropped", "by mistake"),
        ("retried", ""),
        ("parked", "later"),
        ("retried", ""),
        ("delivered", ""),
    ]
    instants = [at for at, _, _ in record.history]
    assert instants == sorted(instants)
    assert record.settled_at is not None
    assert instants[-2] <= record.settled_at


async def test_a_long_list_is_leafed_through(store: Store) -> None:
    await store.add([draft(f"m{number}") for number in range(7)])
    rows = {name: message.row for name, message in (await due(store)).items()}
    await settle_rows(
        store, [(rows[f"m{number}"], Parked("HTTP 413" if number else "413")) for number in range(4)]
    )
    await settle_rows(store, [(rows["m4"], Delivered())])
    every = [f"m{number}" for number in range(7)]
    assert await leaves(store, Filter(), 3) == [every[:3], every[3:6], every[6:]]
    assert await leaves(store, Filter(ACME), 7) == [every]
    assert await leaves(store, Filter(state="parked"), 2) == [every[:2], every[2:4]]
    assert await leaves(store, Filter(ACME, state="pending"), 1) == [["m5"], ["m6"]]
    assert await leaves(store, Filter(reason="HTTP"), 2) == [["m1", "m2"], ["m3"]]


async def test_a_plain_delivery_has_no_history(store: Store) -> None:
    await store.add([draft("m")])
    await store.settle([((await due(store))["m"].key, Delivered())])
    (record,) = await store.show(MessageId("m"), ACME)
    assert (record.state, record.history) == ("delivered", ())


async def test_show_gives_several_where_tenants_use_the_same_id(store: Store) -> None:
    await store.add([draft("m"), draft("m", tenant=GLOBEX)])
    assert [record.tenant_id for record in await store.show(MessageId("m"), None)] == [ACME, GLOBEX]
    assert [record.tenant_id for record in await store.show(MessageId("m"), GLOBEX)] == [GLOBEX]
    assert await store.show(MessageId("other"), None) == []


async def test_before_a_message_are_those_of_its_lane_over_all_documents(store: Store) -> None:
    await store.add([draft("1", key=K1), draft("2", SHIPMENT, key=K1), draft("3", key=K1)])
    await store.add(
        [draft("-1", SHIPMENT), draft("-2"), draft("other", key=K2), draft("theirs", tenant=GLOBEX)]
    )
    records = {record.message_id: record for record in await store.find(Filter(), 100)}

    async def before(name: str, ordering: Ordering = "key", *skipped: DocumentName, limit: int = 9) -> str:
        found = await store.before(records[MessageId(name)], ordering, skipped, limit)
        return " ".join(record.message_id for record in found)

    assert [await before(name) for name in ("1", "2", "3")] == ["", "1", "1 2"]
    assert [await before(name) for name in ("-1", "-2", "other", "theirs")] == ["", "-1", "", ""]
    assert await before("3", "key", SHIPMENT) == "1"
    assert await before("3", limit=1) == "1"
    assert [await before(name, "none") for name in ("3", "-2")] == ["", ""]
    assert await before("other", "tenant") == "1 2 3 -1 -2"
    assert await before("other", "tenant", SHIPMENT, limit=2) == "1 3"
    assert await before("theirs", "tenant") == ""
    await store.settle([(key_of(records[MessageId("1")]), Parked("x"))])
    assert await before("3") == "2"


# --- deciding -------------------------------------------------------------------------------------


async def test_retry_brings_parked_and_dropped_ones_back_and_ends_delays(mixed: Store) -> None:
    pending = (await due(mixed))["pending"]
    await mixed.settle([(pending.key, Released("x", True, 3600.0))])
    assert await retry(mixed, Filter(tenant=ACME)) == 3
    assert await states(mixed) == {
        "delivered": "delivered",
        "parked": "pending",
        "dropped": "pending",
        "pending": "pending",
        "theirs": "pending",
    }
    again = await due(mixed)
    assert list(again) == ["parked", "dropped", "pending"]
    assert all((message.attempts, message.holds_for) == (0, 0.0) for message in again.values())


async def test_a_retried_message_returns_to_its_rows_place_queued_now(store: Store) -> None:
    await store.add([draft("a"), draft("b")])
    await store.settle([((await due(store))["a"].key, Parked("x"))])
    await until(lambda: due(store), lambda messages: messages["b"].age > 0.02)
    await retry(store, Filter(state="parked"))
    again = await due(store)
    assert list(again) == ["a", "b"]
    assert again["a"].age < again["b"].age
    (record,) = await store.find(Filter(ids=(MessageId("a"),)), 1)
    assert (record.reason, record.settled_at) == (None, None)
    assert record.queued_at > record.created_at


async def test_park_takes_pending_ones_only(mixed: Store) -> None:
    assert await park(mixed, Filter(), "later") == 2
    assert await states(mixed) == {
        "delivered": "delivered",
        "parked": "parked",
        "dropped": "dropped",
        "pending": "parked",
        "theirs": "parked",
    }
    reasons = {record.message_id: record.reason for record in await mixed.find(Filter(state="parked"), 10)}
    assert reasons == {"parked": "HTTP 400", "pending": "later", "theirs": "later"}


async def test_drop_takes_pending_and_parked_ones(mixed: Store) -> None:
    assert await drop(mixed, Filter(tenant=ACME), "gone") == 2
    assert (await states(mixed))["theirs"] == "pending"
    count = (await mixed.counts())[ACME]
    assert (count.pending, count.delivered, count.parked, count.dropped) == (0, 1, 0, 3)


async def test_a_decision_reaches_what_its_filter_means_and_nothing_else(mixed: Store) -> None:
    assert await drop(mixed, Filter(state="parked"), "x") == 1
    assert await drop(mixed, Filter(state="delivered"), "x") == 0
    assert await park(mixed, Filter(document=ORDER), "x") == 1
    assert await park(mixed, Filter(ids=(MessageId("pending"),), tenant=GLOBEX), "x") == 0
    assert await retry(mixed, Filter(state="delivered")) == 0
    assert (await states(mixed))["pending"] == "pending"


async def test_a_decision_about_thousands_reaches_each_of_them_once(store: Store) -> None:
    await store.add([draft(f"{i}", key=(None, K1)[i % 2]) for i in range(1_201)])
    assert await park(store, Filter(tenant=ACME), "x") == 1_201
    assert await retry(store, Filter()) == 1_201
    assert await retry(store, Filter()) == 1_201
    assert len(await due(store)) == 1_000
    (record,) = await store.show(MessageId("1200"), None)
    assert [what for _, what, _ in record.history] == ["parked", "retried", "retried"]


async def test_every_decision_about_messages_bumps_the_revision_of_their_tenants(store: Store) -> None:
    await store.add([draft("a"), draft("b", tenant=GLOBEX)])
    revisions = [0]
    for deciding in (park(store, Filter(tenant=ACME), "x"), retry(store, Filter(tenant=ACME))):
        await deciding
        revisions.append((await store.notification()).controls[ACME].revision)
    await drop(store, Filter(tenant=ACME), "x")
    controls = (await store.notification()).controls
    revisions.append(controls[ACME].revision)
    assert revisions == sorted(set(revisions))
    assert GLOBEX not in controls


async def test_a_decision_that_changes_nothing_bumps_nothing(mixed: Store) -> None:
    before = (await mixed.notification()).controls
    await park(mixed, Filter(ids=(MessageId("delivered"),)), "x")
    assert (await mixed.notification()).controls == before


async def test_pause_and_resume_bump_the_revision(store: Store) -> None:
    await store.pause(ACME, "holidays")
    assert (await store.notification()).controls == {ACME: Control(1, "holidays")}
    await store.pause(ACME, "longer")
    assert (await store.notification()).controls == {ACME: Control(2, "longer")}
    await store.resume(ACME, "ann@desk")
    assert (await store.notification()).controls == {ACME: Control(3, None)}


async def test_resume_of_a_tenant_that_is_not_paused_reaches_its_worker_too(store: Store) -> None:
    """It may be halted, which only its worker knows."""
    await store.resume(ACME, "ann@desk")
    assert (await store.notification()).controls == {ACME: Control(1, None)}
