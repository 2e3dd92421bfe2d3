"""What every shared outbox promises to the relays that share it (`ports.Leases`)."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime

import pytest

from relay.core.admin import Filter
from relay.core.model import (
    Delivered,
    DocumentName,
    Draft,
    MessageId,
    Parked,
    Released,
    RowId,
    Settlement,
    StateName,
    TenantId,
    TenantState,
)
from relay.core.ports import Leases, LeaseStatus, Store
from tests.contract.stores import ACME, GLOBEX, ROOM, SharedCase, until
from tests.support.keys import settle_rows

ORDER = DocumentName("Sync.SalesOrder")
NOBODY = frozenset[TenantId]()
MANY = [TenantId(f"TENANT_{i}") for i in range(60)]


class Member:
    """A relay process that shares the outbox."""

    def __init__(self, store: Store, leases: Leases) -> None:
        self.store, self.leases = store, leases
        self.acquire: Callable[[Sequence[TenantId]], Awaitable[frozenset[TenantId]]] = leases.acquire
        self.renew: Callable[[], Awaitable[LeaseStatus]] = leases.renew
        self.release: Callable[[Sequence[TenantId]], Awaitable[None]] = leases.release

    async def held(self) -> frozenset[TenantId]:
        """As a heartbeat answers it."""
        return (await self.renew()).held

    async def rows(self, tenant: TenantId = ACME) -> list[RowId]:
        """What it reads to send."""
        found = await self.store.due(tenant, {ORDER}, frozenset(), frozenset(), 1000, ROOM)
        return [message.row for message in found]

    async def state(self, row: RowId) -> str:
        """Of a message, and why."""
        (record,) = [record for record in await self.store.find(Filter(), 1000) if record.row == row]
        return f"{record.state} {record.attempts} {record.reason}"


async def join(case: SharedCase, name: str) -> Member:
    """Another relay process, alive."""
    store = await case.open()
    assert store.leases is not None
    await store.beat(name, {})
    await store.leases.renew()
    return Member(store, store.leases)


@pytest.fixture
async def first(shared_case: SharedCase) -> Member:
    """One relay."""
    return await join(shared_case, "first")


@pytest.fixture
async def second(shared_case: SharedCase) -> Member:
    """And another one."""
    return await join(shared_case, "second")


async def enqueue(member: Member, *tenants: TenantId) -> None:
    await member.store.add(
        [Draft(tenant, ORDER, b"x", MessageId(f"m{i}")) for i, tenant in enumerate(tenants)]
    )


# --- acquire ---------------------------------------------------------------------------------------


async def test_what_nobody_holds_is_acquired(first: Member) -> None:
    assert await first.acquire([ACME]) == {ACME}
    assert await first.held() == {ACME}


async def test_acquire_answers_all_of_these_that_are_held_now_and_no_others(first: Member) -> None:
    await first.acquire([ACME])
    assert await first.acquire([ACME, GLOBEX]) == {ACME, GLOBEX}
    assert await first.acquire([GLOBEX]) == {GLOBEX}
    assert await first.acquire([]) == NOBODY
    assert await first.held() == {ACME, GLOBEX}


async def test_what_another_holds_is_not_acquired(first: Member, second: Member) -> None:
    await first.acquire([ACME])
    assert await second.acquire([ACME, GLOBEX]) == {GLOBEX}
    assert await first.acquire([ACME, GLOBEX]) == {ACME}
    assert await first.held() == {ACME}
    assert await second.held() == {GLOBEX}


async def test_acquire_needs_a_living_heartbeat(shared_case: SharedCase, first: Member) -> None:
    await shared_case.expire("first")
    assert await first.acquire([ACME]) == NOBODY
    await first.renew()
    assert await first.acquire([ACME]) == {ACME}


async def test_without_any_heartbeat_nothing_is_acquired(shared_case: SharedCase, first: Member) -> None:
    store = await shared_case.open()
    assert store.leases is not None
    assert await store.leases.acquire([ACME]) == NOBODY
    assert await first.acquire([ACME]) == {ACME}


async def test_a_tenant_twice_in_one_call_is_one_tenant(first: Member) -> None:
    assert await first.acquire([ACME, ACME]) == {ACME}
    await first.release([ACME, ACME])
    assert await first.held() == NOBODY


# --- renew -----------------------------------------------------------------------------------------


async def test_renew_tells_who_lives_this_one_too(
    shared_case: SharedCase, first: Member, second: Member
) -> None:
    assert (await first.renew()).relays == {"first", "second"}
    await shared_case.expire("second")
    assert (await first.renew()).relays == {"first"}
    assert (await second.renew()).relays == {"first", "second"}


async def test_renew_tells_what_this_one_holds_and_nothing_of_others(first: Member, second: Member) -> None:
    await first.acquire([ACME])
    await second.acquire([GLOBEX])
    assert await first.renew() == LeaseStatus(frozenset({"first", "second"}), frozenset({ACME}))


async def test_one_heartbeat_keeps_all_leases_alive(shared_case: SharedCase, first: Member) -> None:
    await first.acquire(MANY)
    await shared_case.expire("first")
    await first.renew()
    assert await (await join(shared_case, "second")).acquire(MANY) == NOBODY
    assert await first.held() == set(MANY)


async def test_what_was_lost_is_not_in_the_answer_any_more(
    shared_case: SharedCase, first: Member, second: Member
) -> None:
    await first.acquire([ACME, GLOBEX])
    await shared_case.expire("first")
    await second.acquire([ACME])
    assert await first.held() == {GLOBEX}
    assert await first.acquire([ACME]) == NOBODY


async def test_a_relay_that_left_lives_no_longer_and_holds_nothing(first: Member, second: Member) -> None:
    await second.acquire([ACME, GLOBEX])
    await second.store.leave("second")
    assert (await first.renew()).relays == {"first"}
    assert await first.acquire([ACME, GLOBEX]) == {ACME, GLOBEX}


async def test_no_relay_takes_another_that_lives_for_one_that_ended(first: Member, second: Member) -> None:
    await first.acquire([ACME])
    assert await second.store.unclean() is False
    assert await first.store.beat("first", {}) is True
    assert await first.held() == {ACME}
    assert {beat.relay for beat in await second.store.relays() if beat.alive} == {"first", "second"}


# --- the end of a lease ----------------------------------------------------------------------------


async def test_without_a_heartbeat_a_lease_ends_and_another_takes_over(
    shared_case: SharedCase, first: Member, second: Member
) -> None:
    await first.acquire([ACME])
    assert await second.acquire([ACME]) == NOBODY
    await shared_case.expire("first")
    assert await second.acquire([ACME]) == {ACME}
    assert await second.held() == {ACME}


async def test_a_lease_lasts_its_seconds_from_before_the_heartbeat_and_no_longer(
    shared_case: SharedCase,
) -> None:
    store, other = await shared_case.open(lease_seconds=0.3), await shared_case.open(lease_seconds=30.0)
    assert store.leases is not None
    assert other.leases is not None
    rival = other.leases
    assert (store.leases.seconds, rival.seconds) == (0.3, 30.0)
    await store.beat("short", {})
    await other.beat("long", {})
    await rival.renew()
    before = time.monotonic()
    await store.leases.renew()
    assert await store.leases.acquire([ACME]) == {ACME}
    await until(lambda: rival.acquire([ACME]), lambda held: held == {ACME})
    assert time.monotonic() - before >= 0.3


async def test_a_lease_that_ended_and_that_nobody_took_comes_back_with_the_next_heartbeat(
    shared_case: SharedCase, first: Member, second: Member
) -> None:
    await first.acquire([ACME])
    await shared_case.expire("first")
    assert await first.held() == {ACME}
    assert await second.acquire([ACME]) == NOBODY


# --- release ---------------------------------------------------------------------------------------


async def test_what_was_given_back_another_takes_at_once(first: Member, second: Member) -> None:
    await first.acquire([ACME, GLOBEX])
    await first.release([ACME])
    assert await second.acquire([ACME, GLOBEX]) == {ACME}
    assert await first.held() == {GLOBEX}
    assert await second.held() == {ACME}


async def test_giving_back_what_is_not_held_is_no_error_and_takes_it_from_nobody(
    first: Member, second: Member
) -> None:
    await first.acquire([ACME])
    await second.release([ACME, GLOBEX])
    await second.release([])
    assert await first.held() == {ACME}
    assert await second.acquire([ACME]) == NOBODY


async def test_giving_back_what_was_lost_takes_it_from_nobody(
    shared_case: SharedCase, first: Member, second: Member
) -> None:
    await first.acquire([ACME])
    await shared_case.expire("first")
    await second.acquire([ACME])
    await first.release([ACME])
    assert await second.held() == {ACME}


async def test_what_was_given_back_may_be_acquired_again(first: Member) -> None:
    await first.acquire([ACME])
    await first.release([ACME])
    assert await first.held() == NOBODY
    assert await first.acquire([ACME]) == {ACME}


# --- fencing ---------------------------------------------------------------------------------------

FATES = [Delivered(), Released("HTTP 500", True, 60.0), Parked("HTTP 400")]
OUTCOMES = ["delivered 0 None", "pending 1 HTTP 500", "parked 0 HTTP 400"]
by_fate = pytest.mark.parametrize(("fate", "outcome"), list(zip(FATES, OUTCOMES, strict=True)))


@by_fate
async def test_a_holder_settles(first: Member, fate: Settlement, outcome: str) -> None:
    await first.acquire([ACME])
    await enqueue(first, ACME)
    (row,) = await first.rows()
    await settle_rows(first.store, [(row, fate)])
    assert await first.state(row) == outcome


@by_fate
async def test_a_relay_that_lost_its_lease_without_noticing_settles_nothing(
    shared_case: SharedCase, first: Member, second: Member, fate: Settlement, outcome: str
) -> None:
    await first.acquire([ACME])
    await enqueue(first, ACME)
    (row,) = await first.rows()
    await shared_case.expire("first")
    await second.acquire([ACME])
    await settle_rows(first.store, [(row, fate)])
    assert await second.state(row) == "pending 0 None"
    await settle_rows(second.store, [(row, fate)])
    assert await second.state(row) == outcome


async def test_nor_after_the_next_holder_is_gone_as_well(
    shared_case: SharedCase, first: Member, second: Member
) -> None:
    """The fence is of an acquisition, not of a name: being the last one that lives gives nothing back."""
    await first.acquire([ACME])
    await enqueue(first, ACME)
    (row,) = await first.rows()
    await shared_case.expire("first")
    await second.acquire([ACME])
    await second.release([ACME])
    await settle_rows(first.store, [(row, Delivered())])
    assert await first.state(row) == "pending 0 None"
    assert await first.held() == NOBODY


async def test_the_lost_tenants_are_left_out_of_a_group_the_others_are_settled(
    shared_case: SharedCase, first: Member, second: Member
) -> None:
    await first.acquire([ACME, GLOBEX])
    await enqueue(first, ACME, GLOBEX)
    (lost,), (kept,) = await first.rows(ACME), await first.rows(GLOBEX)
    await shared_case.expire("first")
    await second.acquire([ACME])
    await first.renew()
    await settle_rows(first.store, [(lost, Delivered()), (kept, Delivered())])
    assert await first.state(lost) == "pending 0 None"
    assert await first.state(kept) == "delivered 0 None"


async def test_what_was_never_acquired_is_not_settled(first: Member, second: Member) -> None:
    await first.acquire([GLOBEX])
    await enqueue(first, ACME)
    (row,) = await first.rows()
    await settle_rows(first.store, [(row, Delivered())])
    await second.acquire([ACME])
    assert await second.rows() == [row]


async def test_what_was_given_back_is_not_settled(first: Member) -> None:
    await first.acquire([ACME])
    await enqueue(first, ACME)
    (row,) = await first.rows()
    await first.release([ACME])
    await settle_rows(first.store, [(row, Delivered())])
    assert await first.state(row) == "pending 0 None"


async def test_a_lease_that_came_back_with_no_holder_between_settles_what_it_delivered_before(
    shared_case: SharedCase, first: Member
) -> None:
    await first.acquire([ACME])
    await enqueue(first, ACME)
    (row,) = await first.rows()
    await shared_case.expire("first")
    assert await first.held() == {ACME}
    await settle_rows(first.store, [(row, Delivered())])
    assert await first.state(row) == "delivered 0 None"


async def test_what_was_read_before_another_held_the_tenant_is_not_settled_under_a_new_lease(
    shared_case: SharedCase, first: Member, second: Member
) -> None:
    """The other one may have sent it as well, and settled it; read again it may be settled."""
    await first.acquire([ACME])
    await enqueue(first, ACME)
    (row,) = await first.rows()
    await shared_case.expire("first")
    await second.acquire([ACME])
    await second.release([ACME])
    await first.renew()
    assert await first.acquire([ACME]) == {ACME}
    await settle_rows(first.store, [(row, Parked("HTTP 400"))])
    assert await first.state(row) == "pending 0 None"
    assert await first.rows() == [row]
    await settle_rows(first.store, [(row, Parked("HTTP 400"))])
    assert await first.state(row) == "parked 0 HTTP 400"


async def test_acquired_anew_it_settles_again(shared_case: SharedCase, first: Member, second: Member) -> None:
    await first.acquire([ACME])
    await shared_case.expire("first")
    await second.acquire([ACME])
    await first.renew()
    await second.release([ACME])
    assert await first.acquire([ACME]) == {ACME}
    await enqueue(first, ACME)
    (row,) = await first.rows()
    await settle_rows(first.store, [(row, Delivered())])
    assert await first.state(row) == "delivered 0 None"


# --- races -----------------------------------------------------------------------------------------


async def test_of_many_that_race_for_the_same_tenants_each_tenant_has_one_holder(
    shared_case: SharedCase,
) -> None:
    members = [await join(shared_case, f"relay-{i}") for i in range(6)]
    for _ in range(5):
        taken = await asyncio.gather(*(member.acquire(MANY) for member in members))
        assert sum(map(len, taken)) == len(MANY)
        assert frozenset().union(*taken) == set(MANY)
        assert [await member.held() for member in members] == taken
        await asyncio.gather(*(member.release(MANY) for member in members))


async def test_of_many_that_race_for_a_dead_ones_tenants_each_tenant_has_one_holder(
    shared_case: SharedCase, first: Member
) -> None:
    """And the dead one, should it come back just then, holds what it got back and nothing else."""
    await first.acquire(MANY)
    members = [await join(shared_case, f"relay-{i}") for i in range(5)]
    await shared_case.expire("first")
    renewed = asyncio.ensure_future(first.renew())
    taken = await asyncio.gather(*(member.acquire(MANY) for member in members))
    standing = await renewed
    sure = [await first.held(), *[await member.held() for member in members]]
    assert sure[1:] == taken
    assert sure[0] <= standing.held
    assert sum(map(len, sure)) == len(MANY)
    assert frozenset().union(*sure) == set(MANY)


async def test_settling_while_others_take_over_is_all_or_nothing_by_tenant(
    shared_case: SharedCase, first: Member, second: Member
) -> None:
    """Whoever is first at the lease: a message that the late one settled would be one that two had sent."""
    await first.acquire([ACME])
    await enqueue(first, *[ACME] * 40)
    rows = await first.rows()
    await shared_case.expire("first")
    _, taken = await asyncio.gather(
        settle_rows(first.store, [(row, Delivered()) for row in rows]), second.acquire([ACME])
    )
    assert taken == {ACME}
    assert len(await second.rows()) in (0, 40)


# --- live states -----------------------------------------------------------------------------------


def states_of(state: StateName) -> list[TenantState]:
    """What a relay reports of ACME."""
    return [TenantState(ACME, state, "", datetime(2026, 1, 2, tzinfo=UTC))]


async def test_of_a_tenants_state_its_holders_word_counts(
    shared_case: SharedCase, first: Member, second: Member
) -> None:
    """A frozen relay that thaws writes what it last knew; another one owns the tenant by then."""
    await first.acquire([ACME])
    await first.store.report(states_of("backing-off"))
    seen = (await second.store.states())[ACME]
    assert (seen.state, seen.relay) == ("backing-off", "first")
    await shared_case.expire("first")
    assert await second.acquire([ACME]) == {ACME}
    assert await second.store.states() == {}, "the holder has reported nothing yet"
    await second.store.report(states_of("sending"))
    await first.store.report(states_of("backing-off"))
    seen = (await first.store.states())[ACME]
    assert (seen.state, seen.relay) == ("sending", "second")


async def test_a_tenant_that_was_released_has_no_live_state(first: Member, second: Member) -> None:
    await first.acquire([ACME])
    await first.store.report(states_of("idle"))
    await first.release([ACME])
    assert await second.store.states() == {}
