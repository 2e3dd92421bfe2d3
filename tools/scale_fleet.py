"""This file is the processes of the scale demo: relays on one outbox, and the application that fills it."""

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
from tests.support.process import QUICK, RelayProcess
from tools.scale_record import Move, Sent, held_by

DOCUMENT = "Sync.SalesOrder"
ROOT = str(Path(__file__).resolve().parents[1])
_LOOK_SECONDS = 0.05
_END_SECONDS = 10.0
_BATCH, _EVERY = 30, 0.1
"""Messages a transaction, and seconds from one to the next."""

_INSERT = """
INSERT INTO relay_outbox (tenant_id, document_name, payload, ordering_key)
SELECT tenant, $1, convert_to('<order/>', 'UTF8'), key
FROM unnest($2::text[], $3::text[]) AS new (tenant, key)
RETURNING id, tenant_id, ordering_key, message_id
"""


class ScaleError(Exception):
    """The demo cannot go on; the text says why."""


class Application:
    """Remembers what it handed over: the outbox is not asked what it should have delivered."""

    def __init__(self, database: "asyncpg.Connection[asyncpg.Record]", tenants: list[str]) -> None:
        self._database, self._tenants = database, tenants
        self.handed: list[Sent] = []
        self.enough = asyncio.Event()

    async def hand_over_steadily(self) -> None:
        """Some messages a transaction, each tenant in its turn, two keys in turn; until it is enough."""
        clock = asyncio.get_running_loop().time
        next_at, given = clock(), 0
        while not self.enough.is_set():
            turns = [divmod(given + place, len(self._tenants)) for place in range(_BATCH)]
            given += _BATCH
            await self._hand_over([(self._tenants[who], f"K{lap % 2}") for lap, who in turns])
            next_at += _EVERY
            await asyncio.sleep(max(next_at - clock(), 0))

    async def _hand_over(self, places: list[tuple[str, str]]) -> None:
        tenants, keys = [tenant for tenant, _ in places], [key for _, key in places]
        rows = await self._database.fetch(_INSERT, DOCUMENT, tenants, keys, timeout=30)
        at = time.time()
        self.handed += [
            Sent(row["id"], row["tenant_id"], row["ordering_key"], row["message_id"], at) for row in rows
        ]

    async def unsettled(self) -> int:
        """How many rows are not delivered, as the outbox says."""
        return int(
            await self._database.fetchval(
                "SELECT count(*) FROM relay_outbox WHERE state <> 'delivered'", timeout=30
            )
        )


class Replica:
    """A place for a relay, by name; the relay in it may be replaced by a new one."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name, self._folder = name, folder
        self.lives: list[RelayProcess] = []
        self._signals: list[tuple[float, signal.Signals]] = []
        """When each was told to stop, or killed."""

    @property
    def relay(self) -> RelayProcess:
        """The newest."""
        return self.lives[-1]

    @property
    def own_name(self) -> str:
        """What the newest calls itself: who carries what follows from it."""
        name: str = self.relay.said("relay.started")[0]["relay"]
        return name

    @property
    def is_wanted(self) -> bool:
        """Whether nobody stopped or killed it."""
        return len(self.lives) > len(self._signals)

    def start(self, settings: Mapping[str, str]) -> None:
        """In a session of its own, so that Ctrl-C reaches the demo alone; without settings from elsewhere."""
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
        """Send it a signal; when that was. After SIGTERM and SIGKILL it is expected to end."""
        at = time.time()
        self.relay.send(number)
        if number in {signal.SIGTERM, signal.SIGKILL}:
            self._signals.append((at, number))
        return at

    def moves(self) -> list[Move]:
        """What it took and gave away, by its logs; a killed one holds its tenants until others take them."""
        stops = (at for at, number in self._signals if number is signal.SIGTERM)
        found = [Move(at, self.name, None, begins=False) for at in stops]
        for line in (line for life in self.lives for line in life.events):
            event = line.get("event")
            if event in {"tenant.taken", "tenant.handed_over", "tenant.lost"}:
                at = datetime.fromisoformat(line["timestamp"]).timestamp()
                found.append(Move(at, self.name, line["tenant"], begins=event == "tenant.taken"))
        return found


class Fleet:
    """All replicas. `end` ends them, by their own ids."""

    def __init__(self, folder: Path, settings: Mapping[str, str]) -> None:
        self._folder, self._settings = folder, settings
        self.replicas: dict[str, Replica] = {}

    async def start(self, *names: str) -> None:
        """Start a relay in each of these places, and wait until they run."""
        for name in names:
            self.replicas.setdefault(name, Replica(name, self._folder)).start(self._settings)
        await self.until(
            lambda: all(self.replicas[name].relay.said("relay.started") for name in names),
            "the relays' start",
        )

    def moves(self) -> list[Move]:
        """Of all of them."""
        return [move for replica in self.replicas.values() for move in replica.moves()]

    def held(self, name: str) -> frozenset[str]:
        """The tenants it carries."""
        return held_by(name, self.moves())

    async def until_shared(self, tenants: Collection[str]) -> None:
        """Until every tenant is carried, and each relay that runs has most of what falls to it by its name.

        Most, not all: a relay keeps what it adopted while the tenant's own relay had not come yet. How many
        fall to each is a matter of names, and so of chance: a demand for even shares would fail now and then.
        """

        def is_shared() -> bool:
            moves = self.moves()
            wanted = {
                one.own_name: held_by(one.name, moves) for one in self.replicas.values() if one.is_wanted
            }
            due = {tenant: owner_of(TenantId(tenant), wanted) for tenant in tenants}
            return sum(map(len, wanted.values())) == len(tenants) and all(
                sum(due[tenant] == name for tenant in held) * 2 >= list(due.values()).count(name)
                for name, held in wanted.items()
            )

        await self.until(is_shared, "each replica to have its share")

    async def until(self, fact: Callable[[], bool], what: str, within: float = 20) -> None:
        """Wait for a fact; ScaleError where it does not come, or a replica dies that nobody killed."""
        deadline = time.monotonic() + within
        while not fact():
            for replica in self.replicas.values():
                if replica.is_wanted and not replica.relay.running:
                    raise ScaleError(f"replica {replica.name} ended by itself; see {replica.relay.log}")
            if time.monotonic() > deadline:
                raise ScaleError(f"waited {within:g} s in vain for {what}")
            await asyncio.sleep(_LOOK_SECONDS)

    async def stop_all(self) -> list[str]:
        """Those that nobody stopped or killed yet; what is wrong with their ends."""
        return await self.stop(*(name for name, replica in self.replicas.items() if replica.is_wanted))

    async def stop(self, *names: str) -> list[str]:
        """SIGTERM to each at once; what is wrong with their ends."""
        for name in names:
            self.replicas[name].send(signal.SIGTERM)
        await self.until(lambda: not any(self.replicas[name].relay.running for name in names), "their end")
        codes = {name: self.replicas[name].relay.process.returncode for name in names}
        return [f"replica {name} ended with exit code {code}" for name, code in codes.items() if code]

    def end(self) -> None:
        """All that still run, frozen ones too; kindly, then not."""
        running = [replica.relay.process for replica in self.replicas.values() if replica.relay.running]
        for process in running:
            process.send_signal(signal.SIGCONT)
            process.terminate()
        deadline = time.monotonic() + _END_SECONDS
        for process in running:
            try:
                process.wait(max(deadline - time.monotonic(), 0))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
