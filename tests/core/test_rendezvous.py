"""Which of several replicas should own which tenant."""

from hypothesis import given
from hypothesis import strategies as st

from relay.core.model import TenantId
from relay.core.rendezvous import owner_of

names = st.text("abcdefghij0123456789-", min_size=1, max_size=20)
replicas = st.sets(names, min_size=1, max_size=8)
TENANTS = [TenantId(f"T{number}_PRD") for number in range(1000)]


@given(names, replicas)
def test_all_replicas_choose_the_same_owner(tenant, living):
    assert owner_of(tenant, sorted(living)) == owner_of(tenant, sorted(living, reverse=True)) in living


@given(names, replicas, names)
def test_a_replica_that_joins_takes_tenants_only_for_itself(tenant, living, joining):
    before, after = owner_of(tenant, living), owner_of(tenant, living | {joining})
    assert after in (before, joining)


@given(names, replicas)
def test_a_replica_that_leaves_moves_only_its_own_tenants(tenant, living):
    before = owner_of(tenant, living)
    for leaving in living - {before}:
        assert owner_of(tenant, living - {leaving}) == before


def test_tenants_are_spread_evenly():
    counts = dict.fromkeys("abcd", 0)
    for tenant in TENANTS:
        counts[owner_of(tenant, counts)] += 1
    assert all(200 <= count <= 300 for count in counts.values())
