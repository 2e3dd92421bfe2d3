"""Settlements that the outbox refuses, or whose rows hold other messages, in virtual time."""

import asyncio
import io
import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from relay.core.model import Draft, MessageId, MessageKey, RowId, Settlement
from relay.core.ports import NotSettled, StoreError
from relay.core.replies import Reply
from relay.delivery.limits import MAX_UNSETTLED
from relay.observability import logs
from tests.simulation.harness import ACME, ORDER, World, constant, world
from tests.support.virtual import run


@pytest.fixture
def log() -> io.StringIO:
    """What the relay logs."""
    out = io.StringIO()
    logs.configure("info", "json", out)
    return out


def lines(log: io.StringIO, event: str) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in log.getvalue().splitlines()]
    return [line for line in found if line["event"] == event]


def refusing(w: World, *places: int) -> Callable[[], None]:
    """The outbox refuses these rows until the result is called."""
    w.outbox.refuses = {w.outbox.rows[place].row: "not this row" for place in places}

    def allow() -> None:
        w.outbox.refuses = {}

    return allow


async def later(w: World, seconds: float) -> None:
    end = w.now() + seconds
    await w.until(lambda: w.now() >= end)


def test_a_refused_delivery_is_sent_once_and_all_others_are_delivered(log: io.StringIO) -> None:
    async def scene() -> None:
        w = world()
        w.insert(*["a", "b"] * 100)
        allow = refusing(w, 6)
        await w.start()
        await w.until(lambda: len(w.rows("delivered")) == 199)
        await later(w, 3600)
        assert len(w.calls("post")) == 200
        (opened,) = lines(log, "incident.opened")
        assert (opened["kind"], opened["code"]) == ("refused", "RELAY-140")
        assert "not this row" in opened["detail"]
        assert w.outbox.rows[6].message_id in opened["detail"]
        allow()
        await w.all_settled(within=600)
        assert len(w.calls("post")) == 200
        assert lines(log, "incident.resolved")[-1]["kinds"] == ["refused"]
        await w.stop()

    run(scene())


def test_a_refused_release_holds_its_own_lane_alone() -> None:
    async def scene() -> None:
        fine = constant()
        w = world(
            lambda call, message_id, now: Reply(500) if message_id == bad else fine(call, message_id, now)
        )
        bad, *_ = w.insert("a", "a", "b", "b")
        allow = refusing(w, 0)
        await w.start()
        await w.until(lambda: len(w.rows("delivered")) == 2)
        await later(w, 1800)
        assert [call.message_id for call in w.calls("post")].count(bad) == 1
        allow()
        await w.until(lambda: w.outbox.rows[0].attempts >= 2)
        await w.stop()

    run(scene())


def test_at_128_refused_messages_the_tenant_stops_and_says_so(log: io.StringIO) -> None:
    async def scene() -> None:
        w = world(ordering="none")
        w.insert(*[None] * 300)
        allow = refusing(w, *range(300))
        await w.start()
        await later(w, 3600)
        assert len(w.calls("post")) == MAX_UNSETTLED
        assert any(f"holds up {MAX_UNSETTLED} of" in line["last"] for line in lines(log, "incident.ongoing"))
        allow()
        await w.all_settled()
        assert len(w.calls("post")) == 300
        await w.stop()

    run(scene())


def test_a_stop_tries_refused_settlements_once_more_and_does_not_wait_for_them() -> None:
    async def scene() -> None:
        w = world()
        w.insert("a", "b")
        refusing(w, 0, 1)
        await w.start()
        await w.until(lambda: len(w.calls("post")) == 2)
        await later(w, 100)
        w.outbox.refuses.pop(RowId(1))
        began = w.now()
        assert await w.workers.stop(25.0) == 1
        assert w.now() - began < 5
        assert len(w.rows("delivered")) == 1

    run(scene())


