"""The command line under test: the real commands, against a real outbox in a folder of its own."""

import asyncio
import io
import json
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest

from relay.cli import main
from relay.core.ports import Store
from relay.outbox import open_outbox

T = TypeVar("T")

ROOT = Path(__file__).resolve().parents[2]
NAMING = ("outbox: ", "relay: creating a NEW outbox: ")
CANARY = "canary-7f3a9"

TENANTS = {
    "RELAY_TENANTS__ACME__LOGICAL_ID": "lid://acme.orders.1",
    "RELAY_TENANTS__ACME__IONAPI_FILE": "acme.ionapi",
    "RELAY_TENANTS__ACME__MAX_MESSAGE_BYTES": "1000",
    "RELAY_TENANTS__GLOBEX__LOGICAL_ID": "lid://globex.orders.1",
    "RELAY_TENANTS__GLOBEX__ION_URL": "http://127.0.0.1:9/service",
    "RELAY_TENANTS__GLOBEX__OAUTH1__CONSUMER_KEY": "key",
    "RELAY_TENANTS__GLOBEX__OAUTH1__CONSUMER_SECRET": CANARY,
}


@dataclass(frozen=True, slots=True)
class Ran:
    """A command's exit code and output; `named`: the lines of stderr that name the outbox, which `err` omits."""

    code: int
    out: str
    err: str
    named: str = field(default="", compare=False)

    @property
    def json(self) -> Any:
        """Its output as JSON."""
        return json.loads(self.out)


class Operator:
    """An operator at a shell, in a directory with two tenants configured."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch, capture: pytest.CaptureFixture[str]) -> None:
        self.folder, self._patch, self._capture = folder, patch, capture
        for name in [name for name in os.environ if name.upper().startswith("RELAY_")]:
            patch.delenv(name)
        patch.chdir(folder)
        self.set(TENANTS)

    def set(self, environ: dict[str, str]) -> None:
        """Set variables."""
        for name, text in environ.items():
            self._patch.setenv(name, text)

    def unset(self, prefix: str) -> None:
        """Unset the variables with this prefix."""
        for name in [name for name in os.environ if name.startswith(prefix)]:
            self._patch.delenv(name)

    @property
    def environment(self) -> dict[str, str]:
        """For a command in a process of its own."""
        return os.environ | {"PYTHONPATH": str(ROOT)}

    def run(self, *arguments: str, given: bytes = b"") -> Ran:
        """Run a command in this process, with this on its standard input."""
        self._patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given), encoding="utf-8"))
        self._capture.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        out, err = self._capture.readouterr()
        assert CANARY not in out + err
        assert "Traceback" not in err
        code = ended.value.code
        assert isinstance(code, int)
        lines = err.splitlines(keepends=True)
        named = [line for line in lines if line.startswith(NAMING)]
        return Ran(code, out, "".join(line for line in lines if line not in named), "".join(named))

    def start(self, *arguments: str, **options: Any) -> "subprocess.CompletedProcess[str]":
        """Run a command as a process of its own."""
        given: dict[str, Any] = {"capture_output": True, "stdin": subprocess.DEVNULL, "cwd": self.folder}
        return subprocess.run(
            [sys.executable, "-m", "relay", *arguments],
            env=self.environment,
            check=False,
            timeout=60,
            text=True,
            **(given | options),
        )

    def at_outbox(self, work: Callable[[Store], Awaitable[T]]) -> T:
        """Run what a relay or another program does to the outbox."""

        async def run() -> T:
            outbox = await open_outbox(f"sqlite:///{self.folder / 'relay.db'}")
            try:
                return await work(outbox)
            finally:
                await outbox.close()

        return asyncio.run(run())

    def enqueue(self, *ids: str, tenant: str = "ACME", document: str = "Sync.SalesOrder") -> None:
        """Enqueue messages with these ids."""
        for given in ids:
            ran = self.run(
                "enqueue",
                "--tenant",
                tenant,
                "--document",
                document,
                "--message-id",
                given,
                "--create",
                "-",
                given=b"<x/>",
            )
            assert ran == Ran(0, f"{given}\n", "")

    def list_messages(self, *arguments: str) -> Sequence[dict[str, Any]]:
        """The messages of the outbox."""
        found: list[dict[str, Any]] = self.run("messages", "list", "--json", *arguments).json
        return found


@pytest.fixture
def operator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Operator:
    """An operator at a shell."""
    return Operator(tmp_path, monkeypatch, capsys)
