"""The meters count what happened to a tenant's messages, in virtual time."""

import asyncio

from relay.core.replies import NoReply, Reply
from tests.simulation.harness import ACME, FINE, World, world
from tests.support.virtual import run


async def _deliver(w: World, *keys: str | None) -> None:
    await w.start()
    w.insert(*keys)
    await w.all_settled()
    await w.stop()


def test_each_delivery_is_counted_and_settled_in_groups() -> None:
    async def scene() -> None:
        w = world()
        await _deliver(w, *(f"k{number}" for number in range(20)))
        assert w.meters.delivered.get((ACME,)) == 20
        assert w.meters.sent_again.get((ACME,)) == 0
        assert sum_of(w, "relay_settlement_group_messages") == 20

    run(scene())


def test_a_message_without_an_answer_is_released_counted_and_sent_again() -> None:
    async def scene() -> None:
        w = world(lambda call, _, now: NoReply("cut") if call == "post" and now < 5 else FINE[call])
        await _deliver(w, "k")
        posts = len(w.calls("post"))
        assert posts > 1
        assert w.meters.released.get((ACME, "silent", "yes")) == posts - 1
        assert w.meters.sent_again.get((ACME,)) == posts - 1
        assert w.meters.delivered.get((ACME,)) == 1

    run(scene())


def test_an_uncounted_release_is_sent_again_too() -> None:
    async def scene() -> None:
        w = world(lambda call, _, now: Reply(503) if call == "post" and now < 5 else FINE[call])
        await _deliver(w, "k")
        again = len(w.calls("post")) - 1
        assert w.meters.released.get((ACME, "busy", "no")) == again
        assert w.meters.sent_again.get((ACME,)) == again > 0

    run(scene())


def test_what_is_parked_is_counted_by_the_kind_of_its_answer() -> None:
    async def scene() -> None:
        refused: list[str] = []
        w = world(lambda call, one, _: Reply(413) if call == "post" and one in refused else FINE[call])
        refused += w.insert("a")
        await _deliver(w, "b")
        assert w.meters.parked.get((ACME, "too-large")) == 1
        assert w.meters.delivered.get((ACME,)) == 1

    run(scene())


def test_what_can_never_be_sent_is_parked_as_unsendable() -> None:
    async def scene() -> None:
        w = world(max_message_bytes=1)
        await _deliver(w, "a")
        assert w.meters.parked.get((ACME, "unsendable")) == 1
        assert not w.calls("post")

    run(scene())


def test_the_duration_from_enqueueing_to_delivery_counts_the_time_before_reading_and_after() -> None:
    async def scene() -> None:
        w = world(lambda call, _, now: Reply(503) if call == "ping" and now < 400 else FINE[call])
        w.insert("k")
        await asyncio.sleep(100)  # enqueued while no relay runs
        await w.start()
        await w.all_settled()
        await w.stop()
        delivered_at = w.calls("post")[-1].at + w.latency
        assert abs(sum_of(w, "relay_delivery_duration_seconds") - delivered_at) < 0.1
        assert delivered_at > 400

    run(scene())


def test_the_wait_of_prefetched_messages_counts_too() -> None:
    async def scene() -> None:
        w = world(ordering="tenant", max_in_flight=1)
        w.latency = 10.0
        await _deliver(w, None, None, None)
        ends = [one.at + w.latency for one in w.calls("post")]
        assert len(ends) == 3
        assert abs(sum_of(w, "relay_delivery_duration_seconds") - sum(ends)) < 0.1

    run(scene())


def sum_of(w: World, name: str) -> float:
    """The sum of all values that this histogram saw."""
    lines = w.meters.text(openmetrics=False).splitlines()
    return float(next(line for line in lines if line.startswith(name + "_sum")).split()[1])
