"""What every outbox promises of bulk actions and their audit (`admin.Admin`)."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from relay.core.admin import AGES, Action, ActionCount, BulkAction, Filter, MessageState, Outcome, QueueAges
from relay.core.model import (
    AuditId,
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
from relay.core.ports import ConflictError, Control, Store, StoreError
from relay.reports.action_outcome import read_outcome
from tests.contract.stores import ACME, GLOBEX, ROOM, StoreCase, drop, park, retry, until
from tests.support.keys import settle_rows

ORDER = DocumentName("Sync.SalesOrder")
SHIPMENT = DocumentName("Sync.Shipment")
ANN, BOB = "ann@desk", "bob@desk"
EVERY = Filter()


def draft(
    name: str, document: DocumentName = ORDER, *, tenant: TenantId = ACME, key: OrderingKey | None = None
) -> Draft:
    """The message id doubles as the payload."""
    return Draft(tenant, document, name.encode(), MessageId(name), ordering_key=key)


async def due(store: Store, tenant: TenantId = ACME) -> dict[str, Message]:
    messages = await store.due(tenant, {ORDER, SHIPMENT}, frozenset(), frozenset(), 1000, ROOM)
    return {message.message_id: message for message in messages}


async def states(store: Store) -> dict[str, MessageState]:
    return {record.message_id: record.state for record in await store.find(EVERY, 1000)}


async def settled(store: Store, **fates: Delivered | Parked | Released) -> None:
    rows = await due(store)
    await store.settle([(rows[name].key, fate) for name, fate in fates.items()])


async def to_the_end(store: Store, audit_id: AuditId) -> int:
    while (entry := await store.advance(audit_id)).outcome == "running":
        pass
    return entry.messages


# --- the preview ----------------------------------------------------------------------------------


async def test_a_preview_shows_how_many_and_which_and_changes_nothing(store: Store) -> None:
    await store.add([draft(f"{i}", (ORDER, SHIPMENT)[i % 3 == 0]) for i in range(7)])
    await store.add([draft("theirs", tenant=GLOBEX), draft("done")])
    await settled(store, **{"1": Parked("HTTP 400")})
    await settled(store, done=Delivered())
    before = (await states(store), await store.notification(), await store.audit(10))
    seen = await store.preview("drop", EVERY, 3)
    assert (seen.what, seen.total) == ("drop", 8)
    assert set(seen.groups) == {
        (ACME, ORDER, "pending", 3),
        (ACME, SHIPMENT, "pending", 3),
        (ACME, ORDER, "parked", 1),
        (GLOBEX, ORDER, "pending", 1),
    }
    assert [number for *_, number in seen.groups] == [3, 3, 1, 1]
    assert [record.message_id for record in seen.sample] == ["0", "1", "2"]
    assert seen.wanted.moment is not None
    assert (await states(store), await store.notification(), await store.audit(10)) == before


@pytest.mark.parametrize(
    ("what", "selected"), [("retry", {"a", "b", "c"}), ("park", {"a"}), ("drop", {"a", "b"})]
)
async def test_a_preview_counts_what_the_action_could_change(
    store: Store, what: Action, selected: set[str]
) -> None:
    await store.add([draft(name) for name in ("a", "b", "c", "d")])
    await settled(store, b=Parked("x"), d=Delivered())
    await drop(store, Filter(ids=(MessageId("c"),)), "x")
    seen = await store.preview(what, EVERY, 10)
    assert {record.message_id for record in seen.sample} == selected
    assert seen.total == len(selected)
    assert (await store.preview(what, Filter(state="delivered"))).total == 0
    assert (await store.preview(what, Filter(tenant=GLOBEX))).sample == []


async def test_a_reason_is_a_text_that_the_messages_reason_contains(store: Store) -> None:
    """As it is written: no case, no pattern."""
    await store.add([draft(name) for name in ("a", "b", "c", "d")])
    await settled(store, a=Parked("HTTP 400: 100% wrong"), b=Parked("HTTP 413"), c=Released("HTTP 503"))

    async def found(reason: str, state: MessageState | None = None) -> list[str]:
        return [one.message_id for one in await store.find(Filter(state=state, reason=reason), 10)]

    assert await found("HTTP") == ["a", "b", "c"]
    assert await found("HTTP", "parked") == ["a", "b"]
    assert await found("0% w") == ["a"]
    assert await found("http") == []
    assert await found("%") == ["a"]
    assert await found("_") == []
    assert await retry(store, Filter(reason="413")) == 1
    assert (await states(store))["b"] == "pending"


async def test_the_first_few_are_found_however_many_others_come_before(store: Store) -> None:
    await store.add([draft(f"{i}") for i in range(600)])
    await settled(store, **{f"{i}": Parked("HTTP 400") for i in range(590)})
    await settled(store, **{f"{i}": Parked("HTTP 413") for i in range(590, 600)})
    found = await store.find(Filter(reason="413"), 3)
    assert [record.message_id for record in found] == ["590", "591", "592"]


# --- frozen ---------------------------------------------------------------------------------------


async def test_what_comes_after_the_preview_is_not_touched(store: Store) -> None:
    """Neither a new message, nor one that was parked or dropped only then, nor one that went again since."""
    await store.add([draft(name) for name in ("old", "later", "again", "done")])
    await settled(store, old=Parked("x"), again=Parked("x"), done=Parked("x"))
    seen = await store.preview("drop", Filter(state="parked"))
    assert seen.total == 3
    await store.add([draft("new")])
    await settled(store, later=Parked("x"), new=Parked("x"))
    await retry(store, Filter(ids=(MessageId("again"), MessageId("done"))))
    await settled(store, again=Parked("once more"), done=Delivered())
    assert await store.decide(BulkAction("drop", seen.wanted, ANN)) == 1
    assert await states(store) == {
        "old": "dropped", "later": "parked", "again": "parked", "done": "delivered", "new": "parked",
    }  # fmt: skip


async def test_a_waiting_message_that_was_tried_since_the_preview_is_still_selected(store: Store) -> None:
    await store.add([draft("a"), draft("b")])
    seen = await store.preview("park", EVERY)
    await settled(store, a=Released("HTTP 503", True, 60.0))
    await store.add([draft("new")])
    assert await store.decide(BulkAction("park", seen.wanted, ANN, "x")) == 2
    assert await states(store) == {"a": "parked", "b": "parked", "new": "pending"}


async def test_what_is_retried_once_is_not_retried_again_by_the_same_action(store: Store) -> None:
    await store.add([draft("a")])
    await settled(store, a=Parked("x"))
    audit_id = await store.begin(BulkAction("retry", EVERY, ANN))
    await settled_again(store)
    assert await to_the_end(store, audit_id) == 0
    assert await states(store) == {"a": "parked"}


async def settled_again(store: Store) -> None:
    await retry(store, EVERY)
    await settled(store, a=Parked("y"))


# --- chunk by chunk -------------------------------------------------------------------------------


async def test_an_action_begins_without_changing_anything(store: Store) -> None:
    await store.add([draft("a")])
    before = datetime.now(UTC) - timedelta(seconds=1)
    audit_id = await store.begin(BulkAction("park", Filter(tenant=TenantId("acme_prd")), ANN, "later"))
    assert await states(store) == {"a": "pending"}
    entry = await store.entry(audit_id)
    assert entry is not None
    assert (entry.id, entry.who, entry.what, entry.tenant, entry.reason) == (
        audit_id,
        ANN,
        "park",
        ACME,
        "later",
    )
    assert (entry.messages, entry.outcome, entry.ended_at) == (0, "running", None)
    assert before < entry.at < datetime.now(UTC) + timedelta(seconds=1)


async def test_progress_is_in_the_audit_after_each_chunk_for_everyone(store_case: StoreCase) -> None:
    store, other = await store_case.open(), await store_case.open()
    await store.add([draft(f"{i}") for i in range(1_201)])
    audit_id = await store.begin(BulkAction("park", EVERY, ANN, "x"))
    seen = []
    for process in (store, other, store, other):
        entry = await process.advance(audit_id)
        assert await store.entry(audit_id) == entry
        assert (await store.counts())[ACME].parked == entry.messages
        seen.append((entry.messages, entry.outcome, entry.ended_at is not None))
    assert seen == [
        (500, "running", False),
        (1000, "running", False),
        (1201, "done", True),
        (1201, "done", True),
    ]


async def test_an_action_is_cancelled_from_another_process_and_what_is_done_stays(
    store_case: StoreCase,
) -> None:
    store, other = await store_case.open(), await store_case.open()
    await store.add([draft(f"{i}") for i in range(1_100)])
    audit_id = await store.begin(BulkAction("park", EVERY, ANN, "x"))
    await store.advance(audit_id)
    assert await other.cancel(audit_id, BOB) is True
    after = await store.advance(audit_id)
    assert (after.messages, after.outcome, after.ended_at is None) == (500, "cancelled", False)
    assert (await store.counts())[ACME].parked == 500
    assert await other.cancel(audit_id, BOB) is False
    newest, first = await store.audit(10)
    assert (newest.who, newest.what, newest.selection) == (BOB, "cancel", f"park {audit_id}")
    assert first == after


async def test_an_action_that_is_over_cannot_be_cancelled(store: Store) -> None:
    audit_id = await store.begin(BulkAction("park", EVERY, ANN, "x"))
    await to_the_end(store, audit_id)
    assert await store.cancel(audit_id, BOB) is False
    assert len(await store.audit(10)) == 1
    assert await store.cancel(AuditId(999), BOB) is False


async def test_advancing_what_never_began_is_an_error(store: Store) -> None:
    with pytest.raises(StoreError, match="no bulk action 999"):
        await store.advance(AuditId(999))
    assert await store.entry(AuditId(999)) is None


async def test_two_that_advance_the_same_action_change_each_message_once(store_case: StoreCase) -> None:
    store, other = await store_case.open(), await store_case.open()
    await store.add([draft(f"{i}") for i in range(1_300)])
    audit_id = await store.begin(BulkAction("retry", EVERY, ANN, "x"))
    async with asyncio.timeout(60):
        await asyncio.gather(to_the_end(store, audit_id), to_the_end(other, audit_id))
    entry = await store.entry(audit_id)
    assert entry is not None
    assert (entry.messages, entry.outcome) == (1_300, "done")
    for name in ("0", "700", "1299"):
        (record,) = await store.show(MessageId(name), ACME)
        assert [(what, detail) for _, what, detail in record.history] == [("retried", "x")]


# --- the audit ------------------------------------------------------------------------------------


async def test_everything_that_a_person_does_is_in_the_audit_the_newest_first(store: Store) -> None:
    await store.add([draft("a"), draft("b", tenant=GLOBEX)])
    await park(store, Filter(tenant=ACME), "later")
    await store.decide(BulkAction("retry", Filter(ids=(MessageId("a"),), state="parked"), BOB))
    await store.pause(ACME, "holidays", ANN)
    await store.resume(ACME, BOB)
    await store.ask(GLOBEX, ANN)
    await store.note(BOB, "show", ACME, "a")
    entries = await store.audit(10)
    assert [(one.who, one.what, one.tenant, one.messages, one.reason) for one in entries] == [
        (BOB, "show", ACME, 0, ""),
        (ANN, "ask", GLOBEX, 0, ""),
        (BOB, "resume", ACME, 0, ""),
        (ANN, "pause", ACME, 0, "holidays"),
        (BOB, "retry", None, 1, ""),
        (ANN, "park", ACME, 1, "later"),
    ]
    assert [one.selection for one in entries] == ["a", "", "", "", "parked, a", "all"]
    assert {one.outcome for one in entries} == {"done"}
    assert all(one.ended_at is not None and one.ended_at >= one.at for one in entries)
    assert [one.id for one in entries] == sorted({one.id for one in entries}, reverse=True)
    assert await store.audit(2) == entries[:2]


async def test_the_audit_of_a_tenant_has_the_actions_on_all_tenants(store: Store) -> None:
    await store.pause(ACME, "x", ANN)
    await park(store, EVERY, "all of them")
    await store.pause(GLOBEX, "y", ANN)
    assert [one.what for one in await store.audit(10, TenantId("acme_prd"))] == ["park", "pause"]
    assert [one.what for one in await store.audit(1, GLOBEX)] == ["pause"]
    assert [one.reason for one in await store.audit(10, TenantId("NOBODY"))] == ["all of them"]


async def test_a_pause_by_the_relay_names_the_relay(store: Store) -> None:
    await store.pause(ACME, "a message was refused")
    (entry,) = await store.audit(10)
    assert (entry.who, entry.what, entry.reason) == ("relay", "pause", "a message was refused")


async def test_a_selection_is_worded_in_the_audit(store: Store) -> None:
    ids = tuple(MessageId(f"m{i}") for i in range(7))
    await park(store, Filter(ACME, ORDER, "pending", ids, "HTTP 400"), "x")
    (entry,) = await store.audit(1)
    assert entry.selection == (
        "pending, Sync.SalesOrder, m0, m1, m2, m3, m4, and 2 more, reason contains 'HTTP 400'"
    )


async def test_old_entries_go_in_batches_the_oldest_first(store_case: StoreCase) -> None:
    store = await store_case.open()
    for _ in range(5):
        await store.pause(ACME, "x", ANN)
    numbers = [entry.id for entry in await store.audit(10)][::-1]
    for number in numbers[:4]:
        await store_case.age_audit(number, 1000)
    assert await store.prune_audit(2000, 10) == 0
    assert await store.prune_audit(500, 3) == 3
    assert await store.prune_audit(500, 3) == 1
    assert [entry.id for entry in await store.audit(10)] == numbers[4:]


@pytest.mark.parametrize(("seconds", "outcome"), [(3000, "running"), (4000, "failed")])
async def test_an_action_without_progress_for_an_hour_has_failed(
    store_case: StoreCase, seconds: float, outcome: Outcome
) -> None:
    store = await store_case.open()
    audit_id = await store.begin(BulkAction("park", EVERY, ANN, "x"))
    await store_case.age_audit(audit_id, seconds)
    await store.prune_audit(10_000, 10)
    entry = await store.entry(audit_id)
    assert entry is not None
    assert (entry.outcome, entry.ended_at is None) == (outcome, outcome == "running")


# --- tenants --------------------------------------------------------------------------------------


async def test_asking_again_reaches_the_worker_and_leaves_a_pause(store: Store) -> None:
    await store.ask(ACME, ANN)
    assert (await store.notification()).controls == {ACME: Control(1, None)}
    await store.pause(ACME, "holidays", ANN)
    await store.ask(ACME, ANN)
    assert (await store.notification()).controls == {ACME: Control(3, "holidays")}


# --- payloads -------------------------------------------------------------------------------------


async def test_the_beginning_of_a_payload_is_shown(store: Store) -> None:
    await store.add([Draft(ACME, ORDER, bytes(range(256)))])
    (record,) = await store.find(EVERY, 1)
    assert await store.payload(record.row, 1000) == bytes(range(256))
    assert await store.payload(record.row, 10) == bytes(range(10))
    assert await store.payload(record.row, 0) == b""
    assert await store.payload(RowId(999), 10) is None


async def test_payloads_of_what_was_delivered_go_and_nothing_else_does(store_case: StoreCase) -> None:
    store = await store_case.open()
    await store.add([draft(name) for name in ("delivered", "recent", "parked", "dropped", "pending")])
    rows = {name: message.row for name, message in (await due(store)).items()}
    await drop(store, Filter(ids=(MessageId("dropped"),)), "x")
    await settled(store, delivered=Delivered(), recent=Delivered(), parked=Parked("x"))
    for name in ("delivered", "parked", "dropped", "pending"):
        await store_case.age_message(rows[name], 1000)
    assert await store.purge_payloads(500, 100) < 100
    kept = {name: await store.payload(row, 100) for name, row in rows.items()}
    assert kept == {
        "delivered": None, "recent": b"recent", "parked": b"parked", "dropped": b"dropped",
        "pending": b"pending",
    }  # fmt: skip
    (record,) = await store.show(MessageId("delivered"), ACME)
    assert (record.size, record.state) == (len("delivered"), "delivered")


async def test_payloads_are_purged_in_batches_and_examined_once(store_case: StoreCase) -> None:
    store = await store_case.open()
    await store.add([draft(f"{i}") for i in range(5)])
    rows = {name: message.row for name, message in (await due(store)).items()}
    await settled(store, **{f"{i}": Delivered() for i in range(5)})
    for row in rows.values():
        await store_case.age_message(row, 1000)
    assert [await store.purge_payloads(500, 2) for _ in range(4)] == [2, 2, 1, 0]
    assert [await store.payload(row, 10) for row in rows.values()] == [None] * 5
    assert await (await store_case.open()).purge_payloads(500, 100) == 5


async def test_a_message_whose_payload_is_purged_is_recognised_when_it_is_enqueued_again(
    store_case: StoreCase,
) -> None:
    store = await store_case.open(purging=True)
    await store.add([draft("a")])
    await settled(store, a=Delivered())
    assert await store.add([draft("a")]) == ["a"]
    for other in (Draft(ACME, ORDER, b"b", MessageId("a")), draft("a", SHIPMENT)):
        with pytest.raises(ConflictError):
            await store.add([other])


async def test_a_payload_goes_with_the_delivery_where_that_is_wanted(store_case: StoreCase) -> None:
    store = await store_case.open(purging=True)
    await store.add([draft("a"), draft("parked"), draft("released")])
    rows = {name: message.row for name, message in (await due(store)).items()}
    await settled(store, a=Delivered(), parked=Parked("x"), released=Released("y"))
    assert [await store.payload(row, 100) for row in rows.values()] == [None, b"parked", b"released"]
    await settle_rows(store, [(rows["a"], Delivered()), (rows["parked"], Delivered())])
    (record,) = await store.show(MessageId("a"), None)
    assert record.size == 1
    assert await store.payload(rows["parked"], 100) is None
    assert list(await due(store)) == ["released"]


# --- the ages of the queue ------------------------------------------------------------------------


async def test_the_shape_is_how_old_what_waits_is(store_case: StoreCase) -> None:
    store = await store_case.open()
    ages = [0, *(edge - 5 for edge in AGES), AGES[0] + 5, AGES[-1] + 5]
    await store.add([draft(f"{i}", key=(None, OrderingKey("k"))[i % 2]) for i in range(len(ages))])
    await store.add([draft("s", SHIPMENT), draft("theirs", tenant=GLOBEX), draft("done")])
    rows = await due(store)
    for number, age in enumerate(ages):
        await store_case.age_message(rows[f"{number}"].row, age)
    await store.settle([(rows["done"].key, Delivered())])
    young = (1, 0, 0, 0, 0, 0, 0)
    assert await store.queue_ages(None, 100) == [
        QueueAges(ACME, ORDER, (2, 2, 1, 1, 1, 1, 1)),
        QueueAges(ACME, SHIPMENT, young),
        QueueAges(GLOBEX, ORDER, young),
    ]
    assert await store.queue_ages(GLOBEX, 100) == [QueueAges(GLOBEX, ORDER, young)]
    assert await store.queue_ages(TenantId("NOBODY"), 100) == []


@pytest.mark.parametrize("limit", [1, 3, 6, 7])
async def test_queue_ages_examine_so_many_of_each_document_those_with_the_lowest_ids(
    store_case: StoreCase, limit: int
) -> None:
    store = await store_case.open()
    await store.add([draft(f"{i}", key=(None, OrderingKey("k"))[i % 2]) for i in range(6)])
    first = (await due(store))["0"]
    await store_case.age_message(first.row, 100)
    (queue,) = await store.queue_ages(ACME, limit)
    assert queue.counts[:2] == (min(limit, 6) - 1, 1)
    assert queue.more == (limit < 6)


async def test_the_moment_of_a_preview_is_later_than_all_that_was_done_before(store: Store) -> None:
    """Also within the same tick of the store's clock."""
    for number in range(20):
        await store.add([draft(f"{number}")])
        seen = await store.preview("park", EVERY)
        await store.add([draft(f"later {number}")])
        assert await store.decide(BulkAction("park", seen.wanted, ANN)) == 1
        await until(lambda: park(store, EVERY, "x"), lambda parked: parked == 1)


