"""The demo's set-up: an outbox, an ION simulator and a relay process, in one folder."""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, Process
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import relay
from relay.demo.workload import ACCEPTED, ACME, GLOBEX
from relay.outbox import upgrade
from relay.sandbox import Sandbox, SandboxTenant

_SETTINGS = {
    # shorter than the defaults (1 s growing to 5 minutes), so that an outage fits into the demo
    "RELAY_RETRY__INITIAL_SECONDS": "0.2",
    "RELAY_RETRY__MAX_SECONDS": "3",
    "RELAY_LOG__FORMAT": "json",
    "RELAY_WEB__LISTEN": "off",
    "RELAY_STOP__GRACE_SECONDS": "5",
}
_STOP_SECONDS = 10.0
_CHECKOUT = str(Path(relay.__file__).resolve().parents[1])
"""On PYTHONPATH, so that a checkout that is not installed is found from the demo's folder too."""


@dataclass(frozen=True, slots=True)
class DemoFolder:
    """The demo's folder and its files."""

    path: Path

    @property
    def outbox(self) -> Path:
        """The SQLite file."""
        return self.path / "outbox.db"

    @property
    def log(self) -> Path:
        """The log of both relay processes."""
        return self.path / "relay.log"

    @property
    def summary(self) -> Path:
        """The summary as JSON."""
        return self.path / "summary.json"

    @property
    def picture(self) -> Path:
        """The time line as SVG."""
        return self.path / "timeline.svg"

    def as_json(self) -> dict[str, str]:
        """The paths, for the summary."""
        return {
            "directory": str(self.path),
            "outbox": str(self.outbox),
            "log": str(self.log),
            "picture": str(self.picture),
        }


class Stage:
    """Starts simulator and relay, and ends both on exit, whatever happened."""

    def __init__(self, folder: DemoFolder) -> None:
        self.folder = folder
        self.sandbox = Sandbox(
            [
                SandboxTenant(ACME, "lid://acme.orders.1", list(ACCEPTED)),
                SandboxTenant(GLOBEX, "lid://globex.orders.1", list(ACCEPTED), auth="oauth1"),
            ]
        )
        self._relay: Process | None = None
        self._settings: dict[str, str] = {}

    async def __aenter__(self) -> Self:
        """Create the outbox, start the simulator, then the relay."""
        url = f"sqlite:///{self.folder.outbox}"
        await asyncio.to_thread(upgrade, url)
        await self.sandbox.start()
        credentials = self.sandbox.environment(self.folder.path / "credentials")
        self._settings = credentials | _SETTINGS | {"RELAY_OUTBOX__URL": url}
        try:
            await self.start_relay()
        except BaseException:
            await self.sandbox.stop()
            raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.stop_relay()
        await self.sandbox.stop()

    async def start_relay(self) -> None:
        """Start `relay run`, without settings from elsewhere, in a session of its own.

        So Ctrl-C reaches the demo alone.
        """
        own = {name: value for name, value in os.environ.items() if not name.startswith("RELAY_")}
        own["PYTHONPATH"] = os.pathsep.join([_CHECKOUT, *filter(None, [os.environ.get("PYTHONPATH")])])
        with self.folder.log.open("ab") as log:
            self._relay = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "relay", "run"),
                stdin=DEVNULL,
                stdout=log,
                stderr=log,
                env={**own, **self._settings},
                cwd=self.folder.path,
                start_new_session=True,
            )

    async def kill_relay(self) -> None:
        """End it with `kill -9`."""
        if self._relay is not None:
            self._relay.send_signal(signal.SIGKILL)
            await self._relay.wait()

    async def stop_relay(self) -> int:
        """End it with SIGTERM, after a while with SIGKILL; its exit code."""
        if self._relay is None:
            return 0
        if self._relay.returncode is None:
            with suppress(ProcessLookupError):
                self._relay.terminate()
            try:
                async with asyncio.timeout(_STOP_SECONDS):
                    await self._relay.wait()
            except TimeoutError:
                self._relay.kill()
        return await self._relay.wait()

    def find_unexpected_exit(self) -> str | None:
        """That the relay has ended, if it has."""
        if self._relay is None or self._relay.returncode is None:
            return None
        return f"the relay ended with exit code {self._relay.returncode}"
