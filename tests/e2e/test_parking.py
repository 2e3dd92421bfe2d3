"""Messages that cannot be delivered, in the midst of those that can, and what operators do about them."""

import pytest

from relay.sandbox import Sandbox
from tests.e2e.conftest import ACME, GLOBEX
from tests.support.application import SHIPMENT, OutboxRow, order
from tests.support.process import Station

FEW = {
    "RELAY_RETRY__MAX_ATTEMPTS": "3",
    "RELAY_RETRY__INITIAL_SECONDS": "0.1",
    "RELAY_RETRY__MAX_SECONDS": "0.2",
}


async def test_a_poison_message_is_parked_and_the_others_pass(sandbox: Sandbox, station: Station) -> None:
    """One that always meets 500: the lanes beside it go on, it is parked after its attempts, its lane goes on."""
    sandbox.faults(call="post", status=500, text="poison")
    parcels = [OutboxRow(GLOBEX, order(n), key=f"k{n % 8}") for n in range(80)]
    parcels[9] = OutboxRow(GLOBEX, b"poison", key="k1")
    ids = station.application.insert_all(parcels)
    async with station.relay(environment=FEW) as relay:
        await station.until(
            lambda: station.application.states() == {"delivered": 79, "parked": 1}, "79 delivered, one parked"
        )
        assert [line["message_id"] for line in relay.said("message.parked")] == [ids[9]]
    row = station.application.row(ids[9])
    assert "3 attempts, the last: HTTP 500" in row["reason"]
    assert row["attempts"] == 3
    tries = [r for r in sandbox.requests(GLOBEX, "post") if r.message_id == ids[9]]
    assert len(tries) == 3
    lane = [taken.message_id for taken in sandbox.messages() if taken.message_id in ids[1::8]]
    assert lane == [i for i in ids[1::8] if i != ids[9]], "its lane kept its order"
    assert sandbox.record.sent_twice() == []


async def test_a_poison_message_alone_is_not_parked_in_a_hurry(sandbox: Sandbox, station: Station) -> None:
    """If no other message is delivered, ION itself may be the cause: it waits, however many attempts."""
    sandbox.faults(call="post", status=500)
    station.application.insert(GLOBEX)
    async with station.relay(environment=FEW):
        await sandbox.until(lambda: len(sandbox.requests(GLOBEX, "post")) >= 8, within=15)
        assert station.application.states() == {"pending": 1}
        sandbox.clear_faults()
        await station.until_delivered()


async def test_a_message_that_is_always_refused_starves_nobody(sandbox: Sandbox, station: Station) -> None:
    """403 or 412 to one message for ever: no attempts are counted, it is never parked, all others pass."""
    sandbox.faults(tenant=GLOBEX, call="post", status=412, text="never")
    sandbox.faults(tenant=ACME, call="post", status=403, text="never")
    for tenant in (GLOBEX, ACME):
        parcels = [
            OutboxRow(tenant, order(n), SHIPMENT if n % 2 else "Sync.SalesOrder", f"k{n % 5}")
            for n in range(60)
        ]
        station.application.insert_all([OutboxRow(tenant, b"never", key="k-never"), *parcels])
    async with station.relay():
        for tenant in (GLOBEX, ACME):
            await station.until(
                lambda tenant=tenant: station.application.delivered(tenant) == 60,  # type: ignore[misc]
                f"the 60 others of {tenant}",
            )
        assert station.application.states() == {"delivered": 120, "pending": 2}
        sandbox.clear_faults()
        await station.until_delivered()


async def test_ten_refused_in_a_row_pause_the_tenant(sandbox: Sandbox, station: Station) -> None:
    """Something larger is wrong: it is paused in the outbox until an operator resumes it; others go on."""
    sandbox.faults(tenant=GLOBEX, call="post", status=400)
    station.environment[f"RELAY_TENANTS__{GLOBEX}__MAX_IN_FLIGHT"] = "4"
    station.application.insert_all(OutboxRow(GLOBEX, order(n), key=f"k{n}") for n in range(50))
    async with station.relay() as relay:
        await station.event(relay, "tenant.paused", tenant=GLOBEX)
        parked = station.application.states(GLOBEX).get("parked", 0)
        station.application.insert(ACME)
        await station.until_delivered(ACME)
    async with station.relay():
        seen = await station.until_status(GLOBEX, "paused", "in a row were refused")
        station.application.insert(ACME)
        await station.until_delivered(ACME)
        assert 10 <= seen["parked"] <= 13, "ten, and those that were in flight"
        assert parked <= seen["parked"]
        assert len(sandbox.requests(GLOBEX, "post")) == seen["parked"], (
            "no post of a paused tenant after the restart"
        )
        sandbox.clear_faults()
        assert (await station.command("tenants", "resume", GLOBEX)).code == 0
        await station.until(lambda: "pending" not in station.application.states(GLOBEX), "the rest delivered")
        retried = await station.command("messages", "retry", "--tenant", GLOBEX, "--state", "parked", "--yes")
        assert retried.code == 0, retried
        await station.until_delivered(GLOBEX)
    assert sandbox.record.sent_twice() == []


