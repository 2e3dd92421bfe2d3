"""`kill -9` of the relay and of the application, again and again in one drain, on each store.

What the application committed arrives, and what it did not commit does not; in order; few messages twice.
The long form (RELAY_TEST_LONG=1) is 200 kills of the relay and 90 of the application; `-s` prints the figures.
"""

import asyncio
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest

from relay.sandbox import Sandbox
from tests.conftest import LONG
from tests.e2e.conftest import GLOBEX
from tests.support import enqueuing
from tests.support.postgres import Cluster, connected
from tests.support.process import Station

ROOT = Path(__file__).parents[2]
RELAY_KILLS, APPLICATION_KILLS = (200, 90) if LONG else (5, 3)
MESSAGES = 30_000 if LONG else 1500
MOST_TWICE = 128
"""A tenant's messages that may go out again after one crash: in flight and unsettled together."""
_IS_GONE = "SELECT count(*) = 0 FROM pg_stat_activity WHERE application_name = $1"
SEED = int(os.environ.get("KILL_SEED", "11"))


@dataclass(slots=True)
class Application:
    """The process that enqueues, started anew behind what it committed whenever it was killed."""

    url: str
    notes: Path
    process: subprocess.Popen[bytes] | None = None
    kills: int = 0

    @property
    def committed(self) -> int:
        """The number of the first message that is not known to be committed."""
        text = self.notes.read_text() if self.notes.exists() else ""
        return int(text.splitlines()[-1]) if text else 1

    async def has_committed(self, point: int) -> bool:
        """Whether it is behind this message."""
        return self.committed > point

    def start(self, first: int) -> None:
        arguments = (self.url, GLOBEX, str(first), str(MESSAGES), str(self.notes))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.enqueuing", *arguments], cwd=ROOT
        )

    def kill(self) -> None:
        """In the middle of whatever it does."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.kills += 1


@dataclass(slots=True)
class Crashes:
    """When relays were killed, in the epoch's seconds."""

    at: list[float] = field(default_factory=list[float])


@pytest.fixture(params=["sqlite", "postgres"])
async def url(request: pytest.FixtureRequest, station: Station) -> AsyncIterator[str]:
    """Where the application enqueues; the station's relays use the same outbox."""
    if request.param == "sqlite":
        await station.command("outbox", "upgrade")
        yield str(station.application.path)
        return
    cluster: Cluster = request.getfixturevalue("postgres")
    async with cluster.outbox() as outbox:
        station.environment |= {"RELAY_OUTBOX__URL": outbox, "RELAY_LEASE_SECONDS": "3"}
        yield outbox


async def rows(url: str) -> list[tuple[str, str, str | None]]:
    """Message ids, states and keys, in the order of the rows."""
    statement = "SELECT message_id, state, ordering_key FROM relay_outbox ORDER BY id"
    if not url.startswith("postgres"):
        with closing(sqlite3.connect(url, timeout=30)) as connection:
            return list(connection.execute(statement))
    async with connected(url) as connection:
        return [(row[0], row[1], row[2]) for row in await connection.fetch(statement)]


async def test_kills_of_relay_and_application_lose_nothing_and_keep_the_order(
    sandbox: Sandbox, station: Station, url: str, tmp_path: Path
) -> None:
    chance = random.Random(SEED)
    sandbox.faults(call="post", late=0.002)  # so that a kill meets posts that are taken and not yet answered
    application = Application(url, tmp_path / "committed")
    crashes = Crashes()
    ended = asyncio.Event()
    async with asyncio.TaskGroup() as both:
        both.create_task(enqueue(application, url, chance, ended))
        both.create_task(deliver(station, sandbox, url, chance, crashes, ended))

    found = await rows(url)
    ids = [message_id for message_id, _, _ in found]
    assert ids == [f"m{n}" for n in range(1, MESSAGES + 1)], "a commit was lost, or half of one kept"
    assert {state for _, state, _ in found} == {"delivered"}
    arrived = [taken.message_id for taken in sandbox.messages()]
    assert sorted(arrived) == sorted(ids), "marked delivered and never received, or the other way round"
    for lane in {key for _, _, key in found}:
        assert [i for i in arrived if enqueuing.key_of(int(i[1:])) == lane] == [
            i for i, _, key in found if key == lane
        ]
    again = [one.at for taken in sandbox.messages() for one in taken.redeliveries or ()]
    starts, ends = crashes.at, [*crashes.at[1:], float("inf")]
    twice = [sum(start <= at < end for at in again) for start, end in zip(starts, ends, strict=True)]
    print(  # noqa: T201
        f"\n{url[:8]}: {MESSAGES:,} messages, {len(crashes.at)} kills of the relay, {application.kills} of the"
        f" application (seed {SEED}): 0 lost, order kept, {sum(twice)} sent twice, at most {max(twice)} a kill"
    )
    assert max(twice) <= MOST_TWICE
    assert application.kills == APPLICATION_KILLS


async def enqueue(application: Application, url: str, chance: random.Random, ended: asyncio.Event) -> None:
    """Enqueue all messages; the application is killed in between."""
    points = sorted(chance.sample(range(MESSAGES // 20, MESSAGES - MESSAGES // 20), APPLICATION_KILLS))
    for point in points:
        application.start(await following(url))
        await until(partial(application.has_committed, point))
        await asyncio.sleep(chance.uniform(0, 0.02))
        application.kill()
    application.start(await following(url))
    assert application.process is not None
    assert await asyncio.to_thread(application.process.wait) == 0
    ended.set()


async def arrivals(sandbox: Sandbox, chance: random.Random) -> None:
    """Until some more arrived; some seconds at most, as the application may be dead."""
    least = sandbox.record.count() + chance.randint(1, 2 * MESSAGES // RELAY_KILLS // 3)
    deadline = time.monotonic() + chance.uniform(2.0, 8.0)
    await until(lambda: _now(sandbox.record.count() >= least or time.monotonic() >= deadline))


async def until(fact: Callable[[], Awaitable[bool]]) -> None:
    """Look often, so that a kill comes soon after."""
    async with asyncio.timeout(120):
        while not await fact():  # noqa: ASYNC110  # what changes is another process
            await asyncio.sleep(0.005)


async def _now(fact: bool) -> bool:
    return fact


async def is_delivered(url: str) -> bool:
    """All that is in the outbox."""
    return {state for _, state, _ in await rows(url)} == {"delivered"}


async def following(url: str) -> int:
    """The number behind what is in the outbox: a commit may have succeeded though its note was not written."""
    if url.startswith("postgres"):
        async with connected(url) as connection:  # the server may still be committing
            await until(lambda: connection.fetchval(_IS_GONE, enqueuing.NAME))
    return len(await rows(url)) + 1


async def deliver(
    station: Station,
    sandbox: Sandbox,
    url: str,
    chance: random.Random,
    crashes: Crashes,
    ended: asyncio.Event,
) -> None:
    """Relay after relay, killed after some arrivals or some time; the last one delivers the rest."""
    for _ in range(RELAY_KILLS):
        async with station.relay() as relay:
            await arrivals(sandbox, chance)
            await asyncio.sleep(chance.uniform(0, 0.03))
            relay.kill()
            crashes.at.append(time.time())
    async with station.relay():
        await ended.wait()
        await station.until(lambda: sandbox.record.count() == MESSAGES, "all messages to arrive", 120)
        await until(lambda: is_delivered(url))
