"""The processes of the scale demo: relays on one outbox, and the application that fills it."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Mapping
from datetime import datetime
from pathlib import Path

import asyncpg

from relay.core.model import TenantId
from relay.core.rendezvous import owner_of
from relay.demo.application import Enqueued
from tests.support.process import QUICK, RelayProcess
from tools.scale_verdict import Move, list_owned

DOCUMENT = "Sync.SalesOrder"
ROOT = str(Path(__file__).resolve().parents[1])
_POLL_SECONDS = 0.05
_STOP_SECONDS = 10.0
_BATCH, _INTERVAL = 30, 0.1
"""Messages in a transaction, and seconds between transactions."""

_INSERT = """
INSERT INTO relay_outbox (tenant_id, document_name, payload, ordering_key)
SELECT tenant, $1, convert_to('<order/>', 'UTF8'), key
FROM unnest($2::text[], $3::text[]) AS new (tenant, key)
RETURNING id, tenant_id, ordering_key, message_id
"""


class ScaleError(Exception):
    """The demo cannot continue; the text says why."""


class Application:
    """Remembers what it enqueued, so that the verdict does not depend on the outbox."""

    def __init__(self, database: "asyncpg.Connection[asyncpg.Record]", tenants: list[str]) -> None:
        self._database, self._tenants = database, tenants
        self.enqueued: list[Enqueued] = []
        self.stopping = asyncio.Event()

    async def enqueue_steadily(self) -> None:
        """A batch in each transaction, tenants and two keys in turn, until `stopping` is set."""
        clock = asyncio.get_running_loop().time
        next_at, given = clock(), 0
        while not self.stopping.is_set():
            turns = [divmod(given + place, len(self._tenants)) for place in range(_BATCH)]
            given += _BATCH
            await self._enqueue([(self._tenants[who], f"K{lap % 2}") for lap, who in turns])
            next_at += _INTERVAL
            await asyncio.sleep(max(next_at - clock(), 0))

    async def _enqueue(self, places: list[tuple[str, str]]) -> None:
        tenants, keys = [tenant for tenant, _ in places], [key for _, key in places]
        rows = await self._database.fetch(_INSERT, DOCUMENT, tenants, keys, timeout=30)
        at = time.time()
        self.enqueued += [
            Enqueued(row["id"], row["tenant_id"], row["message_id"], DOCUMENT, row["ordering_key"], at)
            for row in rows
        ]

    async def count_unsettled(self) -> int:
        """The number of rows that are not delivered."""
        return int(
            await self._database.fetchval(
                "SELECT count(*) FROM relay_outbox WHERE state <> 'delivered'", timeout=30
            )
        )


class Replica:
    """A replica by name; its relay process may be replaced by a new one."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name, self._folder = name, folder
        self.lives: list[RelayProcess] = []
        self._signals: list[tuple[float, signal.Signals]] = []
        """When each was stopped or killed, and how."""

    @property
    def relay(self) -> RelayProcess:
        """The newest process."""
        return self.lives[-1]

    @property
    def own_name(self) -> str:
        """The name that the newest process reports; ownership follows from it."""
        name: str = self.relay.said("relay.started")[0]["relay"]
        return name

    @property
    def is_wanted(self) -> bool:
        """Whether it was neither stopped nor killed."""
        return len(self.lives) > len(self._signals)

    def start(self, settings: Mapping[str, str]) -> None:
        """Start a relay, without settings from elsewhere, and in a session that Ctrl-C does not reach."""
        own = {name: value for name, value in os.environ.items() if not name.startswith("RELAY_")}
        own["PYTHONPATH"] = os.pathsep.join([ROOT, *filter(None, [os.environ.get("PYTHONPATH")])])
        log, out = (self._folder / f"{self.name}-{len(self.lives) + 1}.{end}" for end in ("log", "out"))
        with log.open("wb") as err_file, out.open("wb") as out_file:
            process = subprocess.Popen(
                [sys.executable, "-m", "relay", "run"],
                cwd=self._folder,
                env={**own, **QUICK, **settings},
                stdin=subprocess.DEVNULL,
                stdout=out_file,
                stderr=err_file,
                start_new_session=True,
            )
        self.lives.append(RelayProcess(process, log, out))

    def send(self, number: signal.Signals) -> float:
        """Send a signal; returns when. After SIGTERM and SIGKILL the process is expected to end."""
        at = time.time()
        self.relay.send(number)
        if number in {signal.SIGTERM, signal.SIGKILL}:
            self._signals.append((at, number))
        return at

    def moves(self) -> list[Move]:
        """Changes of ownership by its logs. A killed replica owns its tenants until others take them."""
        stops = (at for at, number in self._signals if number is signal.SIGTERM)
        found = [Move(at, self.name, None, begins=False) for at in stops]
        for line in (line for life in self.lives for line in life.events):
            event = line.get("event")
            if event in {"tenant.taken", "tenant.released", "tenant.lost"}:
                at = datetime.fromisoformat(line["timestamp"]).timestamp()
                found.append(Move(at, self.name, line["tenant"], begins=event == "tenant.taken"))
        return found


