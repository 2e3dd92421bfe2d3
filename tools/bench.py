"""This file is the benchmark: the relay beside a bare loop, pick-up, memory, store, idle cost, fairness.

Throughput is a ratio within one run: drains of the bare loop and of the relay take turns against the same
far side. Nothing here asserts seconds; it exits 1 only when the median ratio against a far side that takes
its time (`--far-ms`) is below `--at-least`.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools.bench_store import measure_idle, measure_store
from tools.bench_watched import SERVED, crowd, measure_views, measure_watched
from tools.stores import Application, Store, running

MEASUREMENTS = ["ratio", "at-once", "pickup", "memory", "store", "idle", "fair", "watched"]
TENANT, OTHER = "BENCH", "OTHER"
TOOLS = Path(__file__).resolve().parent
RELAY = [sys.executable, "-m", "relay"]


@contextmanager
def sink(milliseconds: float = 0) -> Iterator[str]:
    """A far side in a process of its own; its address."""
    words = [sys.executable, str(TOOLS / "sink.py"), str(milliseconds)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.terminate()


def ask(far: str, what: str) -> dict[str, Any]:
    """What the sink knows: `summary`, `arrival/ID` (when it came, or null), or `clear`."""
    with urllib.request.urlopen(f"{far}/{what}") as answer:  # noqa: S310 — loopback
        known: dict[str, Any] = json.load(answer)
        return known


def rate(far: str) -> float:
    """Messages a second between the first arrival and the last."""
    seen = ask(far, "summary")
    return float((seen["count"] - 1) / (seen["last"] - seen["first"]))


# --- the relay under test -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Bench:
    """A folder with an outbox, and the environment that points a relay at the sink."""

    folder: Path
    environment: dict[str, str]
    store: Store
    url: str

    @classmethod
    def at(cls, store: Store, folder: Path, far: str, in_flight: int) -> "Bench":
        """Write an .ionapi file and create the outbox."""
        folder.mkdir()
        ionapi = {
            "ti": TENANT,
            "cn": "b",
            "ci": "c",
            "cs": "s",
            "iu": far,
            "pu": f"{far}/",
            "oa": "a",
            "ot": "token",
        }
        (folder / "bench.ionapi").write_text(json.dumps(ionapi))
        url = store.create(folder)
        tenant = f"RELAY_TENANTS__{TENANT}__"
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("RELAY_")},
            "RELAY_OUTBOX__URL": url,
            "RELAY_LOG__LEVEL": "warning",
            "RELAY_WEB__LISTEN": "off",
            f"{tenant}LOGICAL_ID": "lid://bench.orders.1",
            f"{tenant}IONAPI_FILE": str(folder / "bench.ionapi"),
            f"{tenant}ORDERING": "none",
            f"{tenant}MAX_IN_FLIGHT": str(in_flight),
        }
        return cls(folder, environment, store, url)

    def connect(self) -> Application:
        """As an application would."""
        return self.store.connect(self.url)

    def fill(self, count: int, size: int) -> None:
        """Hand over `count` messages by plain INSERT."""
        application = self.connect()
        application.insert((TENANT, b"x" * size, str(uuid.uuid4())) for _ in range(count))
        application.close()

    def start(self, *options: str, more: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
        """A relay that logs to a file; `more`: of its environment."""
        environment = {**self.environment, **(more or {})}
        with (self.folder / "relay.log").open("ab") as log:
            return subprocess.Popen([*RELAY, "run", *options], env=environment, cwd=self.folder, stderr=log)


def watch_peak(process: subprocess.Popen[bytes], until: float | None = None) -> int:
    """The peak resident memory in KiB, at the process' end or after `until` seconds."""
    peak, end = 0, None if until is None else time.monotonic() + until
    while process.poll() is None and (end is None or time.monotonic() < end):
        peak = max(peak, _status(process.pid, "VmHWM"))
        time.sleep(0.05)
    return peak


def _status(pid: int, field: str) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith(field)), 0)


def stop(process: subprocess.Popen[bytes]) -> None:
    """End it as a platform would."""
    process.terminate()
    process.wait(60)


# --- the measurements ---------------------------------------------------------------------------------


def drain(store: Store, folder: Path, far: str, count: int, size: int, in_flight: int) -> tuple[float, int]:
    """Messages a second of a relay that drains a backlog, and its peak memory in KiB."""
    bench = Bench.at(store, folder, far, in_flight)
    bench.fill(count, size)
    ask(far, "clear")
    process = bench.start("--until-empty")
    peak = watch_peak(process)
    seen = ask(far, "summary")["count"]
    if process.returncode != 0 or seen != count:
        sys.exit(f"the relay ended with {process.returncode}, {seen} of {count} arrived")
    return rate(far), peak


