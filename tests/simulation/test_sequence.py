"""The guide's sequences and the protocol's reactions in virtual time: when things happen, and in what order."""

import asyncio
import itertools
from dataclasses import replace
from functools import partial

import pytest
from structlog.testing import capture_logs

from relay.core.model import DocumentName
from relay.core.replies import Accepted, NoReply, Reply, TokenRefused, TokenUnavailable, Versions
from tests.simulation.harness import FINE, ORDER, PARK, SHIPMENT, constant, violations, world
from tests.support.virtual import run


def scene(work):
    """Run a test's coroutine in virtual time."""

    def test():
        run(work())

    test.__name__, test.__doc__ = work.__name__, work.__doc__
    return test


def names(requests):
    return [one.call for one in requests]


def later_than(w, at):
    return w.now() > at


def until(end, **answers):
    """These answers before `end` (virtual seconds), normal operation after."""
    return lambda call, _, now: answers.get(call, FINE[call]) if now < end else FINE[call]


@scene
async def test_prepare_once_then_post_without_pings_between():
    w = world(ordering="tenant")
    await w.start()
    w.insert(None, None, None)
    await w.all_settled()
    await w.stop()
    assert names(w.calls()) == ["ping", "versions", "accepted_documents", "post", "post", "post"]


@scene
async def test_a_tenant_without_messages_costs_nothing():
    w = world()
    await w.start()
    await w.until(lambda: w.now() > 3600)
    await w.stop()
    assert w.requests == []


@scene
async def test_an_idle_tenant_costs_nothing_and_after_an_idle_minute_a_cycle_begins_with_a_ping():
    w = world()
    await w.start()
    w.insert(None)
    await w.all_settled()
    before = len(w.requests)
    await w.until(lambda: w.now() > 7200)
    assert len(w.requests) == before
    w.insert(None)
    await w.all_settled()
    await w.stop()
    assert names(w.calls())[before:] == ["ping", "versions", "post"]


@scene
async def test_within_a_minute_the_next_message_goes_without_a_ping():
    w = world()
    await w.start()
    w.insert(None)
    await w.all_settled()
    before, at = len(w.requests), w.now()
    await w.until(lambda: w.now() > at + 50)
    w.insert(None)
    await w.all_settled()
    await w.stop()
    assert names(w.calls())[before:] == ["post"]


@scene
async def test_an_outage_costs_pings_with_growing_gaps_and_no_post():
    w = world(until(600, ping=NoReply("refused")))
    await w.start()
    w.insert(*["k"] * 50)
    await w.all_settled()
    await w.stop()
    failed = [one.at for one in w.calls("ping") if one.at < 600]
    gaps = [later - earlier for earlier, later in itertools.pairwise(failed)]
    assert len(failed) <= 16
    assert all(later > 1.1 * earlier / 2 for earlier, later in itertools.pairwise(gaps))
    assert max(gaps) > 60
    assert violations(w.requests) == []


@pytest.mark.parametrize(
    "failure",
    [
        Reply(503),
        Reply(500),
        Reply(401),
        Reply(403),
        Reply(404),
        Reply(412),
        NoReply("cut"),
        TokenUnavailable("x"),
    ],
)
def test_pings_fine_and_every_post_fails_is_no_hot_loop_and_parks_nothing(failure):
    async def work():
        w = world(constant(post=failure))
        await w.start()
        w.insert(*"abcdefgh")
        await w.until(lambda: w.now() > 3600)
        await w.stop()
        assert len(w.requests) < 250
        assert len(w.calls("post")) < 60
        assert w.rows("parked") == []
        assert len(w.rows("pending")) == 8
        assert violations(w.requests) == []

    run(work())


@pytest.mark.parametrize("failure", [Reply(401), Reply(403), TokenRefused("no")])
def test_bad_credentials_halt_the_tenant_until_the_slow_probe_or_a_change_on_disk(failure):
    async def work():
        w = world(until(1000, ping=failure))
        await w.start()
        w.insert(None)
        await w.until(lambda: w.now() > 890)
        assert names(w.calls()) == ["ping"]
        assert w.state[0] == "halted"
        await w.all_settled()
        assert w.now() < 2000
        await w.stop()

    run(work())


@scene
async def test_a_halted_tenant_resumes_when_its_credentials_change():
    w = world(until(100, ping=Reply(401)))
    await w.start()
    w.insert(None)
    await w.until(lambda: w.now() > 120)
    w.ion.changed = True
    await w.all_settled(within=5)
    await w.stop()


