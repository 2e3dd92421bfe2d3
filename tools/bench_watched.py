"""This file is what watching costs: a drain while /metrics and the page are asked for each second, or not.

And how long a scrape and the page's first view take over an outbox of a million rows and a thousand tenants.
"""

import statistics
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tools.stores import Application

PATHS = ("/metrics", "/")
AT = "127.0.0.1:18480"


def asked(path: str) -> float:
    """Seconds that an answer takes, to its last byte."""
    began = time.perf_counter()
    with urllib.request.urlopen(f"http://{AT}{path}", timeout=30) as answer:
        answer.read()
    return time.perf_counter() - began


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


def measure_watched(pairs: int, drained: Callable[[dict[str, str]], float]) -> None:
    """Pairs of drains, one of them watched; the median ratio. `drained(environment)`: messages a second."""
    ratios = []
    for pair in range(pairs):
        alone = drained({"RELAY_WEB__LISTEN": AT})
        with watching() as took:
            watched = drained({"RELAY_WEB__LISTEN": AT})
        ratios.append(watched / alone)
        speeds = f"alone {alone:7.0f}/s  watched {watched:7.0f}/s  ratio {watched / alone:.3f}"
        print(f"  pair {pair + 1}: {speeds}  {len(took)} answers", flush=True)
    print(f"  median ratio {statistics.median(ratios):.3f}")


def measure_views(
    application: Application,
    start: Callable[[dict[str, str]], subprocess.Popen[bytes]],
    rows: int,
    tenants: int,
) -> None:
    """A scrape and the page's first view; p50 and p99 of a hundred."""
    application.insert((f"T{number % tenants:04}", b"x" * 100, f"m{number}") for number in range(rows))
    application.close()
    process = start({"RELAY_WEB__LISTEN": AT})
    try:
        _until_served()
        time.sleep(8)  # the first look at the outbox
        for path in PATHS:
            seconds = sorted(_spaced(path) for _ in range(100))
            p50, p99 = seconds[49] * 1000, seconds[98] * 1000
            print(
                f"  {path:<9} {rows:,} rows, {tenants:,} tenants: p50 {p50:.1f} ms  p99 {p99:.1f} ms",
                flush=True,
            )
    finally:
        process.terminate()
        process.wait(60)


def _spaced(path: str) -> float:
    """Further apart than answers are kept."""
    time.sleep(0.3 if path == "/" else 1.05)
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
