"""`kill -9` at random points of one drain: all enqueued messages arrive, in order, and few of them twice.

The long form (RELAY_TEST_LONG=1) is ten kills in one drain of 5,000; `-s` prints the figures.
"""

import asyncio
import hashlib
import os
import random
import time
from dataclasses import dataclass, field, replace

import pytest

from relay.sandbox import Sandbox, TakenMessage
from tests.conftest import LONG
from tests.e2e.conftest import ACME, GLOBEX
from tests.support.application import SHIPMENT, OutboxRow, noise, order
from tests.support.process import Station

MOST_TWICE = 128
"""A tenant's messages that may go out again after one crash: in flight and unsettled together."""

KEYS = 40
SEED = int(os.environ.get("KILL_SEED", "7"))


@dataclass(slots=True)
class Crashes:
    """When relays were killed: the epoch's seconds, and how many messages had arrived by then."""

    at: list[float] = field(default_factory=list[float])
    arrived: list[int] = field(default_factory=list[int])


@pytest.mark.parametrize(("messages", "kills"), [(5000, 10)] if LONG else [(1200, 4)])
async def test_kill_9_loses_nothing_keeps_order_and_repeats_little(
    sandbox: Sandbox, station: Station, messages: int, kills: int
) -> None:
    """0 lost, order kept per key, at most 128 a kill sent twice, each with the same id and content."""
    chance = random.Random(SEED)
    station.environment[f"RELAY_TENANTS__{GLOBEX}__MAX_IN_FLIGHT"] = "16"
    sandbox.faults(call="post", late=0.004)  # so that a kill meets posts that are taken and not yet answered
    parcels = [_parcel(number, chance) for number in range(messages)]
    ids = station.application.insert_all(parcels)

    began = time.monotonic()
    crashes = await _drain(sandbox, station, chance, messages, kills)
    seconds = time.monotonic() - began

    repeats = _repeats(sandbox.messages(), crashes)
    _print(messages, kills, seconds, crashes, repeats, sandbox)
    assert {taken.message_id for taken in sandbox.messages()} == set(ids), "lost, or never enqueued"
    assert station.application.states() == {"delivered": messages}
    assert _out_of_order(parcels, ids, sandbox) == []
    assert max(repeats) <= MOST_TWICE
    assert not [taken for taken in sandbox.messages() if taken.changed]
    assert all(taken.digest == _digest(parcel) for parcel, taken in _pairs(parcels, ids, sandbox))
    assert station.application.ask("PRAGMA integrity_check") == [{"integrity_check": "ok"}]


async def test_kill_9_amid_faults(sandbox: Sandbox, station: Station) -> None:
    """Crashes on top of refusals, cuts and lost answers, for two tenants: 0 lost, order kept, nothing changed."""
    messages, kills, chance = (3000, 8, random.Random(SEED)) if LONG else (600, 3, random.Random(SEED))
    station.environment |= {"RELAY_RETRY__INITIAL_SECONDS": "0.1", "RELAY_RETRY__MAX_SECONDS": "0.3"}
    sandbox.add_faults(
        [
            {"call": "post", "late": 0.004},
            {"call": "post", "status": 503, "share": 0.01, "seed": 1},
            {"call": "post", "cut": "after", "share": 0.01, "seed": 2},
            {"call": "post", "status": 412, "share": 0.005, "seed": 3},
            {"call": "ping", "status": 503, "share": 0.2, "seed": 4},
        ]
    )
    parcels = [replace(_parcel(n, chance), tenant=(ACME, GLOBEX)[n % 2]) for n in range(messages)]
    ids = station.application.insert_all(parcels)
    await _drain(sandbox, station, chance, messages, kills)
    assert {taken.message_id for taken in sandbox.messages()} == set(ids)
    assert station.application.states() == {"delivered": messages}
    assert _out_of_order(parcels, ids, sandbox) == []
    assert not [taken for taken in sandbox.messages() if taken.changed]


async def _drain(
    sandbox: Sandbox, station: Station, chance: random.Random, messages: int, kills: int
) -> Crashes:
    """Start a relay, kill it, start the next; the last one goes on to the end."""
    crashes = Crashes()
    points = sorted(chance.sample(range(messages - messages // 10), kills))
    for number, point in enumerate([*points, messages]):
        async with station.relay() as relay:
            if number > 0:
                await station.event(relay, "relay.recovered")
            if number == kills:
                await station.until_delivered(within=120)
                return crashes
            await _arrivals(sandbox, station, point)
            await asyncio.sleep(chance.uniform(0, 0.03))
            relay.kill()
            crashes.at.append(time.time())
            crashes.arrived.append(sandbox.record.count())
    return crashes


async def _arrivals(sandbox: Sandbox, station: Station, least: int) -> None:
    await station.until(lambda: sandbox.record.count() >= least, f"{least} arrivals", 60)


def _parcel(number: int, chance: random.Random) -> OutboxRow:
    payload = noise(number, 12_000) if number % 50 == 0 else order(number, chance.randrange(400, 3000))
    key = None if number % 10 == 0 else f"key-{chance.randrange(KEYS)}"
    return OutboxRow(GLOBEX, payload, key=key) if number % 3 else OutboxRow(GLOBEX, payload, SHIPMENT, key)


def _pairs(
    parcels: list[OutboxRow], ids: list[str], sandbox: Sandbox
) -> list[tuple[OutboxRow, TakenMessage]]:
    found = [
        (parcel, sandbox.record.message(parcel.tenant, i)) for parcel, i in zip(parcels, ids, strict=True)
    ]
    return [(parcel, taken) for parcel, taken in found if taken is not None]


def _digest(parcel: OutboxRow) -> bytes:

    assert isinstance(parcel.payload, bytes)
    return hashlib.sha256(parcel.payload).digest()


def _out_of_order(parcels: list[OutboxRow], ids: list[str], sandbox: Sandbox) -> list[str]:
    """The messages that arrived before one that was enqueued earlier under the same key."""
    last: dict[tuple[str, str | None], int] = {}
    found = []
    for parcel, taken in _pairs(parcels, ids, sandbox):
        lane = (parcel.tenant, parcel.key)
        if taken.number < last.get(lane, 0):
            found.append(f"{taken.message_id} of {lane}")
        last[lane] = taken.number
    return found


def _repeats(messages: list[TakenMessage], crashes: Crashes) -> list[int]:
    """How many messages came again after each kill; the first figure: before any."""
    times = [again.at for taken in messages for again in taken.redeliveries or ()]
    ends = [*crashes.at, float("inf")]
    starts = [0.0, *crashes.at]
    return [sum(start <= at < end for at in times) for start, end in zip(starts, ends, strict=True)]


def _print(
    messages: int, kills: int, seconds: float, crashes: Crashes, repeats: list[int], sandbox: Sandbox
) -> None:
    lost = messages - sandbox.record.count(GLOBEX)
    print(  # noqa: T201
        f"\nkill -9: {kills} kills in one drain of {messages:,} in {seconds:.1f} s (seed {SEED}), at"
        f" {crashes.arrived} arrivals: {lost} lost, {sum(repeats)} sent twice, by kill {repeats[1:]}"
        f" (at most {MOST_TWICE} allowed), {len(sandbox.violations)} violations"
    )
