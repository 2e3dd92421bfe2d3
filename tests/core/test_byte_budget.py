"""The memory for messages: never more than the budget, equal shares, nobody is stuck, nothing is lost."""

from hypothesis import given
from hypothesis import strategies as st

from relay.core.byte_budget import ByteBudget, PrefetchBudget, TenantBuffer
from relay.core.ports import LARGE_PAYLOAD

ONE = LARGE_PAYLOAD
"""The least that a read needs."""


class Tenant:
    """A tenant that holds what it has read until it is told otherwise; `in_use` cannot be discarded."""

    def __init__(self, budget: PrefetchBudget) -> None:
        self.budget, self.woken, self.discarded, self.in_use = budget, 0, 0, 0
        self.buffer = TenantBuffer(self._wake, self._discard)

    def _wake(self) -> None:
        self.woken += 1

    def _discard(self) -> None:
        self.discarded += 1
        self.budget.update(self.buffer, self.in_use)

    def read(self, wanted: int, found: int | None = None) -> int:
        granted = self.budget.reserve(self.buffer, wanted)
        if granted:
            self.budget.end_read(
                self.buffer, self.buffer.held + min(granted, granted if found is None else found)
            )
        return granted

    def settle(self, size: int) -> None:
        self.budget.update(self.buffer, self.buffer.held - size)


def tenants(budget: PrefetchBudget, count: int) -> list[Tenant]:
    return [Tenant(budget) for _ in range(count)]


def test_a_quarter_is_for_what_is_prefetched_and_the_rest_for_bodies() -> None:
    budget = ByteBudget(400 * ONE)
    (one,) = tenants(budget.prefetch, 1)
    assert one.read(ONE) == ONE
    assert budget.taken == 2 * ONE, "the payload, and the body that is built from it"
    budget.resize(80 * ONE)
    while one.read(ONE):
        pass
    assert budget.taken == 20 * ONE


def test_a_read_reserves_an_eighth_at_most_and_returns_what_it_does_not_need() -> None:
    budget = PrefetchBudget(160 * ONE)
    (one,) = tenants(budget, 1)
    assert one.read(1000 * ONE, found=5) == 10 * ONE
    assert budget.taken == 10


def test_a_read_that_would_have_no_room_for_a_message_does_not_begin() -> None:
    budget = PrefetchBudget(160 * ONE)
    (one,) = tenants(budget, 1)
    assert one.read(ONE - 1) == 0
    assert (budget.taken, budget._buffers) == (0, {})


def test_who_has_more_than_its_share_discards_it_for_one_that_has_nothing() -> None:
    budget = PrefetchBudget(16 * ONE)
    big, small = tenants(budget, 2)
    while big.read(8 * ONE):
        pass
    assert big.buffer.held == 8 * ONE
    assert small.read(ONE) == ONE
    assert big.discarded == 1
    assert big.read(ONE) == ONE


def test_the_share_of_a_tenant_shrinks_with_the_number_of_tenants() -> None:
    budget = PrefetchBudget(32 * ONE)
    all_of_them = tenants(budget, 4)
    for one in all_of_them:
        while one.read(8 * ONE):
            pass
    for _ in range(5):
        for one in all_of_them:
            one.read(8 * ONE)
    assert {one.buffer.held for one in all_of_them} == {4 * ONE}


def test_where_nobody_has_more_than_its_share_one_waits_and_is_woken() -> None:
    budget = PrefetchBudget(4 * ONE)
    first, second, third = tenants(budget, 3)
    assert (first.read(ONE), second.read(ONE), third.read(ONE)) == (ONE, ONE, 0)
    first.settle(1)
    assert third.woken == 0
    first.settle(ONE - 1)
    assert third.woken == 1
    assert third.read(ONE) == ONE


def test_what_is_in_flight_cannot_be_discarded() -> None:
    budget = PrefetchBudget(8 * ONE)
    first, second = tenants(budget, 2)
    while first.read(8 * ONE):
        pass
    first.in_use = 4 * ONE
    assert second.read(ONE) == 0
    assert first.discarded == 1
    first.settle(ONE)
    assert second.woken == 1


def test_a_tenant_that_leaves_keeps_only_what_is_not_settled_yet() -> None:
    budget = PrefetchBudget(4 * ONE)
    first, second = tenants(budget, 2)
    first.read(ONE)
    first.read(ONE)
    first.in_use = 2 * ONE
    assert second.read(ONE) == 0
    budget.leave(first.buffer, 10)
    assert (budget.taken, second.woken) == (20, 1)
    first.settle(10)
    assert budget.taken == 0


def test_a_waiting_tenant_that_leaves_is_forgotten_and_a_higher_limit_wakes() -> None:
    budget = PrefetchBudget(2 * ONE)
    first, second, third = tenants(budget, 3)
    first.read(ONE)
    assert (second.read(ONE), third.read(ONE)) == (0, 0)
    budget.leave(second.buffer, 0)
    budget.resize(4 * ONE)
    assert (second.woken, third.woken) == (0, 1)


actions = st.lists(
    st.tuples(
        st.integers(0, 4),
        st.sampled_from(["reserve", "end", "settle", "launch", "leave"]),
        st.integers(1, 6 * ONE),
    ),
    max_size=100,
)


@given(st.integers(1, 30), actions)
def test_the_limit_always_holds_and_every_byte_is_freed(
    limit: int, events: list[tuple[int, str, int]]
) -> None:
    budget = PrefetchBudget(limit * 2 * ONE)
    all_of_them = tenants(budget, 5)
    for at, what, size in events:
        one = all_of_them[at]
        buffer = one.buffer
        match what:
            case "reserve" if not buffer.reserved:
                budget.reserve(buffer, size)
            case "end" if buffer.reserved:
                budget.end_read(buffer, buffer.held + min(buffer.reserved, size))
            case "settle":
                one.in_use = max(0, one.in_use - size)
                budget.update(buffer, max(one.in_use, buffer.held - size))
            case "launch":
                one.in_use = min(buffer.held, one.in_use + size)
            case "leave":
                budget.leave(buffer, one.in_use)
            case _:
                pass
        assert budget.taken <= limit * 2 * ONE
        assert budget.taken == sum(2 * (each.buffer.held + each.buffer.reserved) for each in all_of_them)
    for one in all_of_them:
        budget.leave(one.buffer, 0)
    assert (budget.taken, budget._buffers, budget._waiting) == (0, {}, {})
