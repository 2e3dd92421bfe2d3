"""Posts that take long: only their lane waits for them, whatever happens meanwhile."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.core.model import TenantId
from relay.core.replies import NoReply, Reply, TokenRefused
from tests.simulation.harness import FINE, ORDER, violations, world
from tests.simulation.test_any_faults import kept_in_order
from tests.simulation.test_only_this_message import beside_others
from tests.support.virtual import run


@pytest.mark.parametrize("status", [401, 503])
@pytest.mark.parametrize("answer", [Reply(202), NoReply("no answer within 30 s")])
def test_others_do_not_wait_for_a_hanging_post_when_one_in_forty_fails(status: int, answer: object) -> None:
    async def work() -> None:
        hanging: list[str] = []
        turns = iter(range(1, 10**9))

        def ion(call: str, message_id: str | None, _: float) -> object:
            if call != "post":
                return FINE[call]
            if message_id in hanging:
                return answer
            return Reply(status) if next(turns) % 40 == 0 else FINE[call]

        w = world(ion)  # type: ignore[arg-type]
        await w.start()
        hanging += w.insert("slow")
        w.slow[hanging[0]] = 30.0
        waits = await beside_others(w, 120.0, every=0.2)
        await w.stop()
        assert waits[len(waits) // 2] < 0.1
        assert waits[-1] < 3.0
        assert violations(w.requests) == []

    run(work())


def test_the_lane_of_a_slow_post_waits_for_it() -> None:
    async def work() -> None:
        w = world(lambda call, i, now: Reply(503) if call == "post" and i in bad and now < 5 else FINE[call])
        bad: list[str] = []
        await w.start()
        first, second = w.insert("slow", "slow")
        w.slow[first] = 20.0
        await asyncio.sleep(0.2)
        bad += w.insert("other")
        await w.until(lambda: w.rows("delivered") == bad, within=9)
        await w.all_settled()
        await w.stop()
        posts = {one.message_id: one for one in w.calls("post")}
        assert posts[second].at > posts[first].at + 19.9
        assert len(w.calls("post")) > 3  # the refused one went again meanwhile

    run(work())


def test_a_late_refusal_of_the_credentials_halts_the_tenant() -> None:
    async def work() -> None:
        late: list[str] = []

        def ion(call: str, i: str | None, now: float) -> object:
            if call == "post" and i in late:
                return TokenRefused("no")
            return Reply(503) if call == "post" and now < 100 else FINE[call]

        w = world(ion)  # type: ignore[arg-type]
        await w.start()
        w.slow["x"] = 0.0
        late += w.insert("late")
        w.slow[late[0]] = 3.0
        await asyncio.sleep(0.1)
        w.insert("other")
        await w.until(lambda: w.state[0] == "halted", within=60)
        await w.stop()

    run(work())


def test_a_late_retry_after_lengthens_the_pause_that_is_on() -> None:
    async def work() -> None:
        late: list[str] = []

        def ion(call: str, i: str | None, now: float) -> object:
            if call != "post" or now > 1 or not late:
                return FINE[call]
            return Reply(503, retry_after=90.0) if i in late else Reply(503)

        w = world(ion)  # type: ignore[arg-type]
        await w.start()
        w.insert("first")
        await w.all_settled()
        late += w.insert("late")
        w.slow[late[0]] = 1.0
        w.insert("other")
        await w.all_settled()
        await w.stop()
        assert w.calls("ping")[-1].at >= 90.0
        assert violations(w.requests) == []

    run(work())


def test_more_posts_hang_than_may_be_in_flight_and_no_more_are_sent() -> None:
    async def work() -> None:
        w = world(lambda call, i, now: Reply(503) if call == "post" and i in bad else FINE[call])
        bad: list[str] = []
        await w.start()
        for turn in range(30):
            (one,) = w.insert(f"slow{turn}")
            w.slow[one] = 1000.0
            (other,) = w.insert(f"bad{turn}")
            bad.append(other)
            await asyncio.sleep(5.0)
        assert w.ion.max_in_flight <= 8
        bad.clear()
        await w.all_settled()
        await w.stop()

    run(work())


def test_an_operators_pause_waits_for_what_is_in_flight_and_a_stop_too() -> None:
    async def work() -> None:
        w = world()
        await w.start()
        (one,) = w.insert("slow")
        w.slow[one] = 10.0
        await asyncio.sleep(1.0)
        await w.outbox.pause(TenantId("ACME_PRD"), "by hand")
        await w.until(lambda: w.state[0] == "paused", within=30)
        assert w.rows("delivered") == [one]
        await w.outbox.resume(TenantId("ACME_PRD"), "ann@desk")
        (two,) = w.insert("slow")
        w.slow[two] = 10.0
        await w.until(lambda: len(w.calls("ping")) == 2)
        await asyncio.sleep(1.0)
        await w.stop()
        assert set(w.rows("delivered")) == {one, two}

    run(work())


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from([0.01, 0.01, 0.3, 7.0, 40.0]), min_size=4, max_size=24),
    st.lists(st.sampled_from([202, 202, 202, 401, 403, 412, 500, 503, 0]), min_size=1, max_size=12),
    st.sampled_from(["key", "tenant", "none"]),
    st.integers(0, 2**32),
)
def test_whatever_takes_long_and_fails_all_is_delivered_once_and_in_order(
    slow: list[float], answers: list[int], ordering: str, seed: int
) -> None:
    async def work() -> None:
        turns = iter(range(10**9))

        def ion(call: str, _: str | None, now: float) -> object:
            if call != "post" or now > 600:
                return FINE[call]
            status = answers[next(turns) % len(answers)]
            return Reply(status) if status else NoReply("cut")

        w = world(ion, ordering=ordering)  # type: ignore[arg-type]
        w.random.seed(seed)
        await w.start()
        enqueued = [("abc"[turn % 3], ORDER, False) for turn in range(len(slow))]
        ids = [w.insert(key)[0] for key, *_ in enqueued]
        w.slow |= dict(zip(ids, slow, strict=True))
        await w.all_settled()
        await w.stop()
        assert sorted(w.rows("delivered") + w.rows("parked")) == sorted(ids)
        taken = [one.message_id for one in w.calls("post") if one.answer == Reply(202)]
        assert len(taken) == len(set(taken))
        assert violations(w.requests) == []
        assert w.ion.max_in_flight <= 9  # eight posts, and a ping beside them
        if ordering != "none":
            kept_in_order(w, ids, enqueued, one_lane=ordering == "tenant")

    run(work())
