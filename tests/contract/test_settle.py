"""What every outbox promises about settlements that cannot be written, or are written twice (`ports.Outbox.settle`)."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from relay.core.admin import Filter, Record
from relay.core.model import (
    Delivered,
    DocumentName,
    Draft,
    Message,
    MessageId,
    Parked,
    Released,
    Settlement,
    SettlementId,
    TenantId,
)
from relay.core.ports import NotSettled, Store
from relay.outbox.values import MAX_ATTEMPTS
from tests.contract.stores import ACME, GLOBEX, ROOM, StoreCase, retry, until

ORDER = DocumentName("Sync.SalesOrder")
ONCE = SettlementId("process-1")
RELEASED, PARKED = Released("HTTP 500", True, 60.0, id=ONCE), Parked("HTTP 400", id=ONCE)
FATES: list[Settlement] = [Delivered(), RELEASED, PARKED]
by_fate = pytest.mark.parametrize("fate", FATES, ids=lambda fate: type(fate).__name__)


def draft(message_id: str, tenant: TenantId = ACME) -> Draft:
    return Draft(tenant, ORDER, b"x", MessageId(message_id))


async def fill(store: Store, count: int) -> Sequence[Message]:
    await store.add([draft(f"m{number}") for number in range(count)])
    return await due(store)


async def due(store: Store) -> Sequence[Message]:
    return await store.due(ACME, {ORDER}, frozenset(), frozenset(), 1000, ROOM)


async def record(store: Store, message_id: str) -> Record:
    (found,) = await store.show(MessageId(message_id), None)
    return found


async def states(store: Store) -> dict[str, str]:
    return {found.message_id: found.state for found in await store.find(Filter(), 1000)}


# --- a row that holds another message ----------------------------------------------------------------


@by_fate
@pytest.mark.parametrize("now_there", [draft("new"), draft("m1", GLOBEX)], ids=["message id", "tenant"])
async def test_a_row_that_holds_another_message_now_is_left_alone_and_named(
    store: Store, store_case: StoreCase, fate: Settlement, now_there: Draft
) -> None:
    """As after a restore or a fail-over: marking it delivered would lose a message that was never sent."""
    first, second, third = await fill(store, 3)
    await store_case.replace(second.row, now_there)
    before = await record(store, str(now_there.message_id))
    left = await store.settle([(message.key, fate) for message in (first, second, third)])
    assert left == NotSettled(replaced=frozenset({second.key}))
    assert await record(store, str(now_there.message_id)) == before
    for message_id in ("m0", "m2"):
        found = await record(store, message_id)
        assert (found.state != "pending", found.attempts) in ((True, 0), (False, 1))


async def test_both_messages_of_a_row_in_one_group_settle_the_one_that_is_there(
    store: Store, store_case: StoreCase
) -> None:
    (old,) = await fill(store, 1)
    await store_case.replace(old.row, draft("new"))
    (new,) = await due(store)
    for fates in ((Parked("old"), Parked("new")), (Delivered(), Delivered())):
        left = await store.settle([(old.key, fates[0]), (new.key, fates[1])])
        assert left == NotSettled(replaced=frozenset({old.key}))
    found = await record(store, "new")
    assert [what for _, what, _ in found.history] == ["parked", "delivered"]
    assert found.history[0][2] == "new"


# --- a row that the store refuses -----------------------------------------------------------------------


@by_fate
@pytest.mark.parametrize("raising", [True, False], ids=["raises", "skips"])
async def test_a_row_that_a_trigger_refuses_does_not_fail_its_group(
    store: Store, store_case: StoreCase, fate: Settlement, raising: bool
) -> None:
    messages = await fill(store, 128)
    bad = {messages[place].key for place in (0, 17, 18, 127)}
    await store_case.refuse(*(key.row for key in bad), raising=raising)
    left = await store.settle([(message.key, fate) for message in messages])
    assert left.refused.keys() == bad
    assert left.replaced == frozenset()
    word = "not this row" if raising else "trigger"
    assert all(word in words for words in left.refused.values())
    open_ = [message.key for message in await due(store) if message.holds_for == 0]
    assert set(open_) == bad
    await store_case.allow()
    assert await store.settle([(message.key, fate) for message in messages]) == NotSettled()
    assert all(message.attempts == 1 for message in await due(store))


async def test_a_mixed_group_with_a_refused_row_is_settled_but_for_that(
    store: Store, store_case: StoreCase
) -> None:
    messages = await fill(store, 9)
    await store_case.refuse(messages[4].row)
    left = await store.settle([(message.key, FATES[i % 3]) for i, message in enumerate(messages)])
    assert left.refused.keys() == {messages[4].key}
    found = await states(store)
    assert list(map(found.__getitem__, (f"m{i}" for i in range(9)))) == [
        "delivered", "pending", "parked", "delivered", "pending", "parked", "delivered", "pending", "parked",
    ]  # fmt: skip
    assert [(await record(store, f"m{i}")).attempts for i in (1, 4, 7)] == [1, 0, 1]


async def test_attempts_at_their_maximum_stay_there(store: Store, store_case: StoreCase) -> None:
    first, second = await fill(store, 2)
    await store_case.set_attempts(first.row, MAX_ATTEMPTS)
    released = Released("HTTP 500", counted=True)
    assert await store.settle([(first.key, released), (second.key, released)]) == NotSettled()
    assert [message.attempts for message in await due(store)] == [MAX_ATTEMPTS, 1]
    assert (await record(store, "m0")).reason == "HTTP 500"


# --- written twice ------------------------------------------------------------------------------------------


@by_fate
async def test_a_group_whose_answer_was_lost_is_written_again_without_effect(
    store: Store, fate: Settlement
) -> None:
    messages = await fill(store, 3)
    group = [(message.key, fate) for message in messages]
    await store.settle(group)
    before = [await record(store, f"m{number}") for number in range(3)]
    assert await store.settle(group) == NotSettled()
    assert [await record(store, f"m{number}") for number in range(3)] == before


async def test_three_failed_posts_are_three_attempts_however_often_each_is_written(store: Store) -> None:
    (message,) = await fill(store, 1)
    for number in range(3):
        released = Released("HTTP 500", True, 0.0, SettlementId(f"process-{number}"))
        for _ in range(3):
            await store.settle([(message.key, released)])
    found = await record(store, "m0")
    assert (found.attempts, [what for _, what, _ in found.history]) == (3, ["counted"] * 3)


@pytest.mark.parametrize("fate", [RELEASED, PARKED], ids=["released", "parked"])
async def test_an_operator_who_retries_between_is_not_undone(store: Store, fate: Settlement) -> None:
    (message,) = await fill(store, 1)
    await store.settle([(message.key, fate)])
    await retry(store, Filter(ACME))
    await store.settle([(message.key, fate)])
    found = await record(store, "m0")
    assert (found.state, found.attempts, found.reason, found.not_before) == ("pending", 0, None, None)


async def test_another_release_for_the_same_reason_counts(store: Store) -> None:
    (message,) = await fill(store, 1)
    for number in range(2):
        await store.settle([(message.key, replace(RELEASED, id=SettlementId(f"process-{number}")))])
    found = await record(store, "m0")
    assert (found.attempts, len(found.history)) == (2, 2)


# --- retention ----------------------------------------------------------------------------------------------


async def test_rows_that_may_not_be_deleted_do_not_keep_the_others(
    store: Store, store_case: StoreCase
) -> None:
    messages = await fill(store, 20)
    await store.settle([(message.key, Delivered()) for message in messages])
    for message in messages:
        await store_case.age_message(message.row, 1000)
    await store_case.refuse(messages[3].row, messages[4].row)
    assert await store.prune(500, 100) <= 20
    assert await states(store) == {"m3": "delivered", "m4": "delivered"}
    (refused,) = store.refused_rows
    assert (refused.count, refused.row) == (2, messages[3].row)
    assert "not this row" in refused.reason
    assert await store.prune(500, 100) <= 2
    await store_case.allow()


async def test_without_refusals_nothing_hinders(store: Store) -> None:
    messages = await fill(store, 3)
    await store.settle([(message.key, Delivered()) for message in messages])
    await until(lambda: store.prune(0, 10), lambda pruned: pruned == 3)
    assert list(store.refused_rows) == []
