"""Other processes beside a running relay: applications, a second relay, and operators with the command line."""

import json
import time
from collections.abc import Callable

from relay.sandbox import Sandbox
from tests.e2e.conftest import ACME, GLOBEX
from tests.support.application import ORDER, OutboxRow, order
from tests.support.process import Station

SLOW = {"RELAY_RETRY__INITIAL_SECONDS": "100", "RELAY_RETRY__MAX_SECONDS": "100"}
"""Long enough that within a test nothing is retried automatically: what happens, an operator caused."""


async def test_two_relays_on_one_outbox_exclude_each_other(sandbox: Sandbox, station: Station) -> None:
    """The second ends at once, naming the first's process and the fix; after the first's end it may start."""
    async with station.relay() as first:
        second = station.start()
        code = await station.ended(second)
        assert code in {1, 2}
        assert f"another relay (process {first.pid})" in second.text
        assert "stop it first" in second.text
        assert "Traceback" not in second.text
        station.application.insert(GLOBEX)
        await station.until_delivered()
        first.kill()
    async with station.relay():
        station.application.insert(GLOBEX)
        await station.until_delivered()


async def test_a_plain_insert_is_picked_up_at_once(sandbox: Sandbox, station: Station) -> None:
    """From commit to arrival at ION on an idle relay, twenty times; the figures are measured by `make bench`."""
    async with station.relay():
        station.application.insert(GLOBEX)
        await station.until_delivered()
        waits = []
        for number in range(20):
            station.application.insert_plain(GLOBEX, ORDER, order(number))
            committed = time.time()
            await sandbox.until(_arrived(sandbox, number + 2), within=10)
            waits.append(max(taken.at for taken in sandbox.messages()) - committed)
    print(f"\npick-up: median {sorted(waits)[10] * 1000:.1f} ms, slowest {max(waits) * 1000:.1f} ms")  # noqa: T201
    assert sorted(waits)[10] < 0.5, "a hint, not the next poll"


def _arrived(sandbox: Sandbox, least: int) -> Callable[[], bool]:
    return lambda: sandbox.record.count() >= least


async def test_pause_and_resume_reach_a_running_relay_at_once(sandbox: Sandbox, station: Station) -> None:
    """Paused: nothing of this tenant goes, others do, the status says so and why. Resumed: all goes."""
    async with station.relay(environment=SLOW):
        station.application.insert_all([OutboxRow(GLOBEX, b"1"), OutboxRow(ACME, b"2")])
        await station.until_delivered()
        assert (await station.command("tenants", "pause", GLOBEX, "--reason", "stock taking")).code == 0
        await station.until(
            lambda: station.application.live_state(GLOBEX) == "paused", "the worker to be paused"
        )
        station.application.insert_all([OutboxRow(GLOBEX, b"3"), OutboxRow(ACME, b"4")])
        await station.until_delivered(ACME)
        seen = await station.status(GLOBEX)
        assert (seen["state"], seen["reason"], seen["pending"]) == ("paused", "stock taking", 1)
        assert (await station.command("tenants", "resume", GLOBEX)).code == 0
        await station.until_delivered(within=10)


async def test_resume_ends_a_halt_and_a_long_pause(sandbox: Sandbox, station: Station) -> None:
    """Whoever has fixed something need not wait for the next try."""
    sandbox.faults(tenant=GLOBEX, call="ping", status=403)
    sandbox.faults(tenant=ACME, call="ping", status=503)
    station.application.insert_all([OutboxRow(GLOBEX, b"1"), OutboxRow(ACME, b"2")])
    async with station.relay(environment=SLOW):
        await station.until_status(GLOBEX, "halted", "403")
        seen = await station.until_status(ACME, "backing-off", "503")
        assert seen["next_try"] is not None
        sandbox.clear_faults()
        for tenant in (GLOBEX, ACME):
            assert (await station.command("tenants", "resume", tenant)).code == 0
        await station.until_delivered(within=10)


async def test_park_drop_and_retry_reach_a_running_relay(sandbox: Sandbox, station: Station) -> None:
    """What a relay has prefetched is read again: the parked and the dropped are not sent, the retried is, in place."""
    slow = sandbox.faults(tenant=GLOBEX, call="post", text="first", late=10)
    ids = station.application.insert_all(
        OutboxRow(GLOBEX, payload) for payload in (b"first", b"parked", b"dropped", b"last")
    )
    patient = {"RELAY_HTTP__TOTAL_SECONDS": "30", "RELAY_HTTP__READ_SECONDS": "30"}
    async with station.relay(environment=patient):
        await station.until(lambda: slow.applied, "the first post in flight, the others prefetched")
        assert (await station.command("messages", "park", ids[1], "--reason", "wrong price")).code == 0
        assert (await station.command("messages", "drop", ids[2])).code == 0
        assert sandbox.record.count() == 1, "the machine is too slow for this test: the first post is over"
        await station.until(
            lambda: station.application.states() == {"delivered": 2, "parked": 1, "dropped": 1},
            "first and last",
        )
        assert [taken.message_id for taken in sandbox.messages()] == [ids[0], ids[3]]
        assert "wrong price" in station.application.row(ids[1])["reason"]
        assert (await station.command("messages", "retry", ids[1])).code == 0
        assert (await station.command("messages", "retry", ids[2])).code == 0
        await station.until_delivered(within=10)
    story = (await station.command("messages", "show", ids[1])).out
    assert "parked" in story
    assert "retried by an operator" in story


async def test_retry_ends_a_message_s_back_off(sandbox: Sandbox, station: Station) -> None:
    """After a counted attempt the message backs off for 100 s; an operator's retry ends that."""
    sandbox.faults(call="post", status=500, count=1)
    message_id = station.application.insert(GLOBEX)
    async with station.relay(environment=SLOW):
        await station.until(lambda: station.application.row(message_id)["attempts"] == 1, "one attempt")
        shown = await station.command("messages", "show", message_id)
        assert "500" in shown.out
        assert (await station.command("messages", "retry", message_id)).code == 0
        await station.until_delivered(within=10)


async def test_enqueue_from_another_process(sandbox: Sandbox, station: Station) -> None:
    """`relay enqueue` prints the ids, and a running relay delivers them at once, in their order."""
    lines = "".join(
        json.dumps({"tenant_id": GLOBEX, "document_name": ORDER, "payload": f"<order n='{n}'/>"}) + "\n"
        for n in range(30)
    )
    async with station.relay():
        done = await station.command("enqueue", "--ndjson", "-", stdin=lines.encode())
        assert done.code == 0, done
        await station.until_delivered()
    assert [taken.message_id for taken in sandbox.messages()] == done.out.split()
    assert sandbox.payload(GLOBEX, done.out.split()[29]) == b"<order n='29'/>"


async def test_status_and_check_tell_the_truth_also_without_a_relay(
    sandbox: Sandbox, station: Station
) -> None:
    """Without a relay the status says so, and a killed one is not reported alive for long. `check` walks every tenant's initialisation."""
    station.application.insert(GLOBEX)
    before = await station.command("status")
    assert "no relay is running" in before.out
    async with station.relay():
        await station.until_delivered()
        assert (await station.command("status", "--alive")).code == 0
        assert (await station.command("status", "--here")).code == 0
    assert (await station.command("status", "--alive")).code == 1
    assert (await station.command("check")).code == 0
    sandbox.tenant(GLOBEX).connection_point = "inactive"
    failed = await station.command("check", "--json")
    assert failed.code == 1
    assert "412" in failed.out
