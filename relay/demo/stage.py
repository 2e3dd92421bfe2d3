"""This file is the processes of the demo, the relay and the ION simulator, and the folder they live in."""

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import relay
from relay.demo.workload import ACCEPTED, ACME, GLOBEX
from relay.outbox import upgrade
from relay.sandbox import remote

RETRY = {"RELAY_RETRY__INITIAL_SECONDS": "0.2", "RELAY_RETRY__MAX_SECONDS": "3"}
"""Shorter than the defaults (1 s growing to 5 min), so that an outage fits into the demo."""

_START_SECONDS = 20.0
_END_SECONDS = 10.0
_GRACE = "5"


_HERE = str(Path(relay.__file__).resolve().parents[1])
"""So that a checkout that is not installed finds itself from the demo's folder too."""


class DemoError(Exception):
    """The demo cannot go on; the text says why."""


@dataclass(frozen=True, slots=True)
class Place:
    """The demo's folder and what lies in it."""

    folder: Path

    @property
    def outbox(self) -> Path:
        """The SQLite file."""
        return self.folder / "outbox.db"

    @property
    def url(self) -> str:
        """The same as the relay's setting."""
        return f"sqlite:///{self.outbox}"

    @property
    def relay_log(self) -> Path:
        """What the relay said on stderr, both of them."""
        return self.folder / "relay.log"

    @property
    def summary(self) -> Path:
        """The summary as JSON."""
        return self.folder / "summary.json"

    @property
    def picture(self) -> Path:
        """The time line."""
        return self.folder / "timeline.svg"

    def as_json(self) -> dict[str, str]:
        """Where things lie."""
        return {
            "directory": str(self.folder),
            "outbox": str(self.outbox),
            "log": str(self.relay_log),
            "picture": str(self.picture),
        }


class Stage:
    """Both processes. Leaving it ends them, by their own ids, whatever happened."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self._sandbox: Process | None = None
        self._relay: Process | None = None
        self._url = ""
        self._settings: dict[str, str] = {}

    async def __aenter__(self) -> Self:
        """Make the outbox, start the ION simulator, then the relay."""
        await asyncio.to_thread(upgrade, self.place.url)
        try:
            await self._start_sandbox()
            await self.start_relay()
        except BaseException:
            await self._end_all()
            raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._end_all()

    @property
    def relay_pid(self) -> int:
        """Of the relay that runs, or of the last one."""
        return self._relay.pid if self._relay is not None else 0

    # --- the relay --------------------------------------------------------------------------------

    async def start_relay(self) -> None:
        """Start `relay run` as anybody would, by its environment."""
        self._relay = await self._start("run", log="relay.log", settings=self._settings)

    async def kill_relay(self) -> None:
        """Kill -9: no word, no time."""
        if self._relay is not None:
            self._relay.send_signal(signal.SIGKILL)
            await self._relay.wait()

    async def stop_relay(self) -> int:
        """SIGTERM; its exit code."""
        return 0 if self._relay is None else await _end(self._relay)

    def has_died(self) -> str | None:
        """Which of the two has ended though nobody asked it to, if any."""
        for name, process in (("the relay", self._relay), ("the sandbox", self._sandbox)):
            if process is not None and process.returncode is not None:
                return f"{name} ended with exit code {process.returncode}"
        return None

    # --- the ION simulator -------------------------------------------------------------------------

    async def ask(self, method: str, path: str, content: object = None) -> Any:
        """Ask the ION simulator's control interface."""
        try:
            return await asyncio.to_thread(remote.ask, self._url, method, path, content)
        except remote.RemoteError as error:
            raise DemoError(f"the sandbox: {error}") from error

    async def listed(self, path: str, **query: str) -> list[dict[str, Any]]:
        """All items of one of its lists: record, requests, violations."""
        name = "messages" if path == "record" else path
        try:
            return await asyncio.to_thread(lambda: list(remote.pages(self._url, path, name, query)))
        except remote.RemoteError as error:
            raise DemoError(f"the sandbox: {error}") from error

    async def order(self, **rule: object) -> str:
        """Inject faults; the rule's id."""
        answer = await self.ask("POST", "faults", rule)
        return str(answer["faults"][0]["id"])

    async def _start_sandbox(self) -> None:
        ready = self.place.folder / "sandbox.json"
        tenants = (f"{ACME},lid://acme.orders.1,oauth2", f"{GLOBEX},lid://globex.orders.1,oauth1")
        arguments = ["sandbox", "--port", "0", "--ready-file", str(ready), "--json"]
        arguments += ["--directory", str(self.place.folder / "credentials")]
        for option, values in (("--tenant", tenants), ("--accept", ACCEPTED)):
            for value in values:
                arguments += [option, value]
        self._sandbox = await self._start(*arguments, log="sandbox.log", settings={})
        said = await self._read_when_there(ready)
        self._url = said["url"]
        self._settings = {
            **said["environment"],
            **RETRY,
            "RELAY_OUTBOX__URL": self.place.url,
            "RELAY_LOG__FORMAT": "json",
            "RELAY_WEB__LISTEN": "off",
            "RELAY_STOP__GRACE_SECONDS": _GRACE,
        }

    async def _read_when_there(self, file: Path) -> Any:
        try:
            async with asyncio.timeout(_START_SECONDS):
                while not await asyncio.to_thread(file.exists):
                    if died := self.has_died():
                        raise DemoError(f"{died}; see {self.place.folder / 'sandbox.log'}")
                    await asyncio.sleep(0.02)
        except TimeoutError as error:
            raise DemoError(f"the sandbox was not ready within {_START_SECONDS:g} s") from error
        return json.loads(await asyncio.to_thread(file.read_bytes))

    # --- processes --------------------------------------------------------------------------------

    async def _start(self, *arguments: str, log: str, settings: Mapping[str, str]) -> Process:
        """In a session of its own, so that Ctrl-C reaches the demo alone; without settings from elsewhere."""
        own = {name: value for name, value in os.environ.items() if not name.startswith("RELAY_")}
        own["PYTHONPATH"] = os.pathsep.join([_HERE, *filter(None, [os.environ.get("PYTHONPATH")])])
        with (self.place.folder / log).open("ab") as file:
            return await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "relay", *arguments),
                stdin=DEVNULL,
                stdout=file,
                stderr=file,
                env={**own, **settings},
                cwd=self.place.folder,
                start_new_session=True,
            )

    async def _end_all(self) -> None:
        for process in (self._relay, self._sandbox):
            if process is not None:
                await _end(process)


async def _end(process: Process) -> int:
    """SIGTERM, and after a while the hard way; the exit code."""
    if process.returncode is None:
        with suppress(ProcessLookupError):
            process.terminate()
        try:
            async with asyncio.timeout(_END_SECONDS):
                await process.wait()
        except TimeoutError:
            process.kill()
    return await process.wait()
