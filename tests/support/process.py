"""A relay as a process of its own: started in a directory, followed by its log, signalled by its pid.

Tests wait for facts. A wait that fails names the fact and shows the relay's log and the outbox' counts.
"""

import asyncio
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
import zipfile
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from relay.outbox import upgrade
from tests.support.application import Application

T = TypeVar("T")

COMMAND = (sys.executable, "-m", "relay")
_ROOT = Path(__file__).parents[2]
WITHIN = 20.0
"""Seconds after which a fact that did not come is a failure; no measure of speed."""

_LOOK_SECONDS = 0.01
_SHOWN_LINES = 40

QUICK = {
    "RELAY_RETRY__INITIAL_SECONDS": "0.1",
    "RELAY_RETRY__MAX_SECONDS": "0.8",
    "RELAY_HTTP__CONNECT_SECONDS": "2",
    "RELAY_HTTP__READ_SECONDS": "5",
    "RELAY_HTTP__TOTAL_SECONDS": "5",
    "RELAY_LOG__FORMAT": "json",
    "RELAY_WEB__LISTEN": "off",
}
"""Settings under which hours become seconds."""


@dataclass(frozen=True, slots=True)
class Finished:
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What it printed, read as JSON."""
        return json.loads(self.out)


class RelayProcess:
    """One `relay run`. Its log is a file, so that nothing it says is lost and no pipe can hold it up."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path, out: Path) -> None:
        self.process, self.log, self.out = process, log, out
        self._read = 0
        self._events: list[dict[str, Any]] = []

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""
        return self.process.poll() is None

    @property
    def text(self) -> str:
        """All it wrote, on both streams."""
        return self.log.read_text(errors="replace") + self.out.read_text(errors="replace")

    @property
    def events(self) -> list[dict[str, Any]]:
        """The lines of its log so far."""
        with self.log.open("rb") as file:
            file.seek(self._read)
            new = file.read()
        whole = new[: new.rfind(b"\n") + 1]
        self._read += len(whole)
        self._events += [_parsed(line) for line in whole.splitlines()]
        return self._events

    def said(self, event: str, **facts: object) -> list[dict[str, Any]]:
        """The lines with this event and these facts."""
        return [
            line
            for line in self.events
            if line.get("event") == event and all(line.get(name) == fact for name, fact in facts.items())
        ]

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def kill(self) -> None:
        """End it as a power cut would, and wait until it is gone."""
        self.process.kill()
        self.process.wait(10)

    def tail(self) -> str:
        """The end of its log, for a failed test's report."""
        lines = self.text.splitlines()[-_SHOWN_LINES:]
        how = "running" if self.running else f"ended with {self.process.returncode}"
        return f"--- relay {self.pid}, {how}, its log's last lines:\n" + "\n".join(lines)


def _parsed(line: bytes) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except ValueError:
        return {"event": "not JSON", "text": line.decode(errors="replace")}
    return found if isinstance(found, dict) else {"event": "not an object", "text": str(found)}


RELEASED = _ROOT / "tests" / "releases" / "ion_relay-0.1.0-py3-none-any.whl"
"""The relay that knows schema version 1, as it was released."""


def released(folder: Path) -> dict[str, str]:
    """The environment of a process of it; unpacked into the folder once."""
    if not folder.exists():
        with zipfile.ZipFile(RELEASED) as wheel:
            wheel.extractall(folder)
    return {"PYTHONPATH": str(folder)}