@scene
async def test_retry_after_lengthens_the_pause_and_is_capped_at_an_hour():
    w = world(
        lambda call, _, now: Reply(503, retry_after=86400.0) if call == "post" and now < 10 else FINE[call]
    )
    await w.start()
    w.insert(None)
    await w.all_settled()
    await w.stop()
    assert 3600 <= w.calls("post")[-1].at < 3700


@scene
async def test_a_412_initialises_at_once_and_then_the_message_waits_alone():
    stubborn: dict[str, str] = {}

    def answer(call, message_id, now):
        return Reply(412) if call == "post" and message_id == stubborn["id"] and now < 300 else FINE[call]

    w = world(answer)
    await w.start()
    stubborn["id"] = w.insert("bad")[0]
    good = w.insert(*(f"good{n}" for n in range(57)))
    await w.until(lambda: set(good) <= set(w.rows("delivered")), within=15)
    assert stubborn["id"] in w.rows("pending")
    await w.all_settled()
    await w.stop()
    assert names(w.calls())[3:8] == ["post", "ping", "versions", "accepted_documents", "post"]
    assert violations(w.requests) == []


@pytest.mark.parametrize("failure", [Reply(403), Reply(503), Reply(500), NoReply("cut")])
def test_one_message_that_always_fails_does_not_starve_the_others(failure):
    async def work():
        stubborn: dict[str, str] = {}
        w = world(lambda call, i, _: failure if call == "post" and i == stubborn["id"] else FINE[call])
        await w.start()
        stubborn["id"] = w.insert("bad")[0]
        good = w.insert(*(f"good{n}" for n in range(57)))
        await w.until(lambda: set(good) <= set(w.rows("delivered")), within=60)
        await w.stop()
        assert violations(w.requests) == []

    run(work())


@scene
async def test_poison_is_parked_after_its_attempts_when_others_pass():
    stubborn: dict[str, str] = {}
    w = world(lambda call, i, _: Reply(500) if call == "post" and i == stubborn["id"] else FINE[call])
    await w.start()
    stubborn["id"] = w.insert("bad")[0]
    w.insert(*"abcd")
    await w.until(lambda: w.rows("parked") == [stubborn["id"]])
    await w.stop()
    assert len([one for one in w.calls("post") if one.message_id == stubborn["id"]]) == 10
    assert [row.attempts for row in w.outbox.rows if row.state == "parked"] == [10]
    assert len(w.rows("delivered")) == 4


@scene
async def test_poison_alone_is_parked_only_after_half_an_hour():
    w = world(constant(post=Reply(500)))
    await w.start()
    w.insert("bad")
    await w.until(lambda: len(w.rows("parked")) == 1)
    await w.stop()
    assert w.now() > 1800
    assert len(w.calls("post")) >= 10


@scene
async def test_a_document_that_is_not_accepted_waits_and_is_sent_when_it_is_added():
    accepted = {"now": frozenset({ORDER})}
    w = world(lambda call, _, __: Accepted(accepted["now"]) if call == "accepted_documents" else FINE[call])
    await w.start()
    shipments = w.insert("s", "s", document=SHIPMENT)
    orders = w.insert("s", "o")
    await w.until(lambda: set(orders) == set(w.rows("delivered")), within=5)
    await w.until(lambda: w.now() > 3600)
    assert len(w.requests) < 60
    assert w.state == ("idle", "waiting to be accepted by ION: Sync.Shipment")
    accepted["now"] = frozenset({ORDER, SHIPMENT})
    await w.all_settled(within=310)
    await w.stop()
    assert w.arrived()[-2:] == shipments
    assert violations(w.requests) == []


@scene
async def test_a_name_that_differs_from_an_accepted_one_is_named_with_it():
    accepted = {"now": frozenset({SHIPMENT})}
    w = world(lambda call, _, __: Accepted(accepted["now"]) if call == "accepted_documents" else FINE[call])
    await w.start()
    wrong = w.insert("s", document=DocumentName("sync.shipment"))
    await w.until(lambda: w.state[0] == "idle")
    assert w.state[1] == (
        "waiting to be accepted by ION: sync.shipment; did you mean Sync.Shipment instead of sync.shipment?"
    )
    accepted["now"] = frozenset({ORDER})
    await w.until(lambda: w.state == ("idle", "waiting to be accepted by ION: sync.shipment"), within=310)
    await w.stop()
    assert w.rows("pending") == wrong


@scene
async def test_a_failing_poll_does_not_stop_what_is_accepted():
    polls = {"n": 0}

    def answer(call, _, __):
        if call == "accepted_documents":
            polls["n"] += 1
            return Accepted(frozenset({ORDER})) if polls["n"] == 1 else Reply(503)
        return FINE[call]

    w = world(answer)
    await w.start()
    w.insert("s", document=SHIPMENT)
    for _ in range(40):
        w.insert("o")
        at = w.now()
        await w.until(lambda: len(w.rows("pending")) == 1, within=2)
        await w.until(partial(later_than, w, at + 10))
    await w.stop()
    assert names(w.calls()).count("ping") == 1


