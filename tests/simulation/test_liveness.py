"""A tenant that waits for hours is alive: its worker's steps are never overdue, in virtual time."""

import asyncio

from relay.core.admin import BulkAction, Filter
from relay.core.model import DocumentName
from relay.core.replies import Accepted, NoReply, Reply
from tests.simulation.harness import ACME, SHIPMENT, World, constant, world
from tests.support.virtual import run

MINUTE = 60.0


async def stays_alive(w: World, minutes: int) -> None:
    """Looked at every minute, as a probe does."""
    for _ in range(minutes):
        await asyncio.sleep(MINUTE)
        w.liveness.tick()
        assert w.liveness.overdue() == []


def test_while_documents_wait_to_be_accepted() -> None:
    """ION is asked again after growing pauses, which are longer than a call may take."""

    async def scene() -> None:
        w = world(constant(accepted_documents=Accepted(frozenset({DocumentName("Sync.Other")}))))
        w.insert("a", document=SHIPMENT)
        await w.start()
        await stays_alive(w, 120)
        assert len(w.calls("accepted_documents")) > 10
        await w.outbox.decide(BulkAction("drop", Filter(ACME), "ann"))
        await stays_alive(w, 120)
        await w.stop()

    run(scene())


def test_while_ion_is_away_or_refuses() -> None:
    async def scene() -> None:
        for answer in (NoReply("cut"), Reply(503), Reply(401), Reply(403), Reply(404)):
            for failing in ("ping", "post", "accepted_documents"):
                w = world(constant(**{failing: answer}))
                w.insert("a", "b")
                await w.start()
                await stays_alive(w, 60)
                await w.stop()

    run(scene())