class Fleet:
    """All replicas. `end` ends their processes."""

    def __init__(self, folder: Path, settings: Mapping[str, str]) -> None:
        self._folder, self._settings = folder, settings
        self.replicas: dict[str, Replica] = {}

    async def start(self, *names: str) -> None:
        """Start a relay for each name, and wait until they run."""
        for name in names:
            self.replicas.setdefault(name, Replica(name, self._folder)).start(self._settings)
        await self.until(
            lambda: all(self.replicas[name].relay.said("relay.started") for name in names),
            "the relays' start",
        )

    def moves(self) -> list[Move]:
        """Changes of ownership of all replicas."""
        return [move for replica in self.replicas.values() for move in replica.moves()]

    def owned(self, name: str) -> frozenset[str]:
        """The tenants that the replica owns."""
        return list_owned(name, self.moves())

    async def until_shared(self, tenants: Collection[str]) -> None:
        """Wait until every tenant is owned, and each relay owns most of the tenants assigned to it.

        Most, not all: a relay keeps what it took before the assigned relay had started. How many are assigned
        to each depends on its random name (rendezvous hashing): equal shares cannot be expected.
        """

        def is_shared() -> bool:
            moves = self.moves()
            expected = {
                one.own_name: list_owned(one.name, moves) for one in self.replicas.values() if one.is_wanted
            }
            assigned = {tenant: owner_of(TenantId(tenant), expected) for tenant in tenants}
            return sum(map(len, expected.values())) == len(tenants) and all(
                sum(assigned[tenant] == name for tenant in owned) * 2 >= list(assigned.values()).count(name)
                for name, owned in expected.items()
            )

        await self.until(is_shared, "each replica to have its share")

    async def until(self, fact: Callable[[], bool], what: str, within: float = 20) -> None:
        """Wait for a fact. Raises ScaleError after `within` seconds, or where a relay exits unexpectedly."""
        deadline = time.monotonic() + within
        while not fact():
            for replica in self.replicas.values():
                if replica.is_wanted and not replica.relay.running:
                    raise ScaleError(f"replica {replica.name} exited unexpectedly; see {replica.relay.log}")
            if time.monotonic() > deadline:
                raise ScaleError(f"waited {within:g} s without success for {what}")
            await asyncio.sleep(_POLL_SECONDS)

    async def stop_all(self) -> list[str]:
        """Stop all that still run; returns what is wrong with their exit codes."""
        return await self.stop(*(name for name, replica in self.replicas.items() if replica.is_wanted))

    async def stop(self, *names: str) -> list[str]:
        """Send SIGTERM to each at once; returns what is wrong with their exit codes."""
        for name in names:
            self.replicas[name].send(signal.SIGTERM)
        await self.until(lambda: not any(self.replicas[name].relay.running for name in names), "their exit")
        codes = {name: self.replicas[name].relay.process.returncode for name in names}
        return [f"replica {name} ended with exit code {code}" for name, code in codes.items() if code]

    def end(self) -> None:
        """End all processes that still run, frozen ones too: SIGTERM, then SIGKILL."""
        running = [replica.relay.process for replica in self.replicas.values() if replica.relay.running]
        for process in running:
            process.send_signal(signal.SIGCONT)
            process.terminate()
        deadline = time.monotonic() + _STOP_SECONDS
        for process in running:
            try:
                process.wait(max(deadline - time.monotonic(), 0))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
