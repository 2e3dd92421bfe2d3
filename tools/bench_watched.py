"""Measure the cost of monitoring: drains with and without requests for /metrics and the page every second.

It also measures the duration of a scrape and of the page's first view. The outbox has waiting messages of a
thousand further tenants.
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
from tools.bench_relay import Bench, query, rate, sink, stop, summarised, write_tenants
from tools.stores import Store

PATHS = ("/metrics", "/")
AT = "127.0.0.1:18480"
TENANTS = 1000

_SETTLE_IN = 8.0

_SERVER_MS = 2
"""With this response time the relay is at the limit of its core, and any other work slows it down."""


def measure_watching(store: Store, folder: Path, options: argparse.Namespace) -> None:
    """Measure requests on a large outbox, and drains with and without them."""
    with sink(_SERVER_MS) as server:
        bench = Bench.at(store, folder, server, options.in_flight)
        bench.environment.update(RELAY_WEB__LISTEN=AT, RELAY_TENANTS_DIR=str(folder / "tenants"))
        fill_with_waiting(bench, folder / "tenants", options.rows)
        measure_views(bench)
        measure_watched(
            options.pairs, lambda: drain_served(bench, server, options.watched_count, options.size)
        )


def fill_with_waiting(bench: Bench, folder: Path, rows: int) -> None:
    """Configure a thousand paused tenants with waiting messages."""
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
    """Measure p50 and p99 of a hundred scrapes and of a hundred first views of the page.

    Each scrape is rendered anew. Views within some seconds share a query of the outbox; the p99 includes one.
    """
    process = bench.start()
    try:
        _until_served()
        time.sleep(_SETTLE_IN)  # the first query of the outbox
        for path in PATHS:
            print(f"  {path:<9} {summarised(sorted(_spaced(path) * 1000 for _ in range(100)))}", flush=True)
    finally:
        stop(process)


def measure_watched(pairs: int, drained: Callable[[], float]) -> None:
    """Run pairs of drains, one of them watched; print the median ratio. `drained()`: messages per second."""
    ratios = []
    for pair in range(pairs):
        alone = drained()
        with watching() as took:
            watched = drained()
        ratios.append(watched / alone)
        speeds = f"alone {alone:7.0f}/s  watched {watched:7.0f}/s  ratio {watched / alone:.3f}"
        print(f"  pair {pair + 1}: {speeds}  {len(took)} answers", flush=True)
    print(f"  median ratio {statistics.median(ratios):.3f}")


def drain_served(bench: Bench, server: str, count: int, size: int) -> float:
    """Drain a backlog with a relay that also serves its page; messages per second."""
    bench.fill(count, size)
    query(server, "clear")
    process = bench.start()
    while process.poll() is None and query(server, "summary")["count"] < count:
        time.sleep(0.25)
    stop(process)
    return rate(server)


@contextmanager
def watching() -> Iterator[list[float]]:
    """Request both paths every second; yields the list of durations."""
    took: list[float] = []
    ended = threading.Event()

    def run() -> None:
        while not ended.wait(1.0):
            for path in PATHS:
                try:
                    took.append(fetch_seconds(path))
                except OSError:  # the relay is starting, or has ended
                    continue

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield took
    finally:
        ended.set()
        thread.join()


def fetch_seconds(path: str) -> float:
    """Return the seconds until the last byte of the answer."""
    began = time.perf_counter()
    with urllib.request.urlopen(f"http://{AT}{path}", timeout=30) as answer:
        answer.read()
    return time.perf_counter() - began


def _spaced(path: str) -> float:
    """Request the path after the cached scrape or query has expired."""
    time.sleep(2.05 if path == "/" else 1.05)
    return fetch_seconds(path)


def _until_served() -> None:
    for _ in range(200):
        try:
            fetch_seconds("/livez")
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise SystemExit("the relay does not answer")
