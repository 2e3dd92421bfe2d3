"""What every outbox promises about counts by time: they add up over processes, outlive them, and are bounded."""

import asyncio
import time

from relay.core.activity import (
    EVERYONE,
    FUTURE_SECONDS,
    MINUTES,
    QUARTERS,
    Activity,
    ActivityKey,
    TenantActivity,
)
from relay.core.model import DocumentName, Draft, TenantId
from relay.core.ports import Store
from tests.contract.stores import ACME, GLOBEX, StoreCase

NOW = float(MINUTES.start(time.time()))
START = MINUTES.start(NOW)
SOME = Activity(5, 2, 1, None, {3: 4, 10: 1}, {1: 8})


def key(source: str, tenant: TenantId = ACME, start: int = START) -> ActivityKey:
    return ActivityKey(source, MINUTES, start, tenant)


async def read(store: Store, *tenants: TenantId, start: int = START) -> list[TenantActivity]:
    return list(await store.activity(MINUTES, [start], tenants))


async def test_an_empty_outbox_has_recorded_nothing(store: Store):
    assert await read(store, EVERYONE, ACME) == []


async def test_counts_are_read_as_they_were_written(store: Store):
    await store.record_activity({key("a"): SOME})
    assert await read(store, ACME) == [TenantActivity(START, ACME, SOME)]


async def test_a_count_that_is_written_twice_counts_once(store: Store):
    for _ in range(2):  # as after an answer that was lost
        await store.record_activity({key("a"): SOME})
    assert await read(store, ACME) == [TenantActivity(START, ACME, SOME)]


async def test_counts_of_several_processes_add_up_and_outlive_them(store_case: StoreCase):
    first, second = await store_case.open(), await store_case.open()
    await asyncio.gather(
        first.record_activity({key("a"): SOME, key("a", GLOBEX): SOME}),
        second.record_activity({key("b", GLOBEX): SOME, key("b"): SOME}),
    )
    await first.close()
    await second.close()
    found = await read(await store_case.open(), ACME, GLOBEX)
    both = Activity(10, 4, 2, None, {3: 8, 10: 2}, {1: 16})
    assert found == [TenantActivity(START, ACME, both), TenantActivity(START, GLOBEX, both)]


async def test_deliveries_of_many_tenants_are_read_without_the_rest(store: Store):
    await store.record_activity({key("a"): SOME, key("b"): SOME, key("a", GLOBEX): Activity(failed=1)})
    assert await store.deliveries(MINUTES, [START, START + 60], [ACME, GLOBEX]) == {ACME: {START: 10}}


async def test_only_the_wanted_stretches_and_tenants_are_read_in_order(store: Store):
    keys = [key("a", tenant, START - 60 * back) for back in range(4) for tenant in (GLOBEX, ACME)]
    await store.record_activity(dict.fromkeys(keys, SOME))
    found = await store.activity(MINUTES, [START - 180, START - 60], [ACME])
    assert [(one.start, one.tenant) for one in found] == [(START - 180, ACME), (START - 60, ACME)]
    assert [one.tenant for one in await read(store, EVERYONE, ACME, GLOBEX)] == [ACME, GLOBEX]
    assert not [one for one in await store.activity(QUARTERS, [START], [ACME]) if one.activity.delivered]


async def test_how_many_messages_wait_is_noted_for_each_tenant_and_for_all(store_case: StoreCase):
    store = await store_case.open()
    await store.record_waiting(NOW)
    for text in ("1", "2", "3"):
        await store_case.insert(Draft(ACME, DocumentName("Sync.SalesOrder"), text.encode()))
    await store_case.insert(Draft(GLOBEX, DocumentName("Sync.SalesOrder"), b"4"))
    await store.record_activity({key("a", EVERYONE): Activity(delivered=1)})
    await store.record_waiting(NOW)
    found = {one.tenant: one.activity for one in await read(store, EVERYONE, ACME, GLOBEX)}
    assert {tenant: one.waiting for tenant, one in found.items()} == {EVERYONE: 4, ACME: 3, GLOBEX: 1}
    assert found[EVERYONE].delivered == 1
    (quarter,) = await store.activity(QUARTERS, [QUARTERS.start(NOW)], [ACME])
    assert quarter.activity.waiting == 3


async def test_of_several_looks_the_most_that_waited_is_kept(store_case: StoreCase):
    store = await store_case.open()
    row = await store_case.insert(Draft(ACME, DocumentName("Sync.SalesOrder"), b"1"))
    await store.record_waiting(NOW)
    assert row
    await store.record_waiting(NOW + 60)
    await store.record_waiting(NOW)
    assert [one.activity.waiting for one in await read(store, ACME)] == [1]
    assert [one.activity.waiting for one in await read(store, ACME, start=START + 60)] == [1]


async def test_old_counts_and_those_of_a_clock_that_was_ahead_are_deleted_in_small_steps(store: Store):
    old, ahead = START - MINUTES.kept - 86400, START + FUTURE_SECONDS + 86400
    keys = [key(str(number), ACME, start) for number in range(3) for start in (old, START, ahead)]
    await store.record_activity(dict.fromkeys(keys, SOME))
    assert [await store.prune_activity(4) for _ in range(3)] == [4, 2, 0]
    assert await read(store, ACME, start=old) == await read(store, ACME, start=ahead) == []
    assert [one.activity.delivered for one in await read(store, ACME)] == [15]


async def test_a_day_of_quarters_is_kept(store: Store):
    first = QUARTERS.start(NOW) - 24 * 3600
    await store.record_activity({ActivityKey("a", QUARTERS, first, ACME): SOME})
    assert await store.prune_activity(10) == 0


async def test_a_billion_is_recorded_exactly(store: Store):
    many = Activity(10**9, 10**9, 10**9, None, {3: 10**9}, {3: 10**9})
    await store.record_activity({key("a"): many, key("b"): many})
    (found,) = await read(store, ACME)
    assert found.activity.delivered == found.activity.queued[3] == 2 * 10**9