class Station:
    """A folder with an outbox and an environment, in which relays and commands run."""

    def __init__(
        self, folder: Path, environment: Mapping[str, str] | None = None, *, outbox: Path | None = None
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.prefix: Sequence[str] = ()
        """What starts the relay, and becomes it: `sh -c 'ulimit …; exec "$@"' sh`."""
        self.relays: list[RelayProcess] = []
        self.application = Application(folder / "outbox.db" if outbox is None else outbox)
        self.environment = {
            **{name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ},
            "PYTHONPATH": str(_ROOT),  # this checkout's relay, whatever is installed
            "RELAY_OUTBOX__URL": f"sqlite:///{self.application.path}",
            **QUICK,
            **(environment or {}),
        }
        upgrade(self.environment["RELAY_OUTBOX__URL"])

    # --- the relay ----------------------------------------------------------------------------------

    def start(self, *arguments: str, environment: Mapping[str, str] | None = None) -> RelayProcess:
        """Start `relay run` with these arguments; see `relay` for one that is ended for sure."""
        number = len(self.relays)
        log, out = self.folder / f"relay-{number}.log", self.folder / f"relay-{number}.out"
        with log.open("wb") as err_file, out.open("wb") as out_file:
            process = subprocess.Popen(
                [*self.prefix, *COMMAND, "run", *arguments],
                cwd=self.folder,
                env={**self.environment, **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=out_file,
                stderr=err_file,
            )
        started = RelayProcess(process, log, out)
        self.relays.append(started)
        return started

    @asynccontextmanager
    async def relay(
        self, *arguments: str, environment: Mapping[str, str] | None = None
    ) -> AsyncIterator[RelayProcess]:
        """`relay run`, from its first line on; it has ended afterwards, however the test went."""
        started = self.start(*arguments, environment=environment)
        try:
            await self.event(started, "relay.started")
            yield started
        finally:
            await asyncio.to_thread(end, started)

    async def ended(self, relay: RelayProcess, within: float = WITHIN) -> int:
        """Wait for its end; its exit code."""
        await self.until(lambda: not relay.running, "the relay's end", within)
        assert relay.process.returncode is not None
        return relay.process.returncode

    async def event(
        self, relay: RelayProcess, event: str, within: float = WITHIN, **facts: object
    ) -> dict[str, Any]:
        """Wait for a line of its log with this event and these facts; the first such line."""
        what = f"the log's line {event} {facts or ''}"
        return (await self.until(lambda: relay.said(event, **facts), what, within, watched=relay))[0]

    # --- facts ----------------------------------------------------------------------------------------

    async def until(
        self,
        fact: Callable[[], T],
        what: str,
        within: float = WITHIN,
        *,
        watched: RelayProcess | None = None,
        show: Callable[[], object] | None = None,
    ) -> T:
        """Wait until `fact` answers something true; that. `watched`: a relay whose end ends the wait."""
        deadline = time.monotonic() + within
        while True:
            is_last = time.monotonic() >= deadline or (watched is not None and not watched.running)
            found = fact()
            if found:
                return found
            if is_last:
                raise AssertionError(self.report(f"waited {within:g} s in vain for {what}", show))
            await asyncio.sleep(_LOOK_SECONDS)

    async def until_delivered(self, tenant: str = "%", within: float = WITHIN) -> None:
        """Wait until all of the tenant's messages are delivered."""
        await self.until(
            lambda: self.application.is_all_delivered(tenant), f"all messages of {tenant} delivered", within
        )

    def report(self, sentence: str, show: Callable[[], object] | None = None) -> str:
        """A sentence with all that helps to understand it."""
        try:
            states: object = self.application.ask(
                "SELECT tenant_id, state, count(*) AS n, max(reason) AS reason FROM relay_outbox"
                " GROUP BY tenant_id, state LIMIT 40"
            )
        except sqlite3.Error as error:
            states = error
        parts = [sentence, f"outbox: {states}", *(relay.tail() for relay in self.relays[-2:])]
        if show is not None:
            parts.append(str(show()))
        return "\n".join(parts)

    # --- the other commands ------------------------------------------------------------------------------

    async def command(
        self, *arguments: str, stdin: bytes = b"", environment: Mapping[str, str] | None = None
    ) -> Finished:
        """Run another command of the relay's to its end."""

        def run() -> subprocess.CompletedProcess[bytes]:
            return subprocess.run(
                [*self.prefix, *COMMAND, *arguments],
                cwd=self.folder,
                env={**self.environment, **(environment or {})},
                input=stdin,
                capture_output=True,
                timeout=30,
                check=False,
            )

        done = await asyncio.to_thread(run)
        return Finished(done.returncode, done.stdout.decode(), done.stderr.decode())

    async def status(self, tenant: str) -> dict[str, Any]:
        """What `relay status --json` says of a tenant."""
        finished = await self.command("status", "--json")
        assert finished.code == 0, finished
        found: dict[str, Any] = finished.json["tenants"][tenant]
        return found

    async def until_status(
        self, tenant: str, state: str, reason: str = "", within: float = WITHIN
    ) -> dict[str, Any]:
        """Ask `relay status --json` until the tenant is in this state, for such a reason; what it says then."""
        deadline, asked = time.monotonic() + within, 0
        while True:
            seen = await self.status(tenant)
            asked += 1
            if seen["state"] == state and reason in (seen["reason"] or ""):
                return seen
            if time.monotonic() >= deadline and asked > 1:
                raise AssertionError(self.report(f"{tenant} never came to be {state} ({reason}): {seen}"))
            await asyncio.sleep(0.1)


def end(relay: RelayProcess) -> None:
    """End it for sure: kindly, then not."""
    if relay.running:
        relay.process.terminate()
        try:
            relay.process.wait(10)
        except subprocess.TimeoutExpired:
            relay.kill()
