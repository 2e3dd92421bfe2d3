"""Messages that may not be sent yet: what is before them in their lane goes, what is behind them waits."""

from relay.core.model import DocumentName
from relay.core.replies import Accepted
from tests.simulation.harness import FINE, ORDER, SHIPMENT, World, world
from tests.support.virtual import run

YEARS = 4 * 365 * 86400.0


def insert(w: World, key: str | None = "a", *, wait: float = 0.0, document: DocumentName = ORDER) -> str:
    """A message; with `wait`, one that may not be sent for so long."""
    (message_id,) = w.insert(key, document=document)
    if wait:
        w.send_later({message_id: wait})
    return message_id


def test_what_is_before_it_goes_and_only_what_is_behind_it_waits():
    async def work():
        w = world()
        await w.start()
        warm = insert(w)
        await w.until(lambda: w.state[0] == "idle")
        first, blocked, behind, other = insert(w), insert(w, wait=YEARS), insert(w), insert(w, "b")
        await w.until(lambda: len(w.arrived()) == 3, within=5.0)
        assert set(w.arrived()) == {warm, first, other}
        assert w.rows("pending") == [blocked, behind]
        await w.stop()

    run(work())


def test_its_time_comes_without_an_arrival():
    async def work():
        w = world()
        await w.start()
        before, blocked, behind = insert(w), insert(w, wait=100.0), insert(w)
        await w.until(lambda: w.rows("pending") == [blocked, behind], within=5.0)
        await w.until(lambda: not w.rows("pending"), within=102.0)
        assert w.arrived() == [before, blocked, behind]
        assert w.calls("post")[1].at >= 100.0
        await w.stop()

    run(work())


def test_one_that_is_committed_late_before_it_goes_soon():
    """On PostgreSQL a lower id may be committed after a higher one was read."""

    async def work():
        w = world()
        await w.start()
        late = insert(w, wait=YEARS)
        blocked = insert(w, wait=YEARS)
        row = next(row for row in w.outbox.rows if row.message_id == late)
        row.state = "dropped"  # not there yet
        await w.until(lambda: w.state[0] == "sending")
        row.state, row.not_before = "pending", None
        other = insert(w, "b")  # its arrival is notified, as that of the late one is
        await w.until(lambda: w.rows("pending") == [blocked], within=65.0)
        assert set(w.arrived()) == {late, other}
        await w.stop()

    run(work())


def test_one_before_it_goes_as_soon_as_its_document_is_accepted():
    accepted = {ORDER}

    def answer(call, _, now):
        if call == "accepted_documents":
            return Accepted(frozenset(accepted | ({SHIPMENT} if now > 50.0 else set())))
        return FINE[call]

    async def work():
        w = world(answer)
        await w.start()
        shipment, blocked = insert(w, document=SHIPMENT), insert(w, wait=YEARS)
        await w.until(lambda: w.rows("pending") == [blocked], within=400.0)
        assert w.arrived() == [shipment]
        await w.stop()

    run(work())


def test_with_one_lane_for_the_tenant_what_is_before_it_goes():
    async def work():
        w = world(ordering="tenant")
        await w.start()
        before, blocked, behind = insert(w), insert(w, "b", wait=YEARS), insert(w, "c")
        await w.until(lambda: w.rows("pending") == [blocked, behind], within=5.0)
        assert w.arrived() == [before]
        await w.stop()

    run(work())


def test_without_order_all_others_go():
    async def work():
        w = world(ordering="none")
        await w.start()
        before, blocked, behind = insert(w), insert(w, wait=YEARS), insert(w)
        await w.until(lambda: w.rows("pending") == [blocked], within=5.0)
        assert set(w.arrived()) == {before, behind}
        await w.stop()

    run(work())
