"""A message that ION alone refuses, while others are delivered: its own fault, and nobody else's wait."""

import asyncio
import itertools
from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from relay.core.replies import NoReply, Reply
from tests.simulation.harness import FINE, ORDER, PARK, SHIPMENT, World, constant, world
from tests.support.virtual import run

STATUSES = [302, 401, 403, 404, 409, 412, 415, 422, 451, 500, 503]


async def beside_others(w: World, seconds: float, *, every: float = 0.05) -> list[float]:
    """Enqueue a message of another lane again and again; how long each waited until ION had it."""
    began: dict[str, float] = {}
    for turn in range(int(seconds / every)):
        began[w.insert(f"good{turn}")[0]] = w.now()
        await asyncio.sleep(every)
    await w.until(lambda: began.keys() <= set(w.rows("delivered")))
    return sorted(one.at - began[str(one.message_id)] for one in w.calls("post") if one.message_id in began)


@pytest.mark.parametrize("status", STATUSES)
def test_it_is_tried_at_growing_distances_and_parked_and_others_hardly_wait(status: int) -> None:
    async def work() -> None:
        bad: list[str] = []
        w = world(lambda call, i, _: Reply(status, "no") if call == "post" and i in bad else FINE[call])
        await w.start()
        with capture_logs() as logs:
            bad += w.insert("bad")
            waits = await beside_others(w, 60.0)
            posts = [one.at for one in w.calls("post") if one.message_id in bad]
            assert len(posts) <= 8
            assert waits[len(waits) // 2] < 0.1
            assert waits[int(len(waits) * 0.97)] < 0.2  # but for the incident at its first answer
            asked = len(w.calls("ping", "versions", "accepted_documents"))
            await w.until(lambda: w.rows("parked") == bad or not w.insert("more"), within=3600)
            await w.stop()
        (row,) = [row for row in w.outbox.rows if row.message_id in bad]
        assert row.attempts == 10
        assert (
            row.reason == f"10 attempts, the last: HTTP {status}: no; only this message, others are delivered"
        )
        gaps = [later - earlier for earlier, later in itertools.pairwise(posts[1:])]
        assert gaps == sorted(gaps)
        failing = [line for line in logs if line["event"] == "message.failing"]
        assert [line["message_id"] for line in failing] == bad
        assert len([line for line in logs if line["event"] == "incident.opened"]) == 1
        assert asked <= 7

    run(work())


def test_time_outs_of_one_message_are_its_own() -> None:
    async def work() -> None:
        bad: list[str] = []
        w = world(lambda call, i, _: NoReply("cut") if call == "post" and i in bad else FINE[call])
        await w.start()
        bad += w.insert("bad")
        waits = await beside_others(w, 60.0)
        assert waits[int(len(waits) * 0.97)] < 0.2
        await w.stop()

    run(work())


@pytest.mark.parametrize("status", [403, 503])
def test_what_all_messages_meet_is_never_one_messages_own(status: int) -> None:
    """An outage that begins between two deliveries counts no attempts and parks nothing."""

    async def work() -> None:
        w = world(lambda call, _, now: Reply(status) if call == "post" and 1 < now < 7200 else FINE[call])
        await w.start()
        for turn in range(40):
            w.insert(f"k{turn}")
            await asyncio.sleep(0.05)
        await w.until(lambda: w.now() > 7200)
        await w.all_settled()
        await w.stop()
        assert w.rows("parked") == []
        assert {row.attempts for row in w.outbox.rows} == {0}

    run(work())


@pytest.mark.parametrize("status", [429, 503])
def test_a_server_that_refuses_every_second_post_is_busy_for_all(status: int) -> None:
    async def work() -> None:
        turns = iter(range(10**9))
        w = world(
            lambda call, _, now: (
                Reply(status) if call == "post" and now < 3600 and next(turns) % 2 else FINE[call]
            )
        )
        await w.start()
        w.insert(*(f"k{turn}" for turn in range(300)))
        await w.all_settled()
        await w.stop()
        assert len(w.rows("delivered")) == 300
        assert sum(row.attempts for row in w.outbox.rows) <= 30

    run(work())


def test_a_document_that_is_not_entitled_is_not_one_messages_own() -> None:
    """412 for all messages of a document, while another document is delivered: nothing is parked."""

    async def work() -> None:
        shipments: list[str] = []
        w = world(
            lambda call, i, now: (
                Reply(412) if call == "post" and now < 7200 and i in shipments else FINE[call]
            )
        )
        await w.start()
        shipments += w.insert("s1", "s2", document=SHIPMENT)
        for turn in range(700):
            w.insert(f"k{turn}", document=ORDER)
            await asyncio.sleep(10)
        await w.until(lambda: w.now() > 7200)
        await w.all_settled()
        await w.stop()
        assert w.rows("parked") == []

    run(work())


@pytest.mark.parametrize("ordering", ["tenant", "key"])
def test_a_message_that_holds_its_tenant_is_named_with_what_an_operator_can_do(ordering: str) -> None:
    async def work() -> None:
        w = world(constant(post=Reply(403, "no")), ordering=ordering)
        await w.start()
        first, *_ = w.insert(None, None, None)
        await w.until(lambda: len(w.calls("post")) > 3)
        assert {one.message_id for one in w.calls("post")} == {first}
        assert f"message {first} is refused again" in w.state[1]
        assert "park it if only this one is refused" in w.state[1]
        await w.stop()

    run(work())


def test_where_nothing_is_to_be_parked_it_waits_and_others_go_on() -> None:
    async def work() -> None:
        bad: list[str] = []
        policy = replace(PARK, park_nothing=True)
        w = world(
            lambda call, i, _: Reply(400, "no") if call == "post" and i in bad else FINE[call], policy=policy
        )
        await w.start()
        bad += w.insert("bad")
        waits = await beside_others(w, 60.0)
        assert waits[int(len(waits) * 0.97)] < 0.2
        assert w.rows("pending") == bad
        await w.stop()

    run(work())