@scene
async def test_rejected_messages_are_parked_and_the_others_continue():
    refused: dict[str, list[str]] = {}
    w = world(lambda call, i, _: Reply(400) if call == "post" and i in refused["ids"] else FINE[call])
    await w.start()
    ids = w.insert(*["k"] * 9)
    refused["ids"] = ids[::3]
    await w.all_settled(within=5)
    await w.stop()
    assert w.rows("parked") == ids[::3]
    assert {row.attempts for row in w.outbox.rows if row.state == "parked"} == {1}
    assert names(w.calls("ping")) == ["ping"]


@scene
async def test_ten_rejected_in_a_row_pause_the_tenant_until_an_operator_resumes_it():
    w = world(constant(post=Reply(400)), ordering="tenant")
    await w.start()
    w.insert(*[None] * 30)
    await w.until(lambda: w.state[0] == "paused")
    assert len(w.rows("parked")) == 10
    posts = len(w.calls("post"))
    await w.until(lambda: w.now() > 7200)
    assert len(w.calls("post")) == posts
    await w.outbox.resume(w.rules.tenant_id, "ann@desk")
    await w.until(lambda: len(w.rows("parked")) == 20, within=5)
    await w.stop()


@scene
async def test_on_rejected_stop_pauses_at_the_first_and_keeps_the_message():
    w = world(constant(post=Reply(400)), policy=replace(PARK, on_rejected="stop"))
    await w.start()
    w.insert(None, None)
    await w.until(lambda: w.state[0] == "paused")
    await w.stop()
    assert len(w.calls("post")) == 1
    assert len(w.rows("pending")) == 2
    assert sorted(row.attempts for row in w.outbox.rows) == [0, 1]
    assert all(row.not_before is None for row in w.outbox.rows), "an operator ends it, not a back-off"


@scene
async def test_park_nothing_turns_every_park_into_a_wait():
    w = world(until(1000, post=Reply(400)), policy=replace(PARK, park_nothing=True))
    await w.start()
    w.insert("a", "b")
    await w.until(lambda: w.now() > 990)
    assert len(w.rows("pending")) == 2
    assert len(w.calls("post")) < 40
    await w.all_settled()
    await w.stop()
    assert len(w.rows("delivered")) == 2


@scene
async def test_versions_without_v3_wait_the_longest_delay():
    w = world(until(200, versions=Versions(("v1", "v2"))))
    await w.start()
    w.insert(None)
    await w.all_settled()
    await w.stop()
    assert [one.at >= 149 for one in w.calls("ping")][1:] == [True] * (len(w.calls("ping")) - 1)


@scene
async def test_after_a_failure_there_is_one_post_in_flight_and_twice_as_many_with_each_success():
    w = world(lambda call, _, now: Reply(503) if call == "post" and now < 1 else FINE[call])
    w.latency = 0.5
    await w.start()
    w.insert(*(f"k{n}" for n in range(40)))
    await w.all_settled()
    await w.stop()
    at_once: dict[float, int] = {}
    for one in w.calls("post", since=1.0):
        at_once[round(one.at, 1)] = at_once.get(round(one.at, 1), 0) + 1
    assert list(at_once.values())[:4] == [1, 2, 8, 8]


@scene
async def test_a_tenant_that_an_operator_pauses_stops_and_continues_when_resumed():
    w = world(ordering="tenant")
    w.latency = 0.1
    await w.start()
    w.insert(*[None] * 100)
    await w.until(lambda: len(w.rows("delivered")) > 10)
    await w.outbox.pause(w.rules.tenant_id, "a night of maintenance")
    await w.until(lambda: w.state == ("paused", "a night of maintenance"), within=2)
    posts = len(w.calls("post"))
    await w.until(lambda: w.now() > 3600)
    assert len(w.calls("post")) == posts
    await w.outbox.resume(w.rules.tenant_id, "ann@desk")
    await w.all_settled(within=30)
    await w.stop()
    assert w.arrived() == sorted(w.arrived(), key=w.rows("delivered").index)


@scene
async def test_an_operator_who_asks_or_resumes_has_a_refused_token_dropped():
    w = world()
    await w.start()
    w.insert(None)
    await w.all_settled(within=5)
    assert w.ion.acted == 0
    await w.outbox.ask(w.rules.tenant_id, "ann@desk")
    await w.until(lambda: w.ion.acted == 1, within=5)
    await w.outbox.resume(w.rules.tenant_id, "ann@desk")
    await w.until(lambda: w.ion.acted == 2, within=5)
    await w.stop()


