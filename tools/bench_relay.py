"""Run the relay of a benchmark, its server and its outbox, and measure the process."""

import json
import math
import os
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools.stores import Application, Store

TENANT = "BENCH"
TOOLS = Path(__file__).resolve().parent

# --- the server ---------------------------------------------------------------------------------------


@contextmanager
def sink(milliseconds: float = 0) -> Iterator[str]:
    """Run `tools/sink.py` in a process of its own; its URL."""
    words = [sys.executable, str(TOOLS / "sink.py"), str(milliseconds)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.terminate()


def query(server: str, what: str) -> dict[str, Any]:
    """Query the sink: `summary`, `arrival/ID` (answered when the message has arrived), or `clear`."""
    with urllib.request.urlopen(f"{server}/{what}") as answer:  # noqa: S310 — loopback
        result: dict[str, Any] = json.load(answer)
        return result


def rate(server: str) -> float:
    """Return the messages per second between the first arrival and the last."""
    summary = query(server, "summary")
    return float((summary["count"] - 1) / (summary["last"] - summary["first"]))


# --- the relay ----------------------------------------------------------------------------------------


def environment_for(url: str) -> dict[str, str]:
    """Return the environment of a relay on this outbox, without other settings and without its page."""
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("RELAY_")},
        "PYTHONPATH": str(TOOLS.parent),  # the checkout's relay, whatever is installed
        "RELAY_OUTBOX__URL": url,
        "RELAY_LOG__LEVEL": "warning",
        "RELAY_WEB__LISTEN": "off",
    }


def start(folder: Path, environment: Mapping[str, str], *options: str) -> subprocess.Popen[bytes]:
    """Start a relay that logs to a file."""
    words = [sys.executable, "-m", "relay", "run", *options]
    with (folder / "relay.log").open("ab") as log:
        return subprocess.Popen(words, env=environment, cwd=folder, stderr=log)


def stop(process: subprocess.Popen[bytes]) -> None:
    """Stop the process as a platform would."""
    process.terminate()
    process.wait(60)


def write_tenants(folder: Path, count: int) -> None:
    """Write a folder of tenants, from T00000 on; no server answers for them."""
    folder.mkdir()
    ionapi = folder.parent / "nobody.ionapi"
    names = {"ti": "T", "cn": "b", "ci": "c", "cs": "s", "oa": "a", "ot": "token", "or": "r"}
    ionapi.write_text(json.dumps(names | {"iu": "http://127.0.0.1:9", "pu": "http://127.0.0.1:9/"}))
    for number in range(count):
        text = f'logical_id = "lid://bench.orders.{number}"\nionapi_file = "{ionapi}"\n'
        text += 'oauth2.ionapi_tenant = "T"\n'  # one file for all
        (folder / f"T{number:05}.toml").write_text(text)


@dataclass(frozen=True)
class Bench:
    """A folder with an outbox, and the environment of a relay that posts to the sink."""

    folder: Path
    environment: dict[str, str]
    store: Store
    url: str

    @classmethod
    def at(
        cls, store: Store, folder: Path, server: str, in_flight: int, tenants: Sequence[str] = (TENANT,)
    ) -> "Bench":
        """Write an .ionapi file and create the outbox."""
        folder.mkdir()
        ionapi = {
            "ti": TENANT,
            "cn": "b",
            "ci": "c",
            "cs": "s",
            "iu": server,
            "pu": f"{server}/",
            "oa": "a",
            "ot": "token",
        }
        (folder / "bench.ionapi").write_text(json.dumps(ionapi))
        url = store.create(folder)
        settings = {
            "LOGICAL_ID": "lid://bench.orders.1",
            "IONAPI_FILE": str(folder / "bench.ionapi"),
            "OAUTH2__IONAPI_TENANT": TENANT,  # one file for all tenants of the benchmark
            "ORDERING": "none",
            "MAX_IN_FLIGHT": str(in_flight),
        }
        own = {f"RELAY_TENANTS__{one}__{name}": settings[name] for one in tenants for name in settings}
        return cls(folder, environment_for(url) | own, store, url)

    def connect(self) -> Application:
        """Open an application's connection to the outbox."""
        return self.store.connect(self.url)

    def fill(self, count: int, size: int) -> None:
        """Enqueue `count` messages by plain INSERT."""
        application = self.connect()
        application.insert((TENANT, b"x" * size, str(uuid.uuid4())) for _ in range(count))
        application.close()

    def start(self, *options: str) -> subprocess.Popen[bytes]:
        """Start a relay that logs to a file."""
        return start(self.folder, self.environment, *options)


# --- the process --------------------------------------------------------------------------------------


def watch_peak(process: subprocess.Popen[bytes], until: float | None = None) -> int:
    """Return the peak resident memory in KiB, when the process ends or after `until` seconds."""
    peak, end = 0, None if until is None else time.monotonic() + until
    while process.poll() is None and (end is None or time.monotonic() < end):
        peak = max(peak, status(process.pid, "VmHWM"))
        time.sleep(0.05)
    return peak


def status(pid: int, field: str) -> int:
    """Return a field of the process status, such as VmRSS, in KiB; 0 if the process has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith(field)), 0)


def cpu_seconds(pid: int) -> float:
    """Return the processor time that the process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def percentile(waits: list[float], share: float) -> float:
    """Return the percentile of ascending milliseconds, by the nearest rank."""
    return waits[math.ceil(len(waits) * share) - 1]


def summarised(waits: list[float]) -> str:
    """Word the median, the 99th percentile and the maximum of ascending milliseconds."""
    p50, p99 = (percentile(waits, share) for share in (0.5, 0.99))
    return f"p50 {p50:.1f} ms  p99 {p99:.1f} ms  longest {waits[-1]:.1f} ms  of {len(waits)}"