def drain_served(bench: Bench, far: str, count: int, size: int) -> float:
    """Messages a second of a relay that also serves its web, and so does not end by itself."""
    bench.fill(count, size)
    ask(far, "clear")
    process = bench.start(more=SERVED)
    while process.poll() is None and ask(far, "summary")["count"] < count:
        time.sleep(0.25)
    stop(process)
    return rate(far)


def measure_watching(store: Store, folder: Path, options: argparse.Namespace) -> None:
    """How long a look at a large outbox takes; and drains with and without somebody who looks."""
    with sink(options.far_ms) as far:
        bench = Bench.at(store, folder, far, options.in_flight)
        crowd(bench.connect(), bench.url, folder / "tenants", options.rows)
        bench.environment["RELAY_TENANTS_DIR"] = str(folder / "tenants")
        measure_views(lambda: bench.start(more=SERVED))
        measure_watched(options.pairs, lambda: drain_served(bench, far, options.watched_count, options.size))


def drain_bare(far: str, count: int, size: int, in_flight: int) -> float:
    """Messages a second of the bare loop."""
    ask(far, "clear")
    words = [far, str(count), str(size), str(in_flight)]
    subprocess.run([sys.executable, TOOLS / "bare_loop.py", *words], check=True)
    return rate(far)


def measure_ratio(store: Store, folder: Path, milliseconds: float, options: argparse.Namespace) -> float:
    """Interleaved pairs; the median of their ratios."""
    pace = f"after {milliseconds:g} ms" if milliseconds else "at once"
    backlog = f"{options.count:,} messages of {options.size} bytes, {options.in_flight} in flight"
    print(f"drain of {backlog}, a far side that answers {pace}")
    ratios = []
    with sink(milliseconds) as far:
        for pair in range(options.pairs):
            bare = drain_bare(far, options.count, options.size, options.in_flight)
            place = folder / f"after{milliseconds:g}-{pair}"
            relay, peak = drain(store, place, far, options.count, options.size, options.in_flight)
            ratios.append(relay / bare)
            speeds = f"bare {bare:7.0f}/s  relay {relay:7.0f}/s  ratio {relay / bare:.3f}"
            print(f"  pair {pair + 1}: {speeds}  peak {peak // 1024} MiB", flush=True)
    median = statistics.median(ratios)
    print(f"  median ratio {median:.3f}")
    return median


def measure_pick_up(store: Store, folder: Path, samples: int) -> None:
    """From the application's commit to the arrival at the far side, on an otherwise idle relay; idle CPU."""
    with sink() as far:
        bench = Bench.at(store, folder / "pickup", far, 8)
        process = bench.start()
        application = bench.connect()
        delays(application, far, TENANT, "warm", 1)
        print(f"  {told(delays(application, far, TENANT, 'pick-up', samples))}")
        print(f"  idle CPU {_idle_share(process.pid, 10):.2f} % of a core over 10 s")
        application.close()
        stop(process)


def delays(application: Application, far: str, tenant: str, name: str, samples: int) -> list[float]:
    """Milliseconds from the commit of a message to its arrival, one message after the other, ascending."""
    waits = []
    for sample in range(samples):
        message_id = f"{name}-{sample}"
        application.insert([(tenant, b"x" * 2000, message_id)])
        committed = time.monotonic()
        while (arrived := ask(far, f"arrival/{message_id}")["at"]) is None:
            time.sleep(0.005)
        waits.append((arrived - committed) * 1000)
        time.sleep(0.02 + 0.0007 * (sample % 17))  # not in step with whatever the relay's watch does
    return sorted(waits)


