"""`relay run --until-empty`: ends once nothing can become due without an operator, and reports the result."""

from relay.sandbox import Sandbox
from tests.e2e.conftest import ACME, GLOBEX
from tests.support.application import SHIPMENT, OutboxRow, order
from tests.support.process import RelayProcess, Station


async def _run(
    station: Station, *more: str, environment: dict[str, str] | None = None
) -> tuple[int, RelayProcess]:
    async with station.relay("--until-empty", *more, environment=environment) as relay:
        return await station.ended(relay, within=30), relay


async def test_an_empty_outbox_ends_at_once(sandbox: Sandbox, station: Station) -> None:
    """0, and ION was not asked anything."""
    code, relay = await _run(station)
    assert (code, sandbox.requests()) == (0, [])
    assert relay.events[-1]["event"] == "relay.ended"


async def test_everything_delivered_is_0(sandbox: Sandbox, station: Station) -> None:
    """Both tenants, 300 messages, some of them after a temporary fault."""
    sandbox.faults(call="post", status=503, skip=50, count=3)
    parcels = [OutboxRow((ACME, GLOBEX)[n % 2], order(n), key=f"k{n % 9}") for n in range(300)]
    station.application.insert_all(parcels)
    code, relay = await _run(station)
    assert (code, station.application.states()) == (0, {"delivered": 300})
    assert sandbox.record.count() == 300
    assert sum(line["count"] for line in relay.said("messages.delivered")) == 300


async def test_an_outage_is_waited_out(sandbox: Sandbox, station: Station) -> None:
    """It is no reason to end: 0 once all is delivered."""
    sandbox.faults(call="ping", status=503, count=4)
    station.application.insert(GLOBEX)
    code, _ = await _run(station)
    assert (code, station.application.states()) == (0, {"delivered": 1})
    assert len(sandbox.requests(GLOBEX, "ping")) == 5


async def test_within_gives_up(sandbox: Sandbox, station: Station) -> None:
    """1, with the reason; posts in flight have completed, the rest waits."""
    sandbox.faults(tenant=GLOBEX, call="ping", status=503)
    station.application.insert_all([OutboxRow(GLOBEX, b"1"), OutboxRow(ACME, b"2")])
    code, relay = await _run(station, "--within", "5")
    assert code == 1
    assert "not everything was delivered" in relay.said("relay.gave_up")[0]["reason"]
    assert station.application.states(ACME) == {"delivered": 1}
    assert station.application.states(GLOBEX) == {"pending": 1}


async def test_what_needs_an_operator_is_1_with_a_report(sandbox: Sandbox, station: Station) -> None:
    """Parked, halted, not accepted, not configured: each reported with its tenant and a hint; the rest is delivered."""
    sandbox.faults(tenant=GLOBEX, call="post", status=400, text="odd")
    sandbox.tenant(GLOBEX).withdraw(SHIPMENT)
    sandbox.faults(tenant=ACME, call="ping", status=403)
    station.application.insert_all(
        [
            OutboxRow(GLOBEX, b"odd", key="1"),
            OutboxRow(GLOBEX, b"fine", key="2"),
            OutboxRow(GLOBEX, b"unlisted", SHIPMENT),
            OutboxRow(ACME, b"halted"),
            OutboxRow("NOBODY_1", b"nobody's"),
        ]
    )
    code, relay = await _run(station)
    assert code == 1
    stuck = {line["tenant"]: line for line in relay.said("tenant.stuck")}
    assert set(stuck) == {ACME, GLOBEX, "NOBODY_1"}
    assert "403" in stuck[ACME]["reason"]
    assert SHIPMENT in stuck[GLOBEX]["reason"]
    assert "configured" in stuck["NOBODY_1"]["reason"]
    (parked,) = relay.said("messages.parked", tenant=GLOBEX, count=1)
    assert "relay messages list" in parked["hint"]
    assert station.application.states(GLOBEX) == {"delivered": 1, "parked": 1, "pending": 1}


async def test_only_parked_is_1_too(sandbox: Sandbox, station: Station) -> None:
    """Nothing is left to do, and yet not everything was delivered. The next run has nothing to report: 0."""
    sandbox.faults(tenant=GLOBEX, call="post", status=400, count=1)
    station.application.insert(GLOBEX)
    assert (await _run(station))[0] == 1
    assert (await _run(station))[0] == 0


async def test_a_paused_tenant_is_1(sandbox: Sandbox, station: Station) -> None:
    """An operator paused it: its messages are reported, not sent."""
    station.application.insert_all([OutboxRow(GLOBEX, b"1"), OutboxRow(ACME, b"2")])
    assert (await station.command("tenants", "pause", GLOBEX, "--reason", "month end")).code == 0
    code, relay = await _run(station)
    assert code == 1
    assert [(line["tenant"], "month end" in line["reason"]) for line in relay.said("tenant.stuck")] == [
        (GLOBEX, True)
    ]
    assert station.application.states() == {"delivered": 1, "pending": 1}


async def test_the_run_waits_for_a_message_in_its_own_back_off(sandbox: Sandbox, station: Station) -> None:
    """A message with a counted attempt has a back-off of its own: the run waits for it."""
    sandbox.faults(call="post", status=500, text="shy", count=2)
    station.application.insert_all(
        [OutboxRow(GLOBEX, b"shy", key="s"), *(OutboxRow(GLOBEX, order(n)) for n in range(20))]
    )
    code, _ = await _run(station)
    assert (code, station.application.states()) == (0, {"delivered": 21})


async def test_what_the_outbox_refuses_to_store_is_1_with_a_report(
    sandbox: Sandbox, station: Station
) -> None:
    """A trigger of the application raises for one row of 200: it is sent once, the others are delivered."""
    station.application.insert_all([OutboxRow(ACME, order(n), key=f"k{n % 9}") for n in range(200)])
    with station.application.connected() as connection:
        connection.execute(
            "CREATE TRIGGER app BEFORE UPDATE ON relay_outbox WHEN OLD.id = 77 "
            "BEGIN SELECT RAISE(ABORT, 'row 77 is ours'); END"
        )
    code, relay = await _run(station)
    assert (code, station.application.states()) == (1, {"delivered": 199, "pending": 1})
    assert sandbox.record.count() == 200
    (stuck,) = relay.said("tenant.stuck")
    assert (stuck["tenant"], "refuses" in stuck["reason"]) == (ACME, True)
    opened = [line for line in relay.said("incident.opened") if line["kind"] == "refused"]
    assert "row 77 is ours" in opened[0]["detail"]
