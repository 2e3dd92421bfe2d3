"""This file is what watching costs: a drain while /metrics and the page are asked for each second, or not.

And how long a scrape and the page's first view take. All of it on one outbox, where a thousand more tenants
have messages that wait.
"""

import argparse
import asyncio
import statistics
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from relay.core.model import TenantId
from relay.outbox import open_outbox
from tools.bench_relay import Bench, ask, rate, sink, stop, told, write_tenants
from tools.stores import Store

PATHS = ("/metrics", "/")
AT = "127.0.0.1:18480"
TENANTS = 1000

_SETTLE_IN = 8.0

_FAR_MS = 2
"""The relay has its hands full then; who looks takes from it."""


def measure_watching(store: Store, folder: Path, options: argparse.Namespace) -> None:
    """How long a look at a large outbox takes; and drains with and without somebody who looks."""
    with sink(_FAR_MS) as far:
        bench = Bench.at(store, folder, far, options.in_flight)
        bench.environment.update(RELAY_WEB__LISTEN=AT, RELAY_TENANTS_DIR=str(folder / "tenants"))
        crowd(bench, folder / "tenants", options.rows)
        measure_views(bench)
        measure_watched(options.pairs, lambda: drain_served(bench, far, options.watched_count, options.size))


def crowd(bench: Bench, folder: Path, rows: int) -> None:
    """Configure a thousand tenants and let messages of theirs wait; they are paused, so that they stay."""
    write_tenants(folder, TENANTS)
    application, each = bench.connect(), range(rows // TENANTS)
    for tenant in range(TENANTS):
        application.insert((f"T{tenant:05}", b"x" * 100, f"w{number}") for number in each)
    application.close()
    asyncio.run(_pause(bench.url))
    print(f"  {rows:,} messages of {TENANTS:,} tenants wait", flush=True)


async def _pause(url: str) -> None:
    outbox = await open_outbox(url, notify=False)
    try:
        for number in range(TENANTS):
            await outbox.pause(TenantId(f"T{number:05}"), "paused", "the benchmark")
    finally:
        await outbox.close()


def measure_views(bench: Bench) -> None:
    """A scrape and the page's first view; p50 and p99 of a hundred, as who watches meets them.

    Each scrape is written anew. A look at the outbox serves pages for some seconds; the p99 is a new one's.
    """
    process = bench.start()
    try:
        _until_served()
        time.sleep(_SETTLE_IN)  # the first look at the outbox
        for path in PATHS:
            print(f"  {path:<9} {told(sorted(_spaced(path) * 1000 for _ in range(100)))}", flush=True)
    finally:
        stop(process)


def measure_watched(pairs: int, drained: Callable[[], float]) -> None:
    """Pairs of drains, one of them watched; the median ratio. `drained()`: messages a second."""
    ratios = []
    for pair in range(pairs):
        alone = drained()
        with watching() as took:
            watched = drained()
        ratios.append(watched / alone)
        speeds = f"alone {alone:7.0f}/s  watched {watched:7.0f}/s  ratio {watched / alone:.3f}"
        print(f"  pair {pair + 1}: {speeds}  {len(took)} answers", flush=True)
    print(f"  median ratio {statistics.median(ratios):.3f}")


def drain_served(bench: Bench, far: str, count: int, size: int) -> float:
    """Messages a second of a relay that also serves its web, and so does not end by itself."""
    bench.fill(count, size)
    ask(far, "clear")
    process = bench.start()
    while process.poll() is None and ask(far, "summary")["count"] < count:
        time.sleep(0.25)
    stop(process)
    return rate(far)


@contextmanager
def watching() -> Iterator[list[float]]:
    """Ask for both every second, as long as it lasts; how long the answers took."""
    took: list[float] = []
    ended = threading.Event()

    def run() -> None:
        while not ended.wait(1.0):
            for path in PATHS:
                try:
                    took.append(asked(path))
                except OSError:  # the relay is about to start, or has ended
                    continue

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield took
    finally:
        ended.set()
        thread.join()


def asked(path: str) -> float:
    """Seconds that an answer takes, to its last byte."""
    began = time.perf_counter()
    with urllib.request.urlopen(f"http://{AT}{path}", timeout=30) as answer:
        answer.read()
    return time.perf_counter() - began


def _spaced(path: str) -> float:
    """Further apart than a scrape is kept, and than a look that was quick."""
    time.sleep(2.05 if path == "/" else 1.05)
    return asked(path)


def _until_served() -> None:
    for _ in range(200):
        try:
            asked("/livez")
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise SystemExit("the relay serves nothing")