def told(waits: list[float]) -> str:
    """The median and the last hundredth."""
    p50, p99 = waits[len(waits) // 2], waits[int(len(waits) * 0.99)]
    return f"p50 {p50:.1f} ms  p99 {p99:.1f} ms  longest {waits[-1]:.1f} ms  of {len(waits)}"


def measure_fairness(store: Store, folder: Path, milliseconds: float, options: argparse.Namespace) -> None:
    """One tenant's single messages, on an idle relay and beside another tenant's backlog."""
    pace = f"a far side that answers after {milliseconds:g} ms"
    print(f"one message, alone and beside another tenant's backlog; {pace}")
    with sink(milliseconds) as far:
        bench = Bench.at(store, folder, far, options.in_flight)
        for name, value in list(bench.environment.items()):
            if name.startswith(f"RELAY_TENANTS__{TENANT}__"):
                bench.environment[name.replace(TENANT, OTHER)] = value
        process = bench.start()
        application = bench.connect()
        delays(application, far, OTHER, "warm", 1)
        print(f"  on an idle relay: {told(delays(application, far, OTHER, 'alone', options.samples))}")
        before = ask(far, "summary")["count"]
        bench.fill(options.neighbours, 2000)
        while ask(far, "summary")["count"] < before + 500:
            time.sleep(0.05)
        beside = delays(application, far, OTHER, "beside", options.samples)
        left = options.neighbours - (ask(far, "summary")["count"] - before - options.samples)
        print(f"  beside a backlog: {told(beside)}; {left:,} of {options.neighbours:,} were left then")
        application.close()
        stop(process)
        if left <= 0:
            sys.exit("the backlog was gone before the last sample; give more --neighbours")


def _idle_share(pid: int, seconds: float) -> float:
    before = _ticks(pid)
    time.sleep(seconds)
    return 100 * (_ticks(pid) - before) / os.sysconf("SC_CLK_TCK") / seconds


def _ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return int(fields[11]) + int(fields[12])


def measure_memory(store: Store, folder: Path, size: int, backlogs: list[int], seconds: float) -> None:
    """Peak memory and throughput by backlog, each over its first `seconds`."""
    for backlog in backlogs:
        with sink() as far:
            bench = Bench.at(store, folder / f"backlog{backlog}", far, 16)
            bench.fill(backlog, size)
            process = bench.start("--until-empty")
            peak = watch_peak(process, seconds)
            if process.poll() is None:
                stop(process)
            sent = ask(far, "summary")["count"]
            figures = f"peak {peak / 1024:.0f} MiB, {rate(far):.0f}/s over {sent:,} messages"
            print(f"  backlog {backlog:>9,}: {figures}")
        (bench.folder / "outbox.db").unlink(missing_ok=True)


def main() -> int:
    """Run what was asked for; all of it by default."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="*", choices=[*MEASUREMENTS, []], default=[])
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--size", type=int, default=2000, help="payload bytes")
    parser.add_argument("--in-flight", type=int, default=16)
    parser.add_argument("--far-ms", type=float, default=2, help="how long the far side thinks, for `ratio`")
    parser.add_argument("--samples", type=int, default=200, help="of the pick-up time, and for `fair`")
    parser.add_argument(
        "--backlogs", type=int, nargs="+", default=[10_000, 300_000], help="for `memory` and `store`"
    )
    parser.add_argument("--seconds", type=float, default=60, help="at most, for each backlog")
    parser.add_argument("--tenants", type=int, default=10_000, help="without messages, for `idle`")
    parser.add_argument("--idle-seconds", type=float, default=60, help="how long they are watched")
    parser.add_argument("--fair-ms", type=float, default=20, help="how long it thinks, for `fair`, besides")
    parser.add_argument("--neighbours", type=int, default=100_000, help="of another tenant, for `fair`")
    parser.add_argument("--watched-count", type=int, default=40_000, help="of a drain, for `watched`")
    parser.add_argument(
        "--rows", type=int, default=1_000_000, help="of tenants that are paused, for `watched`"
    )
    parser.add_argument("--at-least", type=float, default=0.8, help="the median ratio that is good enough")
    parser.add_argument("--outbox", choices=["sqlite", "postgres"], default="sqlite")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="relay-bench-") as name, running(options.outbox) as store:
        return measure(store, Path(name), options)


def measure(store: Store, folder: Path, options: argparse.Namespace) -> int:
    """What was asked for; all of it by default. The exit code."""
    what = options.what or MEASUREMENTS
    good = True
    print(f"the outbox is on {options.outbox}")
    if "ratio" in what:
        good = measure_ratio(store, folder, options.far_ms, options) >= options.at_least
    if "at-once" in what:
        measure_ratio(store, folder, 0, options)
    if "pickup" in what:
        print("pick-up, from commit to arrival")
        measure_pick_up(store, folder, options.samples)
    if "memory" in what:
        print("memory and throughput by backlog")
        measure_memory(store, folder, options.size, options.backlogs, options.seconds)
    if "store" in what:
        print("what the store costs, without ION")
        for backlog in options.backlogs:
            measure_store(store, folder / f"store{backlog}", backlog, rounds=60)
    if "idle" in what:
        print("tenants without messages")
        measure_idle(store, folder / "idle", options.tenants, options.idle_seconds)
    if "fair" in what:
        for milliseconds in (options.fair_ms, options.far_ms):
            measure_fairness(store, folder / f"fair{milliseconds:g}", milliseconds, options)
    if "watched" in what:
        print("what watching costs, and how long a look takes")
        measure_watching(store, folder / "watched", options)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
