"""What the relay does once a minute, in virtual time: delete what is old enough, and let payloads go."""

import asyncio
import io
import json
from dataclasses import replace

import pytest

from relay.config.settings import Settings
from relay.core.admin import Filter
from relay.core.model import Delivered, DocumentName, Draft, MessageId, TenantId
from relay.daemon.clock_watch import ClockWatch
from relay.daemon.maintenance import Maintenance, MaintenanceRules
from relay.daemon.wiring import maintenance_rules_of
from relay.observability import logs
from relay.observability.liveness import Liveness
from relay.observability.logs import logger
from tests.contract.stores import drop
from tests.support.memory import MemoryOutbox
from tests.support.virtual import run

ACME, ORDER = TenantId("ACME_PRD"), DocumentName("Sync.SalesOrder")
EPOCH, DAY = 1_700_000_000.0, 86400.0
DEFAULTS = maintenance_rules_of(Settings())


async def cared_for(care: MaintenanceRules, seconds: float) -> MemoryOutbox:
    """An outbox with more than a batch of delivered messages and a dropped one, so much later."""
    loop, stopping = asyncio.get_running_loop(), asyncio.Event()
    outbox = MemoryOutbox(lambda: EPOCH + loop.time())
    await outbox.add([Draft(ACME, ORDER, b"x", MessageId(f"m{i}")) for i in range(1_203)])
    dropped = Filter(ids=(MessageId("m1202"),))
    await drop(outbox, dropped, "not wanted")
    found = await outbox.due(ACME, {ORDER}, frozenset(), frozenset(), 2_000, 1_000_000)
    await outbox.settle([(message.key, Delivered()) for message in found])
    watch = ClockWatch(outbox, logger(), loop.time, lambda: None, Liveness())
    task = asyncio.create_task(Maintenance(outbox, logger(), care, watch.is_steady).run(stopping))
    await asyncio.sleep(seconds)
    stopping.set()
    await task
    return outbox


@pytest.mark.parametrize(
    ("kept", "seconds", "gone"),
    [(None, 6 * DAY, 0), (0.0, 800, 1_202), (2 * DAY, DAY, 0), (2 * DAY, 2 * DAY + 200, 1_202)],
)
def test_payloads_of_delivered_messages_go_when_it_is_time(
    kept: float | None, seconds: float, gone: int
) -> None:
    """Those of dropped ones stay, and so do the rows."""

    async def scene() -> None:
        outbox = await cared_for(replace(DEFAULTS, payload_kept=kept), seconds)
        assert sum(row.payload_size is not None for row in outbox.rows) == gone
        assert (len(outbox.rows), outbox.rows[-1].payload) == (1_203, b"x")

    run(scene())


@pytest.mark.parametrize(("seconds", "left"), [(6 * DAY, 1_203), (7 * DAY + 200, 0)])
def test_settled_messages_go_when_it_is_time(seconds: float, left: int) -> None:
    async def scene() -> None:
        outbox = await cared_for(DEFAULTS, seconds)
        assert len(outbox.rows) == left

    run(scene())


@pytest.mark.parametrize(("seconds", "left"), [(29 * DAY, 1), (30 * DAY + 200, 0)])
def test_the_audit_goes_when_it_is_time(seconds: float, left: int) -> None:
    async def scene() -> None:
        outbox = await cared_for(replace(DEFAULTS, audit_kept=30 * DAY), seconds)
        assert len(await outbox.audit(10)) == left

    run(scene())


def test_rows_that_may_not_be_deleted_are_reported_once_an_hour_and_the_others_go() -> None:
    out = io.StringIO()
    logs.configure("info", "json", out)

    async def scene() -> None:
        loop, stopping = asyncio.get_running_loop(), asyncio.Event()
        outbox = MemoryOutbox(lambda: EPOCH + loop.time())
        await outbox.add([Draft(ACME, ORDER, b"x", MessageId(f"m{i}")) for i in range(10)])
        found = await outbox.due(ACME, {ORDER}, frozenset(), frozenset(), 100, 1_000_000)
        await outbox.settle([(message.key, Delivered()) for message in found])
        outbox.refuses = {found[3].row: "an invoice refers to it"}
        watch = ClockWatch(outbox, logger(), loop.time, lambda: None, Liveness())
        rules = replace(DEFAULTS, delivered_kept=60.0)
        task = asyncio.create_task(Maintenance(outbox, logger(), rules, watch.is_steady).run(stopping))
        await asyncio.sleep(3 * 3600 + 300)
        stopping.set()
        await task
        assert [row.message_id for row in outbox.rows] == ["m3"]

    run(scene())
    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    hindered = [line for line in lines if line["event"] == "retention.hindered"]
    assert len(hindered) == 3, "from eleven minutes on: before, the clock is not known to be steady"
    assert (hindered[0]["count"], hindered[0]["reason"]) == (1, "an invoice refers to it")
    assert hindered[0]["code"] == "RELAY-140"
