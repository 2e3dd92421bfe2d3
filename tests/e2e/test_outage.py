"""An outage of twelve seconds, and shorter ones of every kind: growing gaps, a quiet log, one closing line."""

import time
from itertools import pairwise

import pytest

from relay.core.retry import Schedule
from relay.sandbox import Sandbox
from tests.conftest import LONG
from tests.e2e.conftest import ACME, GLOBEX
from tests.support.application import OutboxRow, order
from tests.support.process import RelayProcess, Station

SECONDS = 12.0
CALM = {
    "RELAY_RETRY__INITIAL_SECONDS": "0.3",
    "RELAY_RETRY__MAX_SECONDS": "3",
    "RELAY_LOG__SUMMARY_SECONDS": "5",
}
SCHEDULE = Schedule(0.3, 3)


def _error_lines(relay: RelayProcess) -> list[dict[str, object]]:
    return [line for line in relay.events if line["level"] in {"error", "warning", "critical"}]


async def test_an_outage_of_12_seconds(sandbox: Sandbox, station: Station) -> None:
    """Pings with growing gaps, nothing posted, at most 8 error lines, exactly one closing line, all delivered."""
    async with station.relay(environment=CALM) as relay:
        station.application.insert(GLOBEX)
        await station.until_delivered(GLOBEX)
        sandbox.faults(tenant=GLOBEX, status=503, lasts=SECONDS)
        began = time.monotonic()
        station.application.insert_all(OutboxRow(GLOBEX, order(n), key=f"k{n % 20}") for n in range(200))
        await station.event(relay, "incident.resolved", within=60)
        await station.until_delivered(GLOBEX)

    failed = [r for r in sandbox.requests(GLOBEX) if r.status == 503]
    pings = [r for r in failed if r.call == "ping"]
    gaps = [after.began - before.began for before, after in pairwise(pings)]
    least = [SCHEDULE.delay(n + 2, 0.0) for n in range(len(gaps))]  # the first failure was a post
    lines = _error_lines(relay)
    resolved = relay.said("incident.resolved", tenant=GLOBEX)
    print(  # noqa: T201
        f"\noutage of {SECONDS:g} s: gaps between pings {[round(gap, 2) for gap in gaps]} s,"
        f" {len(lines)} error lines, closing line: {resolved[0]['seconds']} s, {resolved[0]['count']} errors"
    )
    assert len(gaps) >= 3
    assert all(gap >= promised - 0.01 for gap, promised in zip(gaps, least, strict=True)), gaps
    assert sum(gaps[-2:]) > sum(gaps[:2]), "they grow"
    assert len(lines) <= 8
    assert len(resolved) == 1
    assert resolved[0]["count"] == len(failed)
    assert resolved[0]["seconds"] >= SECONDS - (failed[0].began - began) - 0.1
    ended = failed[0].began + SECONDS
    during = [r for r in sandbox.requests(GLOBEX, "post") if failed[0].began <= r.began < ended]
    assert {r.status for r in during} <= {503}
    assert len(during) <= 8, "those that were in flight when it began"
    assert sandbox.record.sent_twice() == []


async def test_a_server_that_is_gone_for_a_while(sandbox: Sandbox, station: Station) -> None:
    """Connections refused: both tenants wait, each says it once, both deliver after it came back."""
    quick = {"RELAY_RETRY__INITIAL_SECONDS": "0.2", "RELAY_RETRY__MAX_SECONDS": "1"}
    async with station.relay(environment=quick) as relay:
        station.application.insert_all([OutboxRow(ACME, b"1"), OutboxRow(GLOBEX, b"2")])
        await station.until_delivered()
        await sandbox.stop()
        station.application.insert_all(
            OutboxRow((ACME, GLOBEX)[n % 2], order(n), key=f"k{n % 7}") for n in range(100)
        )
        for tenant in (ACME, GLOBEX):
            await station.event(relay, "incident.opened", tenant=tenant, kind="silent")
        seen = await station.until_status(GLOBEX, "backing-off")
        assert "Connection refused" in seen["reason"]
        await sandbox.start()
        await station.until_delivered()
        for tenant in (ACME, GLOBEX):
            await station.event(relay, "incident.resolved", tenant=tenant)
    assert len(_error_lines(relay)) <= 8
    assert sandbox.record.sent_twice() == []
    assert sandbox.record.count() == 102


@pytest.mark.parametrize("way", ["cut", "slow"])
async def test_an_outage_while_many_posts_are_in_flight(sandbox: Sandbox, station: Station, way: str) -> None:
    """The network fails while many posts are in flight: those may arrive twice, all others once, none is lost."""
    faults = {"cut": "after"} if way == "cut" else {"late": 3600.0}
    sandbox.faults(
        tenant=GLOBEX, call="post", late=0.003
    )  # an answer takes longer than the notice of a closed connection
    station.environment |= {"RELAY_HTTP__TOTAL_SECONDS": "1", "RELAY_HTTP__READ_SECONDS": "1"}
    ids = station.application.insert_all(OutboxRow(GLOBEX, order(n), key=f"k{n % 32}") for n in range(600))
    async with station.relay() as relay:
        await station.until(lambda: sandbox.record.count() >= 100, "many posts")
        rule = sandbox.faults(tenant=GLOBEX, call="post", lasts=3.0 if LONG else 1.5, **faults)
        await station.until_delivered(GLOBEX)
        assert len(relay.said("incident.resolved", tenant=GLOBEX)) >= 1
    twice = sandbox.record.sent_twice()
    assert {taken.message_id for taken in sandbox.messages()} == set(ids)
    assert 1 <= len(twice) <= rule.applied
    number = {taken.message_id: taken.number for taken in sandbox.messages()}
    assert all(
        [number[i] for i in ids[key::32]] == sorted(number[i] for i in ids[key::32]) for key in range(32)
    )
