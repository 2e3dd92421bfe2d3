"""The leases that this replica holds, and until when they are certain by its own clock."""

import asyncio
from collections.abc import Sequence

import pytest

from relay.core.model import TenantId
from relay.core.ports import LeaseStatus
from relay.core.rendezvous import owner_of
from relay.daemon.leases import LeaseHolder

A, B = TenantId("A_PRD"), TenantId("B_PRD")


class LeaseStore:
    """A store of leases with other replicas, played by the test."""

    seconds = 15.0

    def __init__(self) -> None:
        self.relays = frozenset({"me"})
        self.held: set[TenantId] = set()
        self.others: set[TenantId] = set()
        self.latency = 0.0
        self.now = 100.0

    async def renew(self) -> LeaseStatus:
        self.now += self.latency
        return LeaseStatus(self.relays, frozenset(self.held))

    async def acquire(self, tenants: Sequence[TenantId]) -> frozenset[TenantId]:
        free = set(tenants) - self.others
        self.held |= free
        return frozenset(free)

    async def release(self, tenants: Sequence[TenantId]) -> None:
        self.held -= set(tenants)


@pytest.fixture
def store():
    return LeaseStore()


@pytest.fixture
def lease_holder(store):
    return LeaseHolder(store, "me", lambda: store.now)


def run(work):
    return asyncio.run(work)


def test_before_the_first_heartbeat_nothing_is_held(lease_holder):
    assert lease_holder.is_over
    assert not lease_holder.holds(A)


def test_what_was_acquired_may_be_posted_until_the_leases_end(store, lease_holder):
    run(lease_holder.renew())
    assert run(lease_holder.acquire([A, B])) == {A, B}
    store.now = 114.9
    assert lease_holder.holds(A)
    store.now = 115.0
    assert not lease_holder.holds(A)
    assert lease_holder.is_over


def test_validity_counts_from_before_the_heartbeat_was_sent(store, lease_holder):
    store.latency = 6.0
    run(lease_holder.renew())
    assert lease_holder.until == 115.0


def test_what_another_holds_is_not_acquired(store, lease_holder):
    run(lease_holder.renew())
    store.others = {B}
    assert run(lease_holder.acquire([A, B])) == {A}
    assert not lease_holder.holds(B)


def test_a_heartbeat_reports_what_was_lost(store, lease_holder):
    run(lease_holder.renew())
    run(lease_holder.acquire([A, B]))
    store.held = {B}
    assert run(lease_holder.renew()) == {A}
    assert (lease_holder.holds(A), lease_holder.holds(B)) == (False, True)


def test_what_is_released_is_not_posted_any_more(store, lease_holder):
    run(lease_holder.renew())
    run(lease_holder.acquire([A]))
    run(lease_holder.release([A]))
    assert not lease_holder.holds(A)
    assert store.held == set()


def test_after_drop_all_nothing_is_held(store, lease_holder):
    run(lease_holder.renew())
    run(lease_holder.acquire([A]))
    lease_holder.drop_all()
    assert not lease_holder.holds(A)


def test_a_replica_alone_owns_all_and_with_another_its_share(store, lease_holder):
    run(lease_holder.renew())
    tenants = [TenantId(f"T{number}") for number in range(50)]
    assert all(lease_holder.is_mine(tenant) for tenant in tenants)
    store.relays = frozenset({"me", "you"})
    run(lease_holder.renew())
    mine = [tenant for tenant in tenants if lease_holder.is_mine(tenant)]
    assert mine == [tenant for tenant in tenants if owner_of(tenant, store.relays) == "me"]
    assert 10 < len(mine) < 40


def test_this_replica_counts_itself_even_where_its_heartbeat_is_not_listed(store, lease_holder):
    store.relays = frozenset()
    run(lease_holder.renew())
    assert lease_holder.is_mine(A)


def test_wanted_are_its_own_at_once_and_others_after_the_time_of_a_lease(store, lease_holder):
    tenants = [TenantId(f"T{number}") for number in range(20)]
    store.relays = frozenset({"me", "you"})
    run(lease_holder.renew())
    mine = [tenant for tenant in tenants if lease_holder.is_mine(tenant)]
    assert lease_holder.wanted(tenants) == mine
    store.now += 14.9
    assert lease_holder.wanted(tenants) == mine
    store.now += 0.1
    assert lease_holder.wanted(tenants) == tenants


def test_a_tenant_that_stopped_waiting_starts_again(store, lease_holder):
    store.relays = frozenset({"me", "you"})
    run(lease_holder.renew())
    theirs = next(t for t in (TenantId(f"T{n}") for n in range(50)) if not lease_holder.is_mine(t))
    lease_holder.wanted([theirs])
    store.now += 10
    lease_holder.wanted([])
    store.now += 10
    assert lease_holder.wanted([theirs]) == []


def test_what_was_adopted_is_kept_until_the_replicas_change(store, lease_holder):
    store.relays = frozenset({"me", "you"})
    run(lease_holder.renew())
    theirs = next(t for t in (TenantId(f"T{n}") for n in range(50)) if not lease_holder.is_mine(t))
    assert not lease_holder.may_keep(theirs)
    run(lease_holder.acquire([theirs]))
    assert lease_holder.may_keep(theirs)
    run(lease_holder.renew())
    assert lease_holder.may_keep(theirs)
    store.relays = frozenset({"me", "you", "a third"})
    run(lease_holder.renew())
    assert lease_holder.may_keep(theirs) == lease_holder.is_mine(theirs)
