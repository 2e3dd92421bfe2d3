"""Which tenants this relay holds, and how long that is sure by its own clock."""

import asyncio
from collections.abc import Sequence

import pytest

from relay.core.model import TenantId
from relay.core.ports import LeaseStatus
from relay.core.rendezvous import owner_of
from relay.daemon.leases import LeaseHolder

A, B = TenantId("A_PRD"), TenantId("B_PRD")


class Admin:
    """A store of leases with one other relay, played by the test."""

    seconds = 15.0

    def __init__(self) -> None:
        self.relays = frozenset({"me"})
        self.held: set[TenantId] = set()
        self.others: set[TenantId] = set()
        self.lasts = 0.0
        self.now = 100.0

    async def renew(self) -> LeaseStatus:
        self.now += self.lasts
        return LeaseStatus(self.relays, frozenset(self.held))

    async def acquire(self, tenants: Sequence[TenantId]) -> frozenset[TenantId]:
        free = set(tenants) - self.others
        self.held |= free
        return frozenset(free)

    async def release(self, tenants: Sequence[TenantId]) -> None:
        self.held -= set(tenants)


@pytest.fixture
def desk():
    return Admin()


@pytest.fixture
def lease_holder(desk):
    return LeaseHolder(desk, "me", lambda: desk.now)


def run(work):
    return asyncio.run(work)


def test_before_the_first_heartbeat_nothing_is_held(lease_holder):
    assert lease_holder.is_over
    assert not lease_holder.holds(A)


def test_what_was_taken_may_be_posted_until_the_leases_end(desk, lease_holder):
    run(lease_holder.renew())
    assert run(lease_holder.acquire([A, B])) == {A, B}
    desk.now = 114.9
    assert lease_holder.holds(A)
    desk.now = 115.0
    assert not lease_holder.holds(A)
    assert lease_holder.is_over


def test_validity_counts_from_before_the_heartbeat_was_sent(desk, lease_holder):
    desk.lasts = 6.0
    run(lease_holder.renew())
    assert lease_holder.until == 115.0


def test_what_another_holds_is_not_taken(desk, lease_holder):
    run(lease_holder.renew())
    desk.others = {B}
    assert run(lease_holder.acquire([A, B])) == {A}
    assert not lease_holder.holds(B)


def test_a_heartbeat_tells_what_was_lost(desk, lease_holder):
    run(lease_holder.renew())
    run(lease_holder.acquire([A, B]))
    desk.held = {B}
    assert run(lease_holder.renew()) == {A}
    assert (lease_holder.holds(A), lease_holder.holds(B)) == (False, True)


def test_what_is_given_back_is_not_posted_any_more(desk, lease_holder):
    run(lease_holder.renew())
    run(lease_holder.acquire([A]))
    run(lease_holder.release([A]))
    assert not lease_holder.holds(A)
    assert desk.held == set()


def test_what_is_lost_at_the_end_is_held_no_more(desk, lease_holder):
    run(lease_holder.renew())
    run(lease_holder.acquire([A]))
    lease_holder.drop_all()
    assert not lease_holder.holds(A)


def test_a_relay_alone_carries_all_and_with_another_its_share(desk, lease_holder):
    run(lease_holder.renew())
    tenants = [TenantId(f"T{number}") for number in range(50)]
    assert all(lease_holder.is_mine(tenant) for tenant in tenants)
    desk.relays = frozenset({"me", "you"})
    run(lease_holder.renew())
    mine = [tenant for tenant in tenants if lease_holder.is_mine(tenant)]
    assert mine == [tenant for tenant in tenants if owner_of(tenant, desk.relays) == "me"]
    assert 10 < len(mine) < 40


def test_this_relay_counts_itself_in_even_where_its_heartbeat_is_not_listed(desk, lease_holder):
    desk.relays = frozenset()
    run(lease_holder.renew())
    assert lease_holder.is_mine(A)


def test_wanted_are_its_own_at_once_and_others_after_a_leases_time(desk, lease_holder):
    tenants = [TenantId(f"T{number}") for number in range(20)]
    desk.relays = frozenset({"me", "you"})
    run(lease_holder.renew())
    mine = [tenant for tenant in tenants if lease_holder.is_mine(tenant)]
    assert lease_holder.wanted(tenants) == mine
    desk.now += 14.9
    assert lease_holder.wanted(tenants) == mine
    desk.now += 0.1
    assert lease_holder.wanted(tenants) == tenants


def test_who_stopped_waiting_begins_anew(desk, lease_holder):
    desk.relays = frozenset({"me", "you"})
    run(lease_holder.renew())
    theirs = next(t for t in (TenantId(f"T{n}") for n in range(50)) if not lease_holder.is_mine(t))
    lease_holder.wanted([theirs])
    desk.now += 10
    lease_holder.wanted([])
    desk.now += 10
    assert lease_holder.wanted([theirs]) == []


def test_what_was_adopted_is_kept_until_the_relays_change(desk, lease_holder):
    desk.relays = frozenset({"me", "you"})
    run(lease_holder.renew())
    theirs = next(t for t in (TenantId(f"T{n}") for n in range(50)) if not lease_holder.is_mine(t))
    assert not lease_holder.may_keep(theirs)
    run(lease_holder.acquire([theirs]))
    assert lease_holder.may_keep(theirs)
    run(lease_holder.renew())
    assert lease_holder.may_keep(theirs)
    desk.relays = frozenset({"me", "you", "a third"})
    run(lease_holder.renew())
    assert lease_holder.may_keep(theirs) == lease_holder.is_mine(theirs)
