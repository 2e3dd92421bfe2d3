"""What every outbox promises to workers, applications and the relay process (`ports.Outbox`, `Housekeeping`)."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from relay.core.admin import Filter
from relay.core.model import (
    Delivered,
    DocumentName,
    Draft,
    LogicalId,
    Message,
    MessageId,
    MessageKey,
    OrderingKey,
    Parked,
    Released,
    RowId,
    Settlement,
    SettlementId,
    TenantId,
    TenantState,
)
from relay.core.ports import LARGE_PAYLOAD, ConflictError, NotSettled, Store, StoreError
from relay.core.replies import Accepted
from relay.ion.response_bodies import read_accepted
from tests.contract.stores import ACME, GLOBEX, ROOM, StoreCase, drop, park, until
from tests.support.keys import settle_rows

ORDER = DocumentName("Sync.SalesOrder")
SHIPMENT = DocumentName("Sync.Shipment")
BOTH = frozenset({ORDER, SHIPMENT})
K1, K2 = OrderingKey("k1"), OrderingKey("k2")


def draft(
    text: str = "x",
    document: DocumentName = ORDER,
    *,
    tenant: TenantId = ACME,
    key: OrderingKey | None = None,
    message_id: str | None = None,
) -> Draft:
    return Draft(
        tenant,
        document,
        text.encode(),
        None if message_id is None else MessageId(message_id),
        ordering_key=key,
    )


async def due(
    store: Store,
    *,
    tenant: TenantId = ACME,
    accepted: frozenset[DocumentName] = BOTH,
    held: Sequence[OrderingKey | None] = (),
    known: Sequence[RowId] = (),
    limit: int = 100,
    max_bytes: int = ROOM,
) -> Sequence[Message]:
    return await store.due(tenant, accepted, frozenset(held), frozenset(known), limit, max_bytes)


async def texts(store: Store, **asked: object) -> list[str]:
    return [message.payload.decode() for message in await due(store, **asked)]  # type: ignore[arg-type]


async def only(store: Store) -> Message:
    (message,) = await due(store)
    return message


async def state_of(store: Store, row: RowId) -> str:
    return next(record.state for record in await store.find(Filter(), 1000) if record.row == row)


# --- add ------------------------------------------------------------------------------------------


async def test_what_is_added_comes_out_whole(store: Store) -> None:
    whole = Draft(
        tenant_id=ACME,
        document_name=ORDER,
        payload="Grüße \0 {}".encode(),
        message_id=MessageId("order 7:-ION-:Ü"),
        to_logical_id=LogicalId("lid://infor.m3.m3prd"),
        ordering_key=OrderingKey("kunde/Ä"),
        parameters={"documentId": "SO-7", "variationId": 2**63 - 1, "custom_Région": "é"},
    )
    assert await store.add([whole]) == ["order 7:-ION-:Ü"]
    message = await only(store)
    assert (message.tenant_id, message.document_name) == (ACME, ORDER)
    assert (message.payload, message.size) == (whole.payload, len(whole.payload))
    assert (message.message_id, message.to_logical_id) == (whole.message_id, whole.to_logical_id)
    assert message.ordering_key == "kunde/Ä"
    assert (message.attempts, message.holds_for) == (0, 0.0)
    assert 0 <= message.age < 60
    (record,) = await store.find(Filter(), 10)
    assert record.parameters == whole.parameters


async def test_everything_unset_gets_its_default(store: Store) -> None:
    (minted,) = await store.add([draft()])
    message = await only(store)
    assert message.message_id == minted
    assert len(minted) == 32
    assert int(minted, 16) >= 0
    assert minted[12] == "4"
    assert message.to_logical_id == "lid://default"
    assert message.ordering_key is None
    assert message.parameters == "{}"


async def test_ids_come_back_in_the_order_of_the_drafts(store: Store) -> None:
    ids = await store.add([draft("a", message_id="2"), draft("b"), draft("c", message_id="1")])
    assert [ids[0], ids[2]] == ["2", "1"]
    assert await texts(store) == ["a", "b", "c"]


async def test_adding_nothing_is_fine(store: Store) -> None:
    assert await store.add([]) == []


async def test_the_same_id_with_the_same_content_is_stored_once(store: Store) -> None:
    again = Draft(ACME, ORDER, b"x", MessageId("m"), parameters={"documentId": "1", "location": "N"})
    other_order = Draft(ACME, ORDER, b"x", MessageId("m"), parameters={"location": "N", "documentId": "1"})
    assert await store.add([again, other_order]) == ["m", "m"]
    assert await store.add([again]) == ["m"]
    assert len(await due(store)) == 1


async def test_enqueued_again_after_delivery_it_stays_delivered(store: Store) -> None:
    await store.add([draft(message_id="m")])
    await store.settle([((await only(store)).key, Delivered())])
    assert await store.add([draft(message_id="m")]) == ["m"]
    assert await due(store) == []


@pytest.mark.parametrize(
    "other",
    [
        Draft(ACME, ORDER, b"y", MessageId("m")),
        Draft(ACME, SHIPMENT, b"x", MessageId("m")),
        Draft(ACME, ORDER, b"x", MessageId("m"), LogicalId("lid://a.b.c")),
        Draft(ACME, ORDER, b"x", MessageId("m"), ordering_key=K1),
        Draft(ACME, ORDER, b"x", MessageId("m"), parameters={"documentId": "1"}),
    ],
    ids=["payload", "document", "to", "key", "parameters"],
)
async def test_the_same_id_with_another_content_is_refused_and_nothing_of_the_call_is_stored(
    store: Store, other: Draft
) -> None:
    await store.add([draft(message_id="m")])
    with pytest.raises(ConflictError, match="'m'") as caught:
        await store.add([draft("before"), other, draft("behind")])
    assert (caught.value.tenant, caught.value.message_id) == (ACME, "m")
    assert await texts(store) == ["x"]
    await store.add([draft("next")])
    assert await texts(store) == ["x", "next"]


async def test_two_tenants_may_use_the_same_id(store: Store) -> None:
    await store.add([draft("a", message_id="m"), draft("b", message_id="m", tenant=GLOBEX)])
    assert await texts(store) == ["a"]
    assert await texts(store, tenant=GLOBEX) == ["b"]


async def test_the_case_of_a_tenant_id_is_of_no_account(store_case: StoreCase, store: Store) -> None:
    """An application may write it as it likes; the relay sees it in upper case everywhere."""
    await store_case.insert(draft("a", tenant=TenantId("acme_prd"), message_id="m"))
    await store.add([draft("a", tenant=TenantId("Acme_Prd"), message_id="m")])
    with pytest.raises(ConflictError):
        await store.add([draft("b", message_id="m")])
    message = await only(store)
    assert message.tenant_id == ACME
    assert (await store.notification()).pending == {ACME}
    assert await store.documents(ACME) == {ORDER}
    assert [record.tenant_id for record in await store.find(Filter(tenant=ACME), 10)] == [ACME]
    assert list(await store.counts()) == [ACME]
    await park(store, Filter(), "why")
    assert list((await store.notification()).controls) == [ACME]


# --- due ------------------------------------------------------------------------------------------


async def test_an_odd_name_from_ion_does_not_stop_the_good_document(store: Store) -> None:
    """As they come from the wire: PostgreSQL takes no NUL, and no store half a surrogate pair."""
    await store.add([draft("1")])
    accepted = read_accepted(b'{"acceptedDocuments": ["a\\u0000b", "\\ud800", "Sync.SalesOrder"]}')
    assert isinstance(accepted, Accepted)
    assert await texts(store, accepted=accepted.documents) == ["1"]


async def test_due_gives_the_tenants_own_accepted_messages_in_the_order_of_their_rows(store: Store) -> None:
    await store.add([draft("1"), draft("2", SHIPMENT, key=K1), draft("3", tenant=GLOBEX), draft("4", key=K2)])
    assert await texts(store) == ["1", "2", "4"]
    assert await texts(store, accepted=frozenset({SHIPMENT})) == ["2"]
    assert await texts(store, accepted=frozenset()) == []
    assert await texts(store, accepted=frozenset({DocumentName("sync.salesorder")})) == []


async def test_due_leaves_out_the_held_lanes_and_no_key_is_a_lane_too(store: Store) -> None:
    await store.add([draft("-"), draft("1", key=K1), draft("2", SHIPMENT, key=K2), draft("-", SHIPMENT)])
    assert await texts(store, held=[None]) == ["1", "2"]
    assert await texts(store, held=[K1]) == ["-", "2", "-"]
    assert await texts(store, held=[K1, K2, None]) == []
    assert await texts(store, held=[OrderingKey("other")]) == ["-", "1", "2", "-"]


async def test_due_leaves_out_the_known_rows(store: Store) -> None:
    await store.add([draft("1"), draft("2", key=K1), draft("3")])
    first, second, _ = await due(store)
    assert await texts(store, known=[first.row]) == ["2", "3"]
    assert await texts(store, known=[first.row, second.row]) == ["3"]


async def test_known_and_held_rows_do_not_count_towards_the_limit(store: Store) -> None:
    await store.add([draft("held", key=K1) for _ in range(20)] + [draft("known") for _ in range(20)])
    await store.add([draft("a", key=K2), draft("b")])
    known = [message.row for message in await due(store, held=[K1], limit=20)]
    assert await texts(store, held=[K1], known=known, limit=1) == ["a"]
    assert await texts(store, held=[K1], known=known, limit=2) == ["a", "b"]


async def test_thousands_of_rows_of_held_lanes_do_not_hide_the_others(store: Store) -> None:
    """Nor change their order, however many documents and lanes they are in."""
    await store.add([draft("held", (ORDER, SHIPMENT)[i % 2], key=K1) for i in range(10_000)])
    await store.add(
        [draft(f"{i}", (ORDER, SHIPMENT)[i % 2], key=OrderingKey(f"{-i % 7}")) for i in range(50)]
    )
    assert await texts(store, held=[K1], limit=30) == [f"{i}" for i in range(30)]


async def test_thousands_of_lanes_behind_a_held_one_come_in_order(store: Store) -> None:
    await store.add([draft("held", key=K1) for _ in range(5_000)])
    await store.add([draft(f"{i}", key=OrderingKey(f"{-i % 3000}")) for i in range(3_000)])
    assert await texts(store, held=[K1], limit=100) == [f"{i}" for i in range(100)]


async def test_due_gives_the_lowest_rows_up_to_the_limit(store: Store) -> None:
    await store.add([draft(f"{i}", (ORDER, SHIPMENT)[i % 2], key=(None, K1, K2)[i % 3]) for i in range(12)])
    assert await texts(store, limit=5) == ["0", "1", "2", "3", "4"]


async def test_due_reads_about_max_bytes_but_never_none_where_there_is_one(store: Store) -> None:
    await store.add([draft(text * 10) for text in "abcd"])
    assert await texts(store, max_bytes=25) == ["a" * 10, "b" * 10]
    assert await texts(store, max_bytes=10) == ["a" * 10]


async def test_a_payload_larger_than_max_bytes_stays_unread_and_holds_up_nobody(store: Store) -> None:
    await store.add([draft("small"), draft("L" * 1000), draft("next")])
    first, large, third = await due(store, max_bytes=100)
    assert (large.payload, large.size) == (b"", 1000)
    assert (first.payload, third.payload) == (b"small", b"next")


async def test_a_large_payload_stays_unread_and_is_read_by_itself(store: Store) -> None:
    size = LARGE_PAYLOAD
    await store.add([draft("a" * size), draft("b" * (size + 1)), draft("c")])
    first, large, third = await due(store)
    assert (len(first.payload), first.size, third.payload) == (size, size, b"c")
    assert (large.payload, large.size) == (b"", size + 1)
    whole = await store.message(large.row, large.size)
    assert whole is not None
    assert (whole.payload, whole.message_id) == (b"b" * (size + 1), large.message_id)
    assert replace(whole, payload=b"", age=0.0) == replace(large, age=0.0)
    unread = await store.message(large.row, size)
    assert unread is not None
    assert (unread.payload, unread.size) == (b"", size + 1)


async def test_a_message_that_is_not_pending_any_more_is_not_read(store: Store) -> None:
    await store.add([draft("x"), draft("y")])
    first, second = await due(store)
    await store.settle([(first.key, Delivered()), (second.key, Parked("refused"))])
    assert [await store.message(row, ROOM) for row in (first.row, second.row, RowId(999))] == [None] * 3


async def test_where_max_bytes_is_reached_nothing_behind_is_read_either(store: Store) -> None:
    """A smaller one that would still fit may be of the same lane: it must not overtake."""
    await store.add([draft("a" * 60), draft("b" * 60), draft("c")])
    assert await texts(store, max_bytes=100) == ["a" * 60]


async def test_a_message_whose_delay_runs_is_returned_too(store: Store) -> None:
    """It holds its lane; only the worker knows lanes."""
    await store.add([draft("head"), draft("behind")])
    head, behind = await due(store)
    await store.settle([(head.key, Released("busy", True, 3600.0))])
    again, same = await due(store)
    assert again.row == head.row
    assert 3590 < again.holds_for < 3600.01
    assert (same.row, same.holds_for) == (behind.row, 0.0)


async def test_a_delay_ends_by_itself(store: Store) -> None:
    await store.add([draft()])
    await store.settle([((await only(store)).key, Released("busy", wait=0.05))])
    assert 0 < (await only(store)).holds_for < 0.06
    await until(lambda: only(store), lambda message: message.holds_for == 0)


async def test_a_row_that_commits_late_under_a_lower_id_is_still_seen(
    store_case: StoreCase, store: Store
) -> None:
    """By state, never "id > last seen": rows commit out of order in some databases."""
    await store_case.insert(draft("late neighbour"), row=10)
    first = await only(store)
    await store.settle([(first.key, Delivered())])
    await store_case.insert(draft("late"), row=7)
    assert [message.row for message in await due(store)] == [7]


async def test_documents_are_those_of_pending_messages_accepted_or_not(store: Store) -> None:
    assert await store.documents(ACME) == frozenset()
    await store.add(
        [draft(), draft(document=SHIPMENT, key=K1), draft(document=DocumentName("Z"), tenant=GLOBEX)]
    )
    assert await store.documents(ACME) == {ORDER, SHIPMENT}
    (first, *_) = await due(store)
    await store.settle([(first.key, Delivered())])
    assert await store.documents(ACME) == {SHIPMENT}


# --- settle ---------------------------------------------------------------------------------------


async def test_delivered_is_gone_from_due(store: Store) -> None:
    await store.add([draft("a"), draft("b"), draft("c")])
    first, _, third = await due(store)
    await store.settle([(first.key, Delivered()), (third.key, Delivered())])
    assert await texts(store) == ["b"]
    assert await state_of(store, first.row) == "delivered"


async def test_released_keeps_its_place_and_its_reason(store: Store) -> None:
    await store.add([draft("a"), draft("b")])
    first, _ = await due(store)
    await store.settle([(first.key, Released("HTTP 503"))])
    assert await texts(store) == ["a", "b"]
    record, _ = await store.find(Filter(), 10)
    assert (record.state, record.reason, record.attempts, record.not_before) == (
        "pending",
        "HTTP 503",
        0,
        None,
    )
    assert record.settled_at is None


@pytest.mark.parametrize(("counted", "attempts"), [(True, 2), (False, 1)])
async def test_a_message_that_is_parked_by_an_answer_has_one_attempt_more(
    store: Store, counted: bool, attempts: int
) -> None:
    await store.add([draft()])
    (message,) = await due(store)
    await settle_rows(store, [(message.row, Released("HTTP 500", counted=True))])
    parked = Parked("HTTP 400", counted=counted, id=SettlementId("s"))
    await settle_rows(store, [(message.row, parked)])
    await settle_rows(store, [(message.row, parked)])  # its answer was lost
    (record,) = await store.find(Filter(), 10)
    assert (record.state, record.attempts) == ("parked", attempts)


async def test_only_counted_releases_count_as_attempts(store: Store) -> None:
    await store.add([draft()])
    row = (await only(store)).row
    for settlement in (Released("a", True), Released("b"), Released("c", True, 0.5)):
        await settle_rows(store, [(row, settlement)])
    assert (await only(store)).attempts == 2


async def test_a_release_without_a_wait_ends_an_earlier_one(store: Store) -> None:
    await store.add([draft()])
    row = (await only(store)).row
    await settle_rows(store, [(row, Released("a", True, 3600))])
    await settle_rows(store, [(row, Released("b"))])
    assert (await only(store)).holds_for == 0


async def test_parked_is_out_of_the_queue_with_its_reason(store: Store) -> None:
    await store.add([draft()])
    row = (await only(store)).row
    await settle_rows(store, [(row, Released("first", True, 60.0))])
    await settle_rows(store, [(row, Parked("HTTP 400: no"))])
    assert await due(store) == []
    (record,) = await store.find(Filter(), 10)
    assert (record.state, record.reason, record.attempts, record.not_before) == (
        "parked",
        "HTTP 400: no",
        1,
        None,
    )


@pytest.mark.parametrize(
    "later", [Released("x", True, 9.0), Parked("x"), Delivered()], ids=lambda s: type(s).__name__
)
async def test_a_delivered_message_stays_as_it_is(store: Store, later: Delivered | Released | Parked) -> None:
    await store.add([draft()])
    row = (await only(store)).row
    await settle_rows(store, [(row, Delivered())])
    before = await store.find(Filter(), 1)
    await settle_rows(store, [(row, later)])
    assert await store.find(Filter(), 1) == before


async def test_delivered_wins_over_parked(store: Store) -> None:
    await store.add([draft()])
    row = (await only(store)).row
    await settle_rows(store, [(row, Parked("gave up"))])
    await settle_rows(store, [(row, Delivered())])
    (record,) = await store.find(Filter(), 1)
    assert (record.state, record.reason) == ("delivered", None)


async def test_delivered_wins_over_what_a_person_decided_meanwhile(store: Store) -> None:
    """The message was on its way when it was dropped: the truth is that ION has it."""
    await store.add([draft()])
    row = (await only(store)).row
    await drop(store, Filter(), "not wanted")
    await settle_rows(store, [(row, Delivered())])
    assert await state_of(store, row) == "delivered"


@pytest.mark.parametrize("late", [Released("x", True, 9.0), Parked("x")], ids=["released", "parked"])
async def test_what_a_person_dropped_is_not_touched_by_a_late_answer(
    store: Store, late: Released | Parked
) -> None:
    await store.add([draft()])
    row = (await only(store)).row
    await drop(store, Filter(), "not wanted")
    await settle_rows(store, [(row, late)])
    (record,) = await store.find(Filter(), 1)
    assert (record.state, record.reason, record.attempts) == ("dropped", "not wanted", 0)


@pytest.mark.parametrize("delivered_first", [True, False])
async def test_a_message_settled_twice_in_one_call_is_delivered_if_either_is_a_delivery(
    store: Store, delivered_first: bool
) -> None:
    await store.add([draft()])
    row = (await only(store)).row
    pairs: list[tuple[RowId, Settlement]] = [(row, Delivered()), (row, Parked("no"))]
    await settle_rows(store, pairs if delivered_first else pairs[::-1])
    assert await state_of(store, row) == "delivered"


async def test_a_message_parked_twice_keeps_the_first(store: Store) -> None:
    await store.add([draft()])
    row = (await only(store)).row
    await settle_rows(store, [(row, Parked("first")), (row, Parked("second")), (row, Released("third"))])
    (record,) = await store.find(Filter(), 1)
    assert (record.state, record.reason) == ("parked", "first")


async def test_settling_what_is_not_there_does_nothing(store: Store) -> None:
    fates: list[Settlement] = [Delivered(), Parked("x"), Released("x")]
    absent = [(MessageKey(RowId(row), ACME, MessageId("m")), fate) for row, fate in enumerate(fates, 97)]
    assert await store.settle(absent) == NotSettled()
    await store.settle([])
    assert await store.find(Filter(), 10) == []


async def test_a_mixed_group_is_settled_at_once(store: Store) -> None:
    await store.add([draft(f"{i}") for i in range(128)])
    messages = await due(store, limit=128)
    fates: tuple[Settlement, ...] = (Delivered(), Released("r"), Parked("p"))
    await store.settle([(message.key, fates[i % 3]) for i, message in enumerate(messages)])
    count = (await store.counts())[ACME]
    assert (count.delivered, count.pending, count.parked) == (43, 43, 42)


async def test_what_was_settled_is_there_for_the_next_process(store_case: StoreCase, store: Store) -> None:
    await store.add([draft("a"), draft("b")])
    await store.settle([((await due(store))[0].key, Delivered())])
    await store.close()
    assert await texts(await store_case.open()) == ["b"]


async def test_calls_may_overlap(store: Store) -> None:
    await asyncio.gather(*(store.add([draft(f"{i}")]) for i in range(20)))
    rows = [message.row for message in await due(store)]
    await asyncio.gather(
        *(settle_rows(store, [(row, Delivered())]) for row in rows), *(due(store) for _ in range(5))
    )
    assert (await store.counts())[ACME].delivered == 20


# --- arrivals and signals -------------------------------------------------------------------------


async def test_signals_tell_who_has_pending_rows(store: Store) -> None:
    assert (await store.notification()).pending == frozenset()
    await store.add([draft(), draft(tenant=GLOBEX), draft(tenant=GLOBEX, document=SHIPMENT, key=K1)])
    assert (await store.notification()).pending == {ACME, GLOBEX}
    await store.settle([((await only(store)).key, Parked("x"))])
    assert (await store.notification()).pending == {GLOBEX}


async def test_arrivals_tell_at_first_what_was_there_before(store: Store) -> None:
    await store.add([draft()])
    async with asyncio.timeout(5):
        assert (await store.arrivals(60)).pending == {ACME}


async def test_arrivals_return_when_another_process_hands_over(store_case: StoreCase, store: Store) -> None:
    await settled_down(store)
    waiting = asyncio.create_task(store.arrivals(60))
    await asyncio.sleep(0)
    await store_case.insert(draft())
    async with asyncio.timeout(5):
        assert (await waiting).pending == {ACME}


async def test_a_change_between_two_calls_is_not_missed(store_case: StoreCase, store: Store) -> None:
    await settled_down(store)
    for tenant in (ACME, GLOBEX, TenantId("THIRD")):
        await store_case.insert(draft(tenant=tenant))
        async with asyncio.timeout(5):
            assert tenant in (await store.arrivals(60)).pending


async def test_arrivals_return_when_a_person_decides(store_case: StoreCase, store: Store) -> None:
    await settled_down(store)
    waiting = asyncio.create_task(store.arrivals(60))
    await asyncio.sleep(0)
    await (await store_case.open()).pause(ACME, "holidays")
    async with asyncio.timeout(5):
        assert (await waiting).controls[ACME].paused == "holidays"


async def test_arrivals_return_after_the_time_anyway(store: Store) -> None:
    await settled_down(store)
    async with asyncio.timeout(5):
        assert (await store.arrivals(0.01)).pending == frozenset()
        assert (await store.arrivals(0)).pending == frozenset()


async def settled_down(store: Store) -> None:
    """Take the present notification, so that the next return is for what the test does."""
    loop = asyncio.get_running_loop()
    while True:
        start = loop.time()
        await store.arrivals(0.1)
        if loop.time() - start >= 0.1:
            return


async def test_pause_lasts_over_restarts(store_case: StoreCase, store: Store) -> None:
    await store.pause(ACME, "a message was refused")
    before = (await store.notification()).controls[ACME]
    assert (before.revision, before.paused) == (1, "a message was refused")
    await store.close()
    assert (await (await store_case.open()).notification()).controls[ACME] == before


# --- this relay -----------------------------------------------------------------------------------


async def test_the_first_heartbeat_of_a_process_is_recognised(store_case: StoreCase, store: Store) -> None:
    assert await store.beat("relay-1", {"version": "1"}) is False
    assert await store.beat("relay-1", {"version": "1"}) is True
    again = await store_case.open()
    assert await again.beat("relay-1", {"version": "2"}) is False
    assert await again.beat("relay-1", {"version": "2"}) is True
    (beat,) = await again.relays()
    assert (beat.relay, beat.details, beat.alive) == ("relay-1", {"version": "2"}, True)


async def test_a_swept_heartbeat_is_a_first_one_again(store: Store, store_case: StoreCase) -> None:
    await store.beat("relay-1", {})
    await store_case.age_heartbeat("relay-1")
    assert await (await store_case.open()).unclean() is True
    assert await store.beat("relay-1", {}) is False


async def test_a_new_outbox_is_no_restored_one_and_nothing_is_wrong_with_it(store: Store) -> None:
    assert await store.restored() is None
    assert list(await store.incidents()) == []
    log = await store.log_bytes()
    assert log is None or log >= 0


async def test_an_end_without_leave_is_unclean(store_case: StoreCase, store: Store) -> None:
    assert await store.unclean() is False
    await store.beat("relay-1", {})
    assert await store.unclean() is False
    await store.close()
    await store_case.age_heartbeat("relay-1")
    assert await (await store_case.open()).unclean() is True
    assert await (await store_case.open()).unclean() is False


async def test_an_end_without_leave_is_unclean_also_if_the_next_one_beats_first(
    store_case: StoreCase, store: Store
) -> None:
    await store.beat("relay-1", {})
    await store.close()
    again = await store_case.open()
    await again.beat("relay-1", {})
    assert await again.unclean() is True


async def test_leave_takes_heartbeat_and_states_back(store_case: StoreCase, store: Store) -> None:
    await store.beat("relay-1", {})
    await store.report([live(ACME, "sending")])
    await store.leave("relay-1")
    await store.close()
    again = await store_case.open()
    assert await again.relays() == []
    assert await again.states() == {}
    assert await again.unclean() is False


def live(tenant: TenantId, state: str, next_try: datetime | None = None) -> TenantState:
    return TenantState(tenant, state, "why", datetime(2025, 1, 2, 3, 4, 5, 678000, UTC), next_try)  # type: ignore[arg-type]


async def test_live_states_are_read_by_other_processes(store_case: StoreCase, store: Store) -> None:
    await store.report([live(GLOBEX, "idle")])
    await store.beat("relay-1", {})
    backing_off = live(ACME, "backing-off", datetime(2025, 1, 2, 3, 5, tzinfo=UTC))
    await store.report([live(ACME, "sending"), backing_off])
    other = await store_case.open()
    assert await other.states() == {
        ACME: replace(backing_off, relay="relay-1"),
        GLOBEX: replace(live(GLOBEX, "idle"), relay="relay-1"),
    }


async def test_states_of_a_relay_that_is_not_alive_are_no_longer_true(
    store_case: StoreCase, store: Store
) -> None:
    await store.beat("relay-1", {})
    await store.report([live(ACME, "sending")])
    await store_case.age_heartbeat("relay-1")
    assert await store.states() == {}
    (beat,) = await store.relays()
    assert not beat.alive
    assert beat.started_at > beat.beat_at


async def test_the_stores_clock_is_the_one_that_its_rows_have(store: Store) -> None:
    before = await store.clock()
    await store.beat("relay-1", {})
    (beat,) = await store.relays()
    assert before <= beat.started_at <= await store.clock()


async def test_a_heartbeat_in_the_future_shows_no_relay_that_is_alive(
    store_case: StoreCase, store: Store
) -> None:
    """The store's clock went back an hour after a relay had died: `status` must not take it for a running one."""
    await store.beat("relay-1", {})
    await store.report([live(ACME, "sending")])
    await store_case.age_heartbeat("relay-1", hours=-1)
    assert await store.states() == {}
    assert [beat.alive for beat in await store.relays()] == [False]
    await store.beat("relay-1", {})
    assert list(await store.states()) == [ACME], "a relay that is alive beats again, by the new time"
    assert [beat.alive for beat in await store.relays()] == [True]