@pytest.mark.parametrize("status", [503, 403])
def test_a_bulk_action_on_very_many_messages_is_no_storm_of_pings(status):
    """Each of its chunks reaches the worker; ION, which fails, is pinged every two seconds at most."""

    async def scene():
        w = world(constant(ping=Reply(status)))
        await w.start()
        w.insert(None)
        await w.until(lambda: w.state[0] in ("backing-off", "halted"))
        began = w.now()
        while w.now() < began + 60:
            await w.outbox.ask(w.rules.tenant_id, "ann@desk")
            await asyncio.sleep(0.02)
        await w.stop()
        assert 20 <= len(w.calls("ping", since=began)) <= 32

    run(scene())


@scene
async def test_an_operators_request_takes_effect_at_once():
    w = world(constant(ping=Reply(403)))
    await w.start()
    w.insert(None)
    for pings in (1, 2, 3):
        await w.until(lambda: w.state[0] == "halted")
        await asyncio.sleep(100)
        assert len(w.calls("ping")) == pings
        await w.outbox.ask(w.rules.tenant_id, "ann@desk")
        await asyncio.sleep(0.2)
        assert len(w.calls("ping")) == pings + 1
    await w.stop()


@scene
async def test_what_is_too_large_or_has_impossible_parameters_is_parked_and_never_sent():
    w = world(max_message_bytes=3)
    await w.start()
    w.insert("a")
    await w.all_settled()
    await w.stop()
    assert len(w.rows("parked")) == 1
    assert w.calls("post") == []


@scene
async def test_park_nothing_lets_even_what_is_too_large_wait():
    w = world(max_message_bytes=3, policy=replace(PARK, park_nothing=True))
    await w.start()
    w.insert("a")
    await w.until(lambda: w.now() > 3600)
    await w.stop()
    assert len(w.rows("pending")) == 1
    assert w.calls("post") == []


@scene
async def test_an_outage_of_the_outbox_loses_nothing():
    from relay.core.ports import StoreError

    w = world(ordering="none")
    w.latency = 0.1
    await w.start()
    w.insert(*[None] * 300)
    await w.until(lambda: len(w.rows("delivered")) > 20)
    w.outbox.broken = StoreError("the disk is full")
    at = w.now()
    await w.until(lambda: w.now() > at + 120)
    w.outbox.broken = None
    await w.all_settled()
    await w.stop()
    assert len(w.arrived()) == 300
    assert len(w.calls("post")) == 300


def test_names_that_no_message_can_have_are_reported_once_and_the_others_used():
    ignored = {"count": 2}

    async def work():
        w = world(
            lambda call, *_: (
                Accepted(frozenset({ORDER}), ignored=ignored["count"])
                if call == "accepted_documents"
                else FINE[call]
            )
        )
        await w.start()
        (order,) = w.insert("a")
        w.insert("a", document=SHIPMENT)  # waits, so that ION is asked again and again
        await w.until(lambda: len(w.calls("accepted_documents")) > 4)
        asked = len(w.calls("accepted_documents"))
        ignored["count"] = 1
        await w.until(lambda: len(w.calls("accepted_documents")) > asked + 1)
        await w.stop()
        return w, order

    with capture_logs() as lines:
        w, order = run(work())
    assert w.arrived() == [order]
    said = [(line["log_level"], line["count"]) for line in lines if line["event"] == "documents.ignored"]
    assert said == [("warning", 2), ("warning", 1)]


@pytest.mark.parametrize(
    ("call", "status", "hint"),
    [
        ("ping", 400, "no message is the cause: check the ION URL and the tenant id"),
        ("versions", 400, "no message is the cause: check the ION URL, and what the gateway forwards"),
        ("accepted_documents", 400, "no message is the cause: check the logical id"),
        ("post", 400, "correct the document"),
        ("ping", 503, "the document flow is not active"),
        ("accepted_documents", 412, "check that the logical id is its own"),
        ("post", 412, "add the document to it"),
        ("post", 404, "multipartMessage is refused"),
    ],
)
def test_an_incident_says_what_to_do_by_the_call_that_failed(call, status, hint):
    async def work():
        stop = replace(PARK, on_rejected="stop")
        w = world(constant(**{call: Reply(status, form="ims")}), policy=stop)
        await w.start()
        w.insert("a")
        await w.until(lambda: any(line["event"] == "incident.opened" for line in lines))
        await w.stop()

    with capture_logs() as lines:
        run(work())
    (opened,) = (line for line in lines if line["event"] == "incident.opened")
    assert hint in opened["hint"]
