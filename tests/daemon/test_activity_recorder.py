"""Counts by time get into the outbox: minute by minute, over restarts, and without hindering anything."""

import asyncio
import io
import json
from collections.abc import Mapping

import pytest
from typing_extensions import override

from relay.core.activity import EVERYONE, MINUTES, Activity, ActivityKey
from relay.core.model import TenantId
from relay.core.ports import StoreError
from relay.daemon.activity_recorder import ActivityRecorder
from relay.observability import logs
from relay.observability.activity import ActivityLedger
from relay.observability.incidents import Incidents
from tests.support import virtual
from tests.support.memory import MemoryOutbox, Shelf

ACME = TenantId("ACME_PRD")
NOON = 1_800_000_000


class WithoutTable(MemoryOutbox):
    """An outbox without the right on one table."""

    refused = False

    @override
    async def record_activity(self, counts: Mapping[ActivityKey, Activity]) -> None:
        if self.refused:
            raise StoreError("permission denied for table relay_activity")
        await super().record_activity(counts)


@pytest.fixture
def log() -> io.StringIO:
    stream = io.StringIO()
    logs.configure("info", "json", stream)
    return stream


def clock() -> float:
    return NOON + asyncio.get_running_loop().time()


def recorder(store: MemoryOutbox, ledger: ActivityLedger) -> ActivityRecorder:
    loop = asyncio.get_running_loop()
    return ActivityRecorder(
        store, ledger, clock, Incidents(logs.logger(), None, loop.time, 60.0, loop.call_later)
    )


async def delivered(store: MemoryOutbox, tenant: TenantId, minutes: int) -> list[int | None]:
    """By minute from noon on; None: not recorded."""
    starts = [NOON + 60 * minute for minute in range(minutes)]
    found = {one.start: one.activity.delivered for one in await store.activity(MINUTES, starts, [tenant])}
    return [found.get(start) for start in starts]


async def deliver_each_second(ledger: ActivityLedger, seconds: int) -> None:
    for _ in range(seconds):
        await asyncio.sleep(1.0)
        ledger.of(ACME).add_delivery(0.1)


def test_each_delivery_is_in_its_minute_and_a_minute_without_any_is_recorded(log: io.StringIO):
    async def scenario() -> None:
        store, ledger = MemoryOutbox(clock), ActivityLedger("a")
        one = recorder(store, ledger)
        task = asyncio.create_task(one.run())
        await asyncio.sleep(0.5)
        await deliver_each_second(ledger, 90)
        await asyncio.sleep(80.0)
        task.cancel()
        assert await delivered(store, ACME, 4) == [59, 31, None, None]
        assert await delivered(store, EVERYONE, 4) == [59, 31, 0, None]

    virtual.run(scenario())


def test_the_end_of_the_process_writes_what_is_left_and_a_restart_adds_to_it(log: io.StringIO):
    async def scenario() -> None:
        shelf = Shelf(clock)
        for process in ("a", "b"):
            store, ledger = MemoryOutbox(clock, shelf), ActivityLedger(process)
            one = recorder(store, ledger)
            await one.record()
            await deliver_each_second(ledger, 5)
            await one.close(1.0)
            await asyncio.sleep(20.0 if process == "a" else 0.0)
        assert await delivered(MemoryOutbox(clock, shelf), ACME, 1) == [10]

    virtual.run(scenario())


def test_what_the_outbox_did_not_take_is_written_once_it_does(log: io.StringIO):
    async def scenario() -> None:
        store, ledger = MemoryOutbox(clock), ActivityLedger("a")
        one = recorder(store, ledger)
        await one.record()
        store.broken = StoreError("away")
        await deliver_each_second(ledger, 5)
        await one.record()
        await asyncio.sleep(100.0)
        store.broken = None
        await one.record()
        assert await delivered(store, ACME, 2) == [5, None]
        assert log.getvalue() == ""  # an outbox that is away is reported by others

    virtual.run(scenario())


def test_a_table_that_takes_nothing_is_one_incident_and_hinders_nothing(log: io.StringIO):
    async def scenario() -> None:
        store, ledger = WithoutTable(clock), ActivityLedger("a")
        one = recorder(store, ledger)
        store.refused = True
        for _ in range(3):
            await one.record()
        store.refused = False
        await one.record()
        await one.close(1.0)

    virtual.run(scenario())
    opened, resolved = [json.loads(line) for line in log.getvalue().splitlines()]
    assert (opened["event"], opened["code"]) == ("incident.opened", "RELAY-132")
    assert "permission denied for table relay_activity" in opened["detail"]
    assert resolved["event"] == "incident.resolved"


def test_an_outbox_that_hangs_does_not_hold_up_the_end(log: io.StringIO):
    async def scenario() -> None:
        class Hanging(MemoryOutbox):
            async def record_activity(self, counts: Mapping[ActivityKey, Activity]) -> None:
                await asyncio.sleep(3600.0)

        began = asyncio.get_running_loop().time()
        await recorder(Hanging(clock), ActivityLedger("a")).close(1.0)
        assert asyncio.get_running_loop().time() - began == 1.0

    virtual.run(scenario())