async def test_a_heartbeat_in_the_future_is_swept(store_case: StoreCase, store: Store) -> None:
    await store.beat("relay-1", {})
    await store_case.age_heartbeat("relay-1", hours=-1)
    another = await store_case.open()
    await another.beat("relay-2", {})
    assert await another.unclean()
    assert [beat.relay for beat in await another.relays()] == ["relay-2"]


async def test_a_live_state_holds_as_data_what_it_waits_for(store: Store) -> None:
    """The documents' names come back as they are, whatever is in them; the next report replaces them."""
    documents = (DocumentName("Sync.A, B"), DocumentName("Größe 🚀"))
    waiting = replace(live(ACME, "sending"), relay="relay-1", kind="not accepted", documents=documents)
    await store.beat("relay-1", {})
    await store.report([waiting])
    assert await store.states() == {ACME: waiting}
    await store.report([live(ACME, "idle")])
    assert await store.states() == {ACME: replace(live(ACME, "idle"), relay="relay-1")}


async def test_a_report_is_no_decision_of_a_person(store: Store) -> None:
    await store.beat("relay-1", {})
    await store.report([live(ACME, "sending")])
    assert (await store.notification()).controls == {}


# --- prune ----------------------------------------------------------------------------------------


async def test_prune_deletes_what_is_delivered_or_dropped_long_enough_and_nothing_else(store: Store) -> None:
    await store.add([draft(f"{i}") for i in range(4)])
    delivered, parked, dropped, pending = await due(store)
    await store.settle([(delivered.key, Delivered()), (parked.key, Parked("x"))])
    await drop(store, Filter(ids=(dropped.message_id,)), "x")
    assert await store.prune(3600, 10) == 0
    await until(lambda: store.prune(0, 10), lambda pruned: pruned == 0)
    assert [record.row for record in await store.find(Filter(), 10)] == [parked.row, pending.row]
    count = (await store.counts())[ACME]
    assert (count.pending, count.delivered, count.parked, count.dropped) == (1, 0, 1, 0)


