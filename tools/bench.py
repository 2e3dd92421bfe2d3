"""Benchmark the relay: throughput beside a bare loop, pick-up time, memory, store, idle cost, fairness.

Throughput is a ratio within one run: drains of the bare loop and of the relay take turns against the same
server. No measurement asserts a duration; the exit code is 1 only if the median ratio with the first
response time of `--server-ms` is below `--at-least`.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from tools.bench_delays import measure_fairness, measure_pick_up
from tools.bench_relay import TOOLS, Bench, query, rate, sink, stop, watch_peak
from tools.bench_store import measure_idle, measure_store
from tools.bench_watched import measure_watching
from tools.stores import Store, running

MEASUREMENTS = ["ratio", "at-once", "pickup", "memory", "store", "idle", "fair", "watched"]


def drain(
    store: Store, folder: Path, server: str, count: int, size: int, in_flight: int
) -> tuple[float, int]:
    """Drain a backlog with the relay; messages per second, and its peak memory in KiB."""
    bench = Bench.at(store, folder, server, in_flight)
    bench.fill(count, size)
    query(server, "clear")
    process = bench.start("--until-empty")
    peak = watch_peak(process)
    received = query(server, "summary")["count"]
    if process.returncode != 0 or received != count:
        sys.exit(f"the relay ended with {process.returncode}, {received} of {count} arrived")
    return rate(server), peak


def drain_bare(server: str, count: int, size: int, in_flight: int) -> float:
    """Drain it with the bare loop; messages per second."""
    query(server, "clear")
    words = [server, str(count), str(size), str(in_flight)]
    subprocess.run([sys.executable, TOOLS / "bare_loop.py", *words], check=True)
    return rate(server)


def measure_ratio(store: Store, folder: Path, milliseconds: float, options: argparse.Namespace) -> float:
    """Run interleaved pairs of drains; the median of their ratios."""
    when = f"after {milliseconds:g} ms" if milliseconds else "immediately"
    backlog = f"{options.count:,} messages of {options.size} bytes, {options.in_flight} in flight"
    print(f"drain of {backlog}, a server that answers {when}")
    ratios = []
    with sink(milliseconds) as server:
        for pair in range(options.pairs):
            bare = drain_bare(server, options.count, options.size, options.in_flight)
            place = folder / f"after{milliseconds:g}-{pair}"
            relay, peak = drain(store, place, server, options.count, options.size, options.in_flight)
            ratios.append(relay / bare)
            speeds = f"bare {bare:7.0f}/s  relay {relay:7.0f}/s  ratio {relay / bare:.3f}"
            print(f"  pair {pair + 1}: {speeds}  peak {peak // 1024} MiB", flush=True)
    median = statistics.median(ratios)
    print(f"  median ratio {median:.3f}")
    return median


def measure_memory(store: Store, folder: Path, size: int, backlogs: list[int], seconds: float) -> None:
    """Measure peak memory and throughput by backlog, each for at most `seconds`."""
    for backlog in backlogs:
        with sink() as server:
            bench = Bench.at(store, folder / f"backlog{backlog}", server, 16)
            bench.fill(backlog, size)
            process = bench.start("--until-empty")
            peak = watch_peak(process, seconds)
            if process.poll() is None:
                stop(process)
            sent = query(server, "summary")["count"]
            figures = f"peak {peak / 1024:.0f} MiB, {rate(server):.0f}/s over {sent:,} messages"
            print(f"  backlog {backlog:>9,}: {figures}")
        (bench.folder / "outbox.db").unlink(missing_ok=True)


def main() -> int:
    """Parse the options and run the chosen measurements, all by default."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="*", choices=[*MEASUREMENTS, []], default=[])
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--size", type=int, default=2000, help="payload bytes")
    parser.add_argument("--in-flight", type=int, default=16)
    parser.add_argument(
        "--server-ms", type=float, nargs="+", default=[10, 2], help="the server's response times, for `ratio`"
    )
    parser.add_argument(
        "--samples", type=int, default=200, help="number of messages, for `pickup` and `fair`"
    )
    parser.add_argument(
        "--backlogs", type=int, nargs="+", default=[10_000, 300_000], help="for `memory` and `store`"
    )
    parser.add_argument("--seconds", type=float, default=60, help="limit for each backlog, for `memory`")
    parser.add_argument(
        "--tenants", type=int, default=10_000, help="number of tenants without messages, for `idle`"
    )
    parser.add_argument(
        "--idle-seconds", type=float, default=60, help="duration of the measurement, for `idle`"
    )
    parser.add_argument(
        "--fair-ms", type=float, nargs="+", default=[20, 2], help="the server's response times, for `fair`"
    )
    parser.add_argument(
        "--neighbours", type=int, default=100_000, help="messages of the other tenant, for `fair`"
    )
    parser.add_argument(
        "--watched-count", type=int, default=40_000, help="messages of a drain, for `watched`"
    )
    parser.add_argument(
        "--rows", type=int, default=1_000_000, help="messages of paused tenants, for `watched`"
    )
    parser.add_argument("--at-least", type=float, default=0.8, help="the lowest acceptable median ratio")
    parser.add_argument("--outbox", choices=["sqlite", "postgres"], default="sqlite")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="relay-bench-") as name, running(options.outbox) as store:
        return measure(store, Path(name), options)


def measure(store: Store, folder: Path, options: argparse.Namespace) -> int:
    """Run the chosen measurements; the exit code."""
    what = options.what or MEASUREMENTS
    good = True
    print(f"the outbox is on {options.outbox}")
    if "ratio" in what:
        ratios = [measure_ratio(store, folder, server_ms, options) for server_ms in options.server_ms]
        good = ratios[0] >= options.at_least
    if "at-once" in what:
        measure_ratio(store, folder, 0, options)
    if "pickup" in what:
        print("pick-up time, from commit to arrival")
        measure_pick_up(store, folder, options.samples)
    if "memory" in what:
        print("memory and throughput by backlog")
        measure_memory(store, folder, options.size, options.backlogs, options.seconds)
    if "store" in what:
        print("cost of the store, without ION")
        for backlog in options.backlogs:
            measure_store(store, folder / f"store{backlog}", backlog, rounds=60)
    if "idle" in what:
        print("tenants without messages")
        measure_idle(store, folder / "idle", options.tenants, options.idle_seconds)
    if "fair" in what:
        for milliseconds in options.fair_ms:
            measure_fairness(store, folder / f"fair{milliseconds:g}", milliseconds, options)
    if "watched" in what:
        print("cost of scrapes and of the page, and their duration")
        measure_watching(store, folder / "watched", options)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