async def test_policy_stop_lasts_over_a_restart_until_resumed(sandbox: Sandbox, station: Station) -> None:
    """400 with `on_rejected = stop`: nothing is parked, nothing more goes, until an operator resumes it."""
    station.environment[f"RELAY_TENANTS__{GLOBEX}__ON_REJECTED"] = "stop"
    sandbox.faults(tenant=GLOBEX, call="post", status=400, code=453, error="no such currency", count=1)
    first, second = station.application.insert_all(OutboxRow(GLOBEX, order(n)) for n in range(2))
    async with station.relay() as relay:
        paused = await station.event(relay, "tenant.paused", tenant=GLOBEX)
        assert "no such currency" in paused["reason"]
        assert f"relay tenants resume {GLOBEX}" in paused["hint"]
    async with station.relay():
        seen = await station.until_status(GLOBEX, "paused", "no such currency")
        assert (seen["pending"], seen["parked"]) == (2, 0)
        station.application.insert(ACME)
        await station.until_delivered(ACME)
        assert len(sandbox.requests(GLOBEX, "post")) == 1
        assert (await station.command("tenants", "resume", GLOBEX)).code == 0
        await station.until_delivered(GLOBEX)
    assert [taken.message_id for taken in sandbox.messages(GLOBEX)] == [first, second]


async def test_park_nothing_turns_every_park_into_a_wait(sandbox: Sandbox, station: Station) -> None:
    """For the night of a risky change: a refused message waits in its own back-off, and is delivered when it is accepted."""
    sandbox.faults(call="post", status=400, text="odd", count=3)
    odd, fine = station.application.insert_all(
        [OutboxRow(GLOBEX, b"odd", key="a"), OutboxRow(GLOBEX, b"fine", key="b")]
    )
    async with station.relay(environment={"RELAY_PARK_NOTHING": "true"}) as relay:
        await station.until_delivered(GLOBEX)
        assert not relay.said("message.parked")
    assert [r.message_id for r in sandbox.requests(GLOBEX, "post") if r.status == 400] == [odd] * 3
    assert sandbox.record.message(GLOBEX, fine) is not None


@pytest.mark.parametrize("auth", [ACME, GLOBEX])
async def test_a_mixed_day_loses_and_doubles_nothing_without_a_cause(
    sandbox: Sandbox, station: Station, auth: str
) -> None:
    """Every kind of temporary fault at once: all arrive, in order, twice only if they were taken and the answer was lost."""
    sandbox.add_faults(
        [
            {
                "tenant": auth,
                "call": "post",
                "late": 0.003,
            },  # an answer takes longer than the notice of a closed connection
            {"tenant": auth, "call": "post", "status": 503, "share": 0.03, "seed": 1},
            {"tenant": auth, "call": "post", "cut": "after", "share": 0.01, "seed": 2},
            {"tenant": auth, "call": "post", "cut": "before", "share": 0.01, "seed": 3},
            {"tenant": auth, "call": "post", "status": 504, "taken": True, "share": 0.01, "seed": 4},
            {"tenant": auth, "call": "ping", "status": 503, "share": 0.3, "seed": 5},
            {"tenant": auth, "call": "post", "status": 401, "share": 0.01, "seed": 6},
        ]
    )
    quick = {"RELAY_RETRY__INITIAL_SECONDS": "0.05", "RELAY_RETRY__MAX_SECONDS": "0.2"}
    ids = station.application.insert_all(OutboxRow(auth, order(n), key=f"k{n % 10}") for n in range(400))
    async with station.relay(environment=quick):
        await station.until_delivered(auth, within=40)
    assert {taken.message_id for taken in sandbox.messages(auth)} == set(ids)
    number = {taken.message_id: taken.number for taken in sandbox.messages(auth)}
    for key in range(10):
        lane = [number[message_id] for message_id in ids[key::10]]
        assert lane == sorted(lane)
    assert all(
        again.previous_outcome.startswith("cut after") or again.previous_outcome == "answered 504"
        for taken in sandbox.record.sent_twice()
        for again in taken.redeliveries or ()
    )
