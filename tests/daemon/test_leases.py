"""Which tenants this relay holds, and how long that is sure by its own clock."""

import asyncio
from collections.abc import Sequence

import pytest

from relay.core.model import TenantId
from relay.core.ports import Standing
from relay.core.rendezvous import carrier
from relay.daemon.leases import Tenure

A, B = TenantId("A_PRD"), TenantId("B_PRD")


class Desk:
    """A store of leases with one other relay, played by the test."""

    seconds = 15.0

    def __init__(self) -> None:
        self.relays = frozenset({"me"})
        self.held: set[TenantId] = set()
        self.others: set[TenantId] = set()
        self.lasts = 0.0
        self.now = 100.0

    async def renew(self) -> Standing:
        self.now += self.lasts
        return Standing(self.relays, frozenset(self.held))

    async def acquire(self, tenants: Sequence[TenantId]) -> frozenset[TenantId]:
        free = set(tenants) - self.others
        self.held |= free
        return frozenset(free)

    async def release(self, tenants: Sequence[TenantId]) -> None:
        self.held -= set(tenants)


@pytest.fixture
def desk():
    return Desk()


@pytest.fixture
def tenure(desk):
    return Tenure(desk, "me", lambda: desk.now)


def run(work):
    return asyncio.run(work)


def test_before_the_first_heartbeat_nothing_is_held(tenure):
    assert tenure.is_over
    assert not tenure.holds(A)


def test_what_was_taken_may_be_posted_until_the_leases_end(desk, tenure):
    run(tenure.renew())
    assert run(tenure.take([A, B])) == {A, B}
    desk.now = 114.9
    assert tenure.holds(A)
    desk.now = 115.0
    assert not tenure.holds(A)
    assert tenure.is_over


def test_validity_counts_from_before_the_heartbeat_was_sent(desk, tenure):
    desk.lasts = 6.0
    run(tenure.renew())
    assert tenure.until == 115.0


def test_what_another_holds_is_not_taken(desk, tenure):
    run(tenure.renew())
    desk.others = {B}
    assert run(tenure.take([A, B])) == {A}
    assert not tenure.holds(B)


def test_a_heartbeat_tells_what_was_lost(desk, tenure):
    run(tenure.renew())
    run(tenure.take([A, B]))
    desk.held = {B}
    assert run(tenure.renew()) == {A}
    assert (tenure.holds(A), tenure.holds(B)) == (False, True)


def test_what_is_given_back_is_not_posted_any_more(desk, tenure):
    run(tenure.renew())
    run(tenure.take([A]))
    run(tenure.give([A]))
    assert not tenure.holds(A)
    assert desk.held == set()


def test_what_is_lost_at_the_end_is_held_no_more(desk, tenure):
    run(tenure.renew())
    run(tenure.take([A]))
    tenure.lose()
    assert not tenure.holds(A)


def test_a_relay_alone_carries_all_and_with_another_its_share(desk, tenure):
    run(tenure.renew())
    tenants = [TenantId(f"T{number}") for number in range(50)]
    assert all(tenure.is_mine(tenant) for tenant in tenants)
    desk.relays = frozenset({"me", "you"})
    run(tenure.renew())
    mine = [tenant for tenant in tenants if tenure.is_mine(tenant)]
    assert mine == [tenant for tenant in tenants if carrier(tenant, desk.relays) == "me"]
    assert 10 < len(mine) < 40


def test_this_relay_counts_itself_in_even_where_its_heartbeat_is_not_listed(desk, tenure):
    desk.relays = frozenset()
    run(tenure.renew())
    assert tenure.is_mine(A)


def test_wanted_are_its_own_at_once_and_others_after_a_leases_time(desk, tenure):
    tenants = [TenantId(f"T{number}") for number in range(20)]
    desk.relays = frozenset({"me", "you"})
    run(tenure.renew())
    mine = [tenant for tenant in tenants if tenure.is_mine(tenant)]
    assert tenure.wanted(tenants) == mine
    desk.now += 14.9
    assert tenure.wanted(tenants) == mine
    desk.now += 0.1
    assert tenure.wanted(tenants) == tenants


def test_who_stopped_waiting_begins_anew(desk, tenure):
    desk.relays = frozenset({"me", "you"})
    run(tenure.renew())
    theirs = next(t for t in (TenantId(f"T{n}") for n in range(50)) if not tenure.is_mine(t))
    tenure.wanted([theirs])
    desk.now += 10
    tenure.wanted([])
    desk.now += 10
    assert tenure.wanted([theirs]) == []


def test_what_was_adopted_is_kept_until_the_relays_change(desk, tenure):
    desk.relays = frozenset({"me", "you"})
    run(tenure.renew())
    theirs = next(t for t in (TenantId(f"T{n}") for n in range(50)) if not tenure.is_mine(t))
    assert not tenure.is_right(theirs)
    run(tenure.take([theirs]))
    assert tenure.is_right(theirs)
    run(tenure.renew())
    assert tenure.is_right(theirs)
    desk.relays = frozenset({"me", "you", "a third"})
    run(tenure.renew())
    assert tenure.is_right(theirs) == tenure.is_mine(theirs)
