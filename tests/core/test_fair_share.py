"""Concurrent posts of all tenants: never more than the limit, shared fairly, no starvation, no slot is lost."""

from hypothesis import given
from hypothesis import strategies as st

from relay.core.fair_share import FairShare, TenantShare


class Tenant:
    """A tenant that always wants `wanted` posts in flight."""

    def __init__(self, shares: FairShare, wanted: int) -> None:
        self.shares, self.wanted, self.woken, self.done = shares, wanted, 0, 0
        self.share = TenantShare(self._wake)

    def _wake(self) -> None:
        self.woken += 1

    def launch(self) -> int:
        """Begin as many posts as it wants and gets slots for."""
        before = self.share.taken
        while self.share.taken < self.wanted and self.shares.begin(self.share):
            pass
        return self.share.taken - before


def tenants(limit: int, *wanted: int) -> list[Tenant]:
    shares = FairShare(limit)
    return [Tenant(shares, each) for each in wanted]


def turns(all_of_them: list[Tenant], rounds: int) -> None:
    """One post of every tenant ends in turn, and the tenants that were woken begin others."""
    for _ in range(rounds):
        for one in all_of_them:
            if one.share.taken:
                one.shares.end(one.share)
            for other in all_of_them:
                other.launch()


def test_a_tenant_alone_has_all_slots_but_those_reserved_for_first_posts() -> None:
    (alone,) = tenants(8, 64)
    assert alone.launch() == 6


def test_a_first_post_begins_at_once_although_another_tenant_has_all_the_slots_it_can_have() -> None:
    greedy, modest = tenants(8, 64, 1)
    greedy.launch()
    assert modest.launch() == 1


def test_a_waiting_tenant_with_none_in_flight_goes_first_and_among_those_the_longest_waiting() -> None:
    big, second, third, fourth = tenants(2, 2, 1, 1, 1)
    assert [big.launch(), second.launch(), third.launch(), fourth.launch()] == [1, 1, 0, 0]
    big.shares.end(big.share)
    assert (third.woken, fourth.woken) == (1, 0)
    assert big.launch() == 0, "the slot is the third tenant's, although it has not begun yet"
    assert third.launch() == 1
    second.shares.end(second.share)
    assert (fourth.woken, big.woken) == (1, 0)
    assert fourth.launch() == 1


def test_tenants_that_want_more_than_there_is_converge_on_the_same_number() -> None:
    all_of_them = tenants(40, 64, 64, 64)
    for one in all_of_them:
        one.launch()
    assert [one.share.taken for one in all_of_them] == [30, 1, 1]
    turns(all_of_them, 30)
    assert sorted(one.share.taken for one in all_of_them) == [10, 10, 10]


def test_slots_that_a_small_tenant_does_not_use_are_shared_by_the_others() -> None:
    all_of_them = tenants(40, 2, 64, 64)
    turns(all_of_them, 40)
    assert [one.share.taken for one in all_of_them] == [2, 14, 14]


def test_with_more_tenants_than_slots_each_has_its_turn() -> None:
    all_of_them = tenants(4, *[3] * 100)
    order: list[Tenant] = []
    for one in all_of_them:
        order += [one] * one.launch()
    for _ in range(1000):
        ended = order.pop(0)
        ended.shares.end(ended.share)
        ended.done += 1
        for one in all_of_them:
            order += [one] * one.launch()
    done = [one.done for one in all_of_them]
    assert max(done) - min(done) <= 3, "no more than what the first had while it was alone"


def test_a_granted_slot_that_is_not_needed_goes_to_the_next_tenant() -> None:
    first, second, third = tenants(1, 1, 1, 1)
    assert [first.launch(), second.launch(), third.launch()] == [1, 0, 0]
    first.shares.end(first.share)
    assert second.share.granted
    second.shares.rest(second.share)
    assert third.share.granted
    assert third.launch() == 1


def test_a_resting_tenant_is_skipped() -> None:
    first, second, third = tenants(1, 1, 1, 1)
    assert [first.launch(), second.launch(), third.launch()] == [1, 0, 0]
    second.shares.rest(second.share)
    first.shares.end(first.share)
    assert (second.woken, third.woken) == (0, 1)


def test_a_tenant_that_leaves_frees_all_its_slots() -> None:
    big, other = tenants(4, 8, 8)
    assert (big.launch(), other.launch()) == (3, 1)
    assert other.launch() == 0
    big.shares.leave(big.share)
    assert (big.share.taken, other.woken) == (0, 1)
    assert other.launch() == 2


def test_a_higher_limit_applies_at_once_and_a_lower_one_leaves_posts_in_flight_alone() -> None:
    first, second = tenants(1, 1, 1)
    assert (first.launch(), second.launch()) == (1, 0)
    first.shares.resize(2)
    assert second.launch() == 1
    first.shares.resize(1)
    assert (first.share.taken, second.share.taken) == (1, 1)
    first.shares.end(first.share)
    assert first.launch() == 0