# --- what became of a retry ----------------------------------------------------------------------------


async def test_what_became_of_the_messages_of_a_retry_is_counted(store: Store) -> None:
    await store.add([draft(f"{i}") for i in range(6)])
    await settled(store, **{f"{i}": Parked("HTTP 400: first") for i in range(6)})
    first = await store.begin(BulkAction("retry", Filter(state="parked"), "ann@desk"))
    await store.advance(first)
    assert await store.outcome(first, 100) == [ActionCount("pending", "", 6)]
    await settled(store, **{"0": Delivered(), "1": Delivered()})
    await settled(store, **{"2": Parked("HTTP 400: again"), "3": Parked("HTTP 413")})
    entry = await store.entry(first)
    assert entry is not None
    became = await read_outcome(store, entry)
    assert became is not None
    assert became.sentence == "2 delivered, 2 parked again, 2 waiting"
    assert list(became.reasons) == [("HTTP 400: again", 1), ("HTTP 413", 1)]
    assert not became.is_fine
    assert not became.is_settled
    assert sum(one.messages for one in await store.outcome(first, 3)) == 3
    second = await store.begin(BulkAction("retry", Filter(ids=(MessageId("2"),)), "bob@desk"))
    await store.advance(second)
    assert await store.outcome(second, 100) == [ActionCount("pending", "", 1)]
    parked = await store.begin(BulkAction("park", Filter(ids=(MessageId("4"),)), "bob@desk", "later"))
    done = await store.advance(parked)
    assert await read_outcome(store, done) is None
    await settled(store, **{"2": Delivered(), "5": Delivered()})

    async def delivered() -> int:
        await store.prune(0, 100)
        return len(await store.find(Filter(state="delivered"), 10))

    await until(delivered, lambda left: left == 0)
    became = await read_outcome(store, entry)
    assert became is not None
    assert became.sentence == "2 parked again, 4 no longer stored"
    assert became.is_settled