async def test_prune_deletes_at_most_so_many_the_longest_settled_first(store: Store) -> None:
    await store.add([draft(f"{i}") for i in range(5)])
    for message in await due(store):
        await store.settle([(message.key, Delivered())])
        await asyncio.sleep(0.002)  # the outbox's clock ticks in milliseconds
    assert await store.prune(0, 3) == 3
    assert len(await store.find(Filter(), 10)) == 2
    assert await store.prune(0, 0) == 0


async def test_a_pruned_rows_id_is_not_given_again(store: Store) -> None:
    """A late settlement must not hit a new message."""
    await store.add([draft(message_id="m")])
    old = await only(store)
    await store.settle([(old.key, Delivered())])
    await until(lambda: store.prune(0, 10), lambda pruned: pruned == 1)
    await store.add([draft("other", message_id="m")])
    assert (await only(store)).row > old.row


async def test_a_tenant_without_rows_is_not_counted(store: Store) -> None:
    await store.add([draft()])
    await store.settle([((await only(store)).key, Delivered())])
    await until(lambda: store.prune(0, 10), lambda pruned: pruned == 1)
    assert await store.counts() == {}


# --- close ----------------------------------------------------------------------------------------


async def test_close_lets_calls_under_way_end_and_refuses_later_ones(
    store_case: StoreCase, store: Store
) -> None:
    adding = asyncio.create_task(store.add([draft("a")]))
    await asyncio.sleep(0)
    await store.close()
    assert len(await adding) == 1
    with pytest.raises(StoreError, match="closed"):
        await store.notification()
    await store.close()
    assert await texts(await store_case.open()) == ["a"]
