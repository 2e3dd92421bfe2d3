"""Whatever the faults: nothing lost, nothing settled twice, order kept, ION not flooded, all delivered at last."""

import os

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from relay.core.model import TenantId
from relay.core.replies import Accepted, NoReply, Reply, TokenRefused, TokenUnavailable, Versions
from tests.simulation.harness import FINE, ORDER, SHIPMENT, violations, world
from tests.support.virtual import run

FAULTS_END = 7200.0
"""Faults are injected until then; normal operation afterwards."""

statuses = st.sampled_from([200, 202, 302, 400, 401, 403, 404, 408, 412, 413, 418, 429, 500, 502, 503, 504])
replies = st.builds(
    Reply,
    status=statuses,
    code=st.sampled_from([None, 418, 450, 540]),
    retry_after=st.sampled_from([None, 0.0, 7.0, 99999.0]),
)
silence = st.builds(NoReply, st.just("cut"))
tokens = st.one_of(st.builds(TokenRefused, st.just("no")), st.builds(TokenUnavailable, st.just("down")))
answers = {
    "ping": st.one_of(replies, silence, tokens),
    "versions": st.one_of(replies, silence, tokens, st.just(Versions(("v2",))), st.just(FINE["versions"])),
    "accepted_documents": st.one_of(
        replies,
        silence,
        tokens,
        st.sets(st.sampled_from([ORDER, SHIPMENT])).map(lambda d: Accepted(frozenset(d))),
    ),
    "post": st.one_of(replies, silence, tokens),
}
faults = st.fixed_dictionaries({call: st.lists(kind, max_size=12) for call, kind in answers.items()})
messages = st.lists(
    st.tuples(
        st.sampled_from(["a", "b", None]),
        st.sampled_from([ORDER, SHIPMENT]),
        st.sampled_from([False, False, False, False, True]),
    ),
    min_size=1,
    max_size=25,
)
"""The key, the document, and whether it may not be sent for years."""
YEARS = 1e8


def with_faults(script):
    """Play each call's list in turn, with fine answers between, until the faults end."""
    turns = dict.fromkeys(script, 0)

    def answer(call, _, now):
        turns[call] += 1
        if now >= FAULTS_END or not script[call]:
            return FINE[call]
        return script[call][turns[call] % len(script[call])] if turns[call] % 3 else FINE[call]

    return answer


@settings(
    max_examples=1500 if os.environ.get("RELAY_TEST_LONG") else 60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(
    faults,
    messages,
    st.sampled_from(["key", "tenant", "none"]),
    st.sampled_from([0.0, 0.2, 5.0]),
    st.integers(0, 2**32),
)
def test_conservation_order_and_liveness_under_any_faults(script, enqueued, ordering, lag, seed):
    async def work():
        w = world(with_faults(script), ordering=ordering)
        w.random.seed(seed)
        w.latency, w.outbox.lag = 0.05, lag
        await w.start()
        ids = [w.insert(key, document=document)[0] for key, document, _ in enqueued]
        w.send_later({i: YEARS for i, (_, _, is_later) in zip(ids, enqueued, strict=True) if is_later})
        waits = behind_what_waits(ids, enqueued, ordering)
        for _ in range(20):
            await w.until(
                lambda: set(w.rows("pending")) <= waits or w.now() > FAULTS_END or w.state[0] == "paused",
                90000,
            )
            if w.state[0] != "paused":
                break
            await w.outbox.resume(TenantId("ACME_PRD"), "ann@desk")
            await w.until(lambda: w.state[0] != "paused")
        await w.until(lambda: w.now() > FAULTS_END, 90000)
        await w.outbox.resume(TenantId("ACME_PRD"), "ann@desk")
        await w.until(lambda: set(w.rows("pending")) <= waits, within=20000)
        await w.stop()
        return w, ids, waits

    w, ids, waits = run(work())
    assert set(w.rows("pending")) == waits, "sent though it may not, or lost"
    assert sorted(w.rows("delivered") + w.rows("parked") + w.rows("pending")) == sorted(ids)
    assert sorted(w.arrived()) == sorted(w.rows("delivered"))
    assert violations(w.requests) == []
    posts = w.calls("post")
    taken = [one.message_id for one in posts if 200 <= getattr(one.answer, "status", 0) < 300]
    assert len(taken) == len(set(taken)), "a message that was taken went again"
    if ordering != "none":
        kept_in_order(w, ids, enqueued, one_lane=ordering == "tenant")


def behind_what_waits(ids, enqueued, ordering):
    """The messages that may not be sent for years, and those behind them in their lanes."""
    waits, blocked = set(), set()
    for message_id, (key, _, is_later) in zip(ids, enqueued, strict=True):
        lane = {"key": key, "tenant": "all", "none": message_id}[ordering]
        if is_later or lane in blocked:
            blocked.add(lane)
            waits.add(message_id)
    return waits


def kept_in_order(w, ids, enqueued, *, one_lane):
    """Within a lane and a document, what arrived arrived in the order of the rows."""
    lanes: dict[object, list[str]] = {}
    arrived = w.arrived()
    for message_id, (key, document, _) in zip(ids, enqueued, strict=True):
        if message_id in arrived:
            lanes.setdefault((None if one_lane else key, document), []).append(message_id)
    for lane in lanes.values():
        assert [i for i in arrived if i in lane] == lane


@settings(max_examples=400 if os.environ.get("RELAY_TEST_LONG") else 40, deadline=None)
@given(
    st.sampled_from(["ping", "versions", "accepted_documents", "post"]),
    st.data(),
    st.integers(0, 2**32),
)
def test_an_hour_of_the_same_answer_is_few_requests(call, data, seed):
    answer = data.draw(answers[call])

    async def work():
        w = world(lambda made, _, __: answer if made == call else FINE[made])
        w.random.seed(seed)
        await w.start()
        w.insert(*"abcdefgh")
        await w.until(lambda: w.now() > 3600)
        await w.stop()
        return w

    w = run(work())
    assert len(w.requests) <= 250
    assert violations(w.requests) == []
