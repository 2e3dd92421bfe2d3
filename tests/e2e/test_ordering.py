"""Order and pace with the real process: by key, by tenant, none; rate limits; a long backlog behind a held lane."""

import asyncio
import time
from itertools import accumulate, pairwise

import pytest

from relay.sandbox import Request, Sandbox
from tests.e2e.conftest import ACME, GLOBEX
from tests.support.application import SHIPMENT, OutboxRow, order
from tests.support.process import Station


def _most_together(posts: list[Request]) -> int:
    """The largest number of posts in flight at a time."""
    ends = [(p.began, 1) for p in posts] + [(p.began + (p.seconds or 0.0), -1) for p in posts]
    steps = [step for _, step in sorted(ends)]
    return max(accumulate(steps))


def _setting(name: str) -> str:
    return f"RELAY_TENANTS__{GLOBEX}__{name}"


@pytest.mark.parametrize(("ordering", "together"), [("key", 4), ("tenant", 1), ("none", 8)])
async def test_how_many_go_together(sandbox: Sandbox, station: Station, ordering: str, together: int) -> None:
    """Four keys: four at a time in order; one for the tenant; with none, as many as may be in flight."""
    sandbox.faults(call="post", late=0.03)
    ids = station.application.insert_all(OutboxRow(GLOBEX, order(n), key=f"k{n % 4}") for n in range(60))
    async with station.relay(environment={_setting("ORDERING"): ordering}):
        await station.until_delivered()
    posts = sandbox.requests(GLOBEX, "post")
    arrived = [taken.message_id for taken in sandbox.messages()]
    assert _most_together(posts) == together
    assert sorted(arrived) == sorted(ids)
    if ordering == "tenant":
        assert arrived == ids
    if ordering == "key":
        assert all([i for i in arrived if i in set(ids[key::4])] == ids[key::4] for key in range(4))


async def test_slow_start_after_an_incident(sandbox: Sandbox, station: Station) -> None:
    """One post, then two, then four: a server that just came back is not hit by the whole width at once."""
    refused = sandbox.faults(call="post", status=503, skip=40, count=1)
    sandbox.faults(call="post", late=0.05)
    station.application.insert_all(OutboxRow(GLOBEX, order(n), key=f"k{n % 16}") for n in range(120))
    async with station.relay():
        await station.until_delivered()
    assert refused.applied == 1
    for ping in sandbox.requests(GLOBEX, "ping"):
        posts = [request for request in sandbox.requests(GLOBEX, "post") if request.began > ping.began]
        assert posts[1].began >= posts[0].began + 0.05
        assert _most_together(posts) >= 4, "and then it grows"


async def test_a_rate_limit_is_kept(sandbox: Sandbox, station: Station) -> None:
    """Twenty requests a second, pings and posts together, however long the backlog."""
    station.application.insert_all(OutboxRow(GLOBEX, order(n), key=f"k{n}") for n in range(50))
    async with station.relay(environment={_setting("RATE_LIMIT"): "20"}):
        await station.until_delivered()
    began = [request.began for request in sandbox.requests(GLOBEX)]
    windows = [sum(start <= at < start + 1.0 for at in began) for start in began]
    assert max(windows) <= 2 * 20, "at most two bursts meet"
    assert began[-1] - began[0] >= (len(began) - 2 * 20) / 20


async def test_a_long_backlog_of_what_may_not_go_hides_nothing(sandbox: Sandbox, station: Station) -> None:
    """3,000 rows of a document that is not accepted, 1,000 of a key that waits: one behind them goes at once."""
    sandbox.tenant(GLOBEX).withdraw(SHIPMENT)
    sandbox.faults(call="post", status=500, text="upset")
    parcels = [OutboxRow(GLOBEX, b"unlisted", SHIPMENT, f"k{n % 50}") for n in range(3000)]
    parcels += [OutboxRow(GLOBEX, b"upset", key="held")] + [
        OutboxRow(GLOBEX, b"behind", key="held") for _ in range(1000)
    ]
    station.application.insert_all(parcels)
    slow = {"RELAY_RETRY__INITIAL_SECONDS": "0.5", "RELAY_RETRY__MAX_SECONDS": "30"}
    async with station.relay(environment=slow):
        await station.until(lambda: sandbox.requests(GLOBEX, "post"), "the upsetting one to be tried")
        (free,) = station.application.insert_all([OutboxRow(GLOBEX, b"free", key="free")])
        await station.until(
            lambda: station.application.row(free)["state"] == "delivered", "the one behind", 10
        )
        assert station.application.states() == {"pending": 4001, "delivered": 1}


async def test_several_applications_insert_while_it_runs(sandbox: Sandbox, station: Station) -> None:
    """Four writers with transactions of their own, a thousand rows: each writer's order is kept, none is missed."""
    counts = range(25)

    def write(writer: int) -> list[str]:
        found = []
        for batch in counts:
            parcels = [
                OutboxRow((ACME, GLOBEX)[writer % 2], order(n), key=f"w{writer}")
                for n in range(10 * batch, 10 * batch + 10)
            ]
            found += station.application.insert_all(parcels)
        return found

    async with station.relay():
        by_writer = await asyncio.gather(*(asyncio.to_thread(write, writer) for writer in range(4)))
        await station.until(lambda: station.application.states() == {"delivered": 1000}, "all 1,000")
    number = {taken.message_id: taken.number for taken in sandbox.messages()}
    assert all(number[before] < number[after] for ids in by_writer for before, after in pairwise(ids))
    assert sandbox.record.sent_twice() == []


async def test_connections_that_ion_closes_while_idle_are_no_incident(
    station: Station, sandbox: Sandbox
) -> None:
    """ION closes idle connections: the next message uses a new one, nothing is logged and no attempt is counted."""
    async with station.relay() as relay:
        for number in range(3):
            station.application.insert_all(OutboxRow(GLOBEX, order(n), key=f"k{n}") for n in range(8))
            await station.until_delivered()
            await sandbox.stop()
            await sandbox.start()
            assert len(sandbox.requests(GLOBEX, "ping")) == 1, f"round {number}"
        assert relay.said("incident.opened") == []


async def test_tokens_are_renewed_before_they_are_over(sandbox: Sandbox, station: Station) -> None:
    """With a life of two seconds and messages all the while, ION never sees an old one."""
    sandbox.tenant(ACME).token_seconds = 2.0
    async with station.relay() as relay:
        began, number = time.monotonic(), 0
        while time.monotonic() - began < 4.5:
            station.application.insert(ACME, order(number))
            number += 1
            await station.until_delivered(ACME)
            await asyncio.sleep(0.1)
        assert relay.said("incident.opened") == []
    assert 401 not in {request.status for request in sandbox.requests(ACME)}
    assert 2 <= sandbox.tokens.issued[ACME] <= 8
