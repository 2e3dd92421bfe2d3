"""All tenants' posts together: never more than the cap, shared fairly, nobody starves, no place is lost."""

from hypothesis import given
from hypothesis import strategies as st

from relay.core.fair_share import FairShare, TenantShare


class Tenant:
    """One that always wants `wanted` posts under way."""

    def __init__(self, shares: FairShare, wanted: int) -> None:
        self.shares, self.wanted, self.woken, self.done = shares, wanted, 0, 0
        self.share = TenantShare(self._wake)

    def _wake(self) -> None:
        self.woken += 1

    def launches(self) -> int:
        """As many as it wants and gets."""
        before = self.share.under_way
        while self.share.under_way < self.wanted and self.shares.begin(self.share):
            pass
        return self.share.under_way - before


def tenants(most: int, *wanted: int) -> list[Tenant]:
    shares = FairShare(most)
    return [Tenant(shares, each) for each in wanted]


def turns(all_of_them: list[Tenant], rounds: int) -> None:
    """Every tenant lands one post in its turn, and whoever was woken goes on."""
    for _ in range(rounds):
        for one in all_of_them:
            if one.share.under_way:
                one.shares.end(one.share)
            for other in all_of_them:
                other.launches()


def test_a_tenant_alone_has_all_but_what_is_kept_for_the_first_posts_of_others() -> None:
    (alone,) = tenants(8, 64)
    assert alone.launches() == 6


def test_another_tenants_first_post_goes_at_once_though_one_has_all_that_it_can() -> None:
    greedy, modest = tenants(8, 64, 1)
    greedy.launches()
    assert modest.launches() == 1


def test_who_waits_with_none_under_way_goes_before_who_has_some_and_the_longest_waiting_first() -> None:
    big, second, third, fourth = tenants(2, 2, 1, 1, 1)
    assert [big.launches(), second.launches(), third.launches(), fourth.launches()] == [1, 1, 0, 0]
    big.shares.end(big.share)
    assert (third.woken, fourth.woken) == (1, 0)
    assert big.launches() == 0, "the place is the third's, though the third has not begun yet"
    assert third.launches() == 1
    second.shares.end(second.share)
    assert (fourth.woken, big.woken) == (1, 0)
    assert fourth.launches() == 1


def test_all_that_want_more_than_there_is_come_to_the_same_number() -> None:
    all_of_them = tenants(40, 64, 64, 64)
    for one in all_of_them:
        one.launches()
    assert [one.share.under_way for one in all_of_them] == [30, 1, 1]
    turns(all_of_them, 30)
    assert sorted(one.share.under_way for one in all_of_them) == [10, 10, 10]


def test_what_a_modest_tenant_leaves_is_for_those_that_want_more() -> None:
    all_of_them = tenants(40, 2, 64, 64)
    turns(all_of_them, 40)
    assert [one.share.under_way for one in all_of_them] == [2, 14, 14]


def test_with_more_tenants_than_places_each_has_its_turn() -> None:
    all_of_them = tenants(4, *[3] * 100)
    order: list[Tenant] = []
    for one in all_of_them:
        order += [one] * one.launches()
    for _ in range(1000):
        landing = order.pop(0)
        landing.shares.end(landing.share)
        landing.done += 1
        for one in all_of_them:
            order += [one] * one.launches()
    done = [one.done for one in all_of_them]
    assert max(done) - min(done) <= 3, "no more than what the first had while it was alone"


def test_a_place_that_was_granted_and_is_not_wanted_any_more_goes_to_the_next() -> None:
    first, second, third = tenants(1, 1, 1, 1)
    assert [first.launches(), second.launches(), third.launches()] == [1, 0, 0]
    first.shares.end(first.share)
    assert second.share.granted
    second.shares.rest(second.share)
    assert third.share.granted
    assert third.launches() == 1


def test_who_rests_is_not_waited_for() -> None:
    first, second, third = tenants(1, 1, 1, 1)
    assert [first.launches(), second.launches(), third.launches()] == [1, 0, 0]
    second.shares.rest(second.share)
    first.shares.end(first.share)
    assert (second.woken, third.woken) == (0, 1)


def test_who_leaves_gives_back_all_at_once() -> None:
    big, other = tenants(4, 8, 8)
    assert (big.launches(), other.launches()) == (3, 1)
    assert other.launches() == 0
    big.shares.leave(big.share)
    assert (big.share.under_way, other.woken) == (0, 1)
    assert other.launches() == 2


def test_more_places_are_granted_at_once_and_fewer_leave_what_is_under_way_alone() -> None:
    first, second = tenants(1, 1, 1)
    assert (first.launches(), second.launches()) == (1, 0)
    first.shares.resize(2)
    assert second.launches() == 1
    first.shares.resize(1)
    assert (first.share.under_way, second.share.under_way) == (1, 1)
    first.shares.end(first.share)
    assert first.launches() == 0


actions = st.lists(
    st.tuples(st.integers(0, 5), st.sampled_from(["begin", "end", "rest", "leave", "resize"])), max_size=200
)


@given(st.integers(1, 12), actions)
def test_whatever_happens_the_cap_holds_and_every_place_comes_back(
    most: int, happens: list[tuple[int, str]]
) -> None:
    shares = FairShare(most)
    all_of_them = [Tenant(shares, 64) for _ in range(6)]
    largest = most
    for at, what in happens:
        share = all_of_them[at].share
        match what:
            case "begin":
                shares.begin(share)
            case "end" if share.under_way:
                shares.end(share)
            case "rest":
                shares.rest(share)
            case "leave":
                shares.leave(share)
            case "resize":
                most = at + 1
                largest = max(largest, most)
                shares.resize(most)
            case _:
                pass
        assert sum(one.share.under_way + one.share.granted for one in all_of_them) <= largest
        assert shares._taken == sum(one.share.under_way + one.share.granted for one in all_of_them)
        if shares._taken < most:
            assert not [one for one in all_of_them if one.share.since is not None and not one.share.under_way]
    for one in all_of_them:
        shares.leave(one.share)
    assert shares._taken == 0
    assert shares.begin(all_of_them[0].share)