def test_what_is_in_a_replaced_row_is_sent_as_it_is_now(log: io.StringIO) -> None:
    """Posted from the old outbox, settled in the restored one: their rows hold other messages by then."""

    async def scene() -> None:
        w = world(ordering="none")
        w.outbox.lag = 1.0
        w.insert(*[None] * 5)
        await w.start()
        await w.until(lambda: len(w.arrived()) == 5)
        unsettled = [row for row in w.outbox.rows if row.state == "pending"]
        assert unsettled
        for row in unsettled:
            del w.outbox.shelf.rows[row.row]
            w.outbox.insert(Draft(ACME, ORDER, b"<new/>", MessageId(f"new{row.row}")), row=row.row)
        await w.all_settled()
        await w.stop()
        assert {f"new{row.row}" for row in unsettled} <= set(w.arrived())
        assert sum(line["count"] for line in lines(log, "settlements.discarded")) == len(unsettled)
        assert lines(log, "settlements.discarded")[0]["code"] == "RELAY-142"

    run(scene())


# --- groups that fail as a whole ---------------------------------------------------------------------------


def locking(w: World, *places: int, seconds: float = 30.0) -> Callable[[], None]:
    """What settles one of these rows fails as a whole, after so many seconds, until the result is called."""
    settle, locked = w.outbox.settle, {w.outbox.rows[place].row for place in places}

    async def settled(settlements: Sequence[tuple[MessageKey, Settlement]]) -> NotSettled:
        if any(key.row in locked for key, _ in settlements):
            await asyncio.sleep(seconds)
            raise StoreError("the outbox did not answer within 30 s")
        return await settle(settlements)

    w.outbox.settle = settled  # type: ignore[method-assign]
    return locked.clear


@pytest.mark.parametrize("places", [(6,), (0,), (0, 1, 2, 3, 4)])
def test_a_row_that_stays_locked_holds_up_no_other(log: io.StringIO, places: tuple[int, ...]) -> None:
    """An application's transaction holds it for hours: what is settled with it goes on."""

    async def scene() -> None:
        w = world(ordering="none")
        w.insert(*[None] * 200)
        unlock = locking(w, *places)
        await w.start()
        await w.until(lambda: len(w.rows("delivered")) == 200 - len(places), within=1000)
        await later(w, 3600)
        began = w.now()
        w.insert(*[None] * 20)
        await w.until(lambda: len(w.rows("delivered")) == 220 - len(places), within=1000)
        assert w.now() - began < 31 * (len(places) + 1)
        assert len(w.calls("post")) == 220
        assert [line["kind"] for line in lines(log, "incident.opened")] == ["outbox", "refused"]
        unlock()
        await w.all_settled(within=3000)
        assert len(w.calls("post")) == 220
        await w.until(lambda: lines(log, "incident.resolved")[-1]["kinds"] == ["refused"])
        await w.stop()

    run(scene())


def test_after_an_outbox_that_was_away_no_row_counts_as_refused(log: io.StringIO) -> None:
    async def scene() -> None:
        w = world(ordering="none")
        w.insert(*[None] * 300)
        come_back = locking(w, *range(300), seconds=0.01)
        await w.start()
        await later(w, 7200)
        come_back()
        await w.all_settled(within=400)
        assert [line["kind"] for line in lines(log, "incident.opened")] == ["outbox"]
        assert len(lines(log, "incident.resolved")) == 1
        await w.stop()

    run(scene())


def test_a_file_that_was_exchanged_is_one_line_also_after_an_outage(log: io.StringIO) -> None:
    async def scene() -> None:
        w = world(ordering="none")
        w.insert(*[None] * 8)
        come_back = locking(w, *range(8), seconds=0.01)
        await w.start()
        await later(w, 600)
        for row in list(w.outbox.rows):
            del w.outbox.shelf.rows[row.row]
            w.outbox.insert(Draft(ACME, ORDER, b"<new/>", MessageId(f"new{row.row}")), row=row.row)
        come_back()
        await w.all_settled(within=700)
        await w.stop()
        (line,) = lines(log, "settlements.discarded")
        assert line["count"] == 8

    run(scene())


def test_calls_that_succeed_do_not_end_the_incident_of_settlements_that_wait(log: io.StringIO) -> None:
    async def scene() -> None:
        w = world(ordering="none")
        w.insert(None)
        allow = locking(w, 0, seconds=0.01)
        await w.start()
        for _ in range(30):
            await later(w, 1)
            w.incidents.resolved()  # as a heartbeat does that is written
        assert len(lines(log, "incident.opened")) == 1
        assert not lines(log, "incident.resolved")
        allow()
        await w.all_settled(within=400)
        assert len(lines(log, "incident.resolved")) == 1
        await w.stop()

    run(scene())