actions = st.lists(
    st.tuples(st.integers(0, 5), st.sampled_from(["begin", "end", "rest", "leave", "resize"])), max_size=200
)


@given(st.integers(1, 12), actions)
def test_the_limit_always_holds_and_every_slot_is_freed(limit: int, events: list[tuple[int, str]]) -> None:
    shares = FairShare(limit)
    all_of_them = [Tenant(shares, 64) for _ in range(6)]
    largest = limit
    for at, what in events:
        share = all_of_them[at].share
        match what:
            case "begin":
                shares.begin(share)
            case "end" if share.taken:
                shares.end(share)
            case "rest":
                shares.rest(share)
            case "leave":
                shares.leave(share)
            case "resize":
                limit = at + 1
                largest = max(largest, limit)
                shares.resize(limit)
            case _:
                pass
        assert sum(one.share.taken + one.share.granted for one in all_of_them) <= largest
        assert shares.taken == sum(one.share.taken + one.share.granted for one in all_of_them)
        if shares.taken < limit:
            assert not [one for one in all_of_them if one.share.since is not None and not one.share.taken]
    for one in all_of_them:
        shares.leave(one.share)
    assert shares.taken == 0
    assert shares.begin(all_of_them[0].share)


# --- amounts -----------------------------------------------------------------------------------------


def test_a_large_amount_is_not_passed_by_small_ones_that_come_later() -> None:
    first, large, small = tenants(100, 1, 1, 1)
    assert first.shares.begin(first.share, 60)
    assert not large.shares.begin(large.share, 70)
    assert not small.shares.begin(small.share, 10), "there is room, and it is the other's turn"
    first.shares.end(first.share, 60)
    assert (large.share.granted, small.share.granted) == (70, 10)
    assert large.shares.begin(large.share, 70)
    assert small.shares.begin(small.share, 10)


def test_an_amount_beyond_the_limit_has_it_alone_in_its_turn() -> None:
    first, huge, third = tenants(100, 1, 1, 1)
    assert first.shares.begin(first.share, 10)
    assert not huge.shares.begin(huge.share, 500)
    assert not third.shares.begin(third.share, 10)
    first.shares.end(first.share, 10)
    assert huge.shares.begin(huge.share, 500)
    assert not third.shares.begin(third.share, 10)
    huge.shares.end(huge.share, 400)
    assert third.woken == 0, "what is left of it is the whole limit"
    huge.shares.end(huge.share, 100)
    assert third.shares.begin(third.share, 10)


def test_a_part_is_freed_once_less_is_needed() -> None:
    first, second = tenants(100, 1, 1)
    assert first.shares.begin(first.share, 75)
    assert not second.shares.begin(second.share, 50)
    first.shares.end(first.share, 30)
    assert second.shares.begin(second.share, 50)
    assert (first.share.taken, second.share.taken) == (45, 50)


def test_what_is_granted_for_another_post_is_exchanged() -> None:
    first, second, third = tenants(100, 1, 1, 1)
    assert first.shares.begin(first.share, 90)
    assert not second.shares.begin(second.share, 80)
    first.shares.end(first.share, 90)
    assert second.share.granted == 80
    assert not third.shares.begin(third.share, 60)
    assert second.shares.begin(second.share, 30), "a smaller one than was asked for"
    assert third.shares.begin(third.share, 60), "and the rest is free"
    assert not second.shares.begin(second.share, 5)
    third.shares.end(third.share, 60)
    assert second.share.granted == 5
    assert second.shares.begin(second.share, 6) is False, "a larger one"
    assert second.share.granted == 6


@given(
    st.integers(1, 50),
    st.lists(
        st.tuples(st.integers(0, 3), st.sampled_from(["begin", "end", "rest"]), st.integers(1, 60)),
        max_size=100,
    ),
)
def test_whoever_waits_gets_its_turn(limit: int, events: list[tuple[int, str, int]]) -> None:
    """Never over the limit but for one alone; and when all posts end, all that wait have had theirs."""
    shares = FairShare(limit)
    all_of_them = [Tenant(shares, 1) for _ in range(4)]
    for at, what, amount in events:
        share = all_of_them[at].share
        match what:
            case "begin":
                shares.begin(share, amount)
            case "end" if share.taken:
                shares.end(share, min(amount, share.taken))
            case "rest":
                shares.rest(share)
            case _:
                pass
        having = [one.share for one in all_of_them if one.share.taken + one.share.granted]
        assert shares.taken == sum(share.taken + share.granted for share in having)
        assert shares.taken <= max(limit, 60)
    for _ in range(len(all_of_them)):
        for share in [one.share for one in all_of_them]:
            if share.taken:
                shares.end(share, share.taken)
            elif share.granted:
                assert shares.begin(share, share.granted)
                shares.end(share, share.taken)
    assert shares.taken == 0
    assert not [one for one in all_of_them if one.share.since is not None]
