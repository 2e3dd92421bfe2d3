"""Measure the peak resident memory of the relay with large messages of several tenants.

    python -m tools.bench_memory [--outbox postgres] [--tenants 1 4 10] [--size 5000000]

Payloads are random, so that compression gains nothing: the worst case. The peak (VmHWM) is compared with the
formula of docs/operating.md: `BASE_MIB` and RELAY_MAX_BYTES_IN_MEMORY. The exit code is 1 if one is above.
"""

import argparse
import os
import sys
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

from tools.bench_relay import Bench, query, rate, sink, watch_peak
from tools.stores import Store, running

MIB = 2**20
BASE_MIB = 112
"""What the process needs besides the memory for messages: its code, its connections, its log."""

SMALL = 2000


def names(count: int) -> list[str]:
    """Return the names of the tenants."""
    return [f"T{number:02}" for number in range(count)]


def rows(tenants: list[str], each: int, size: int) -> Iterator[tuple[str, bytes, str]]:
    """Yield the rows of a backlog, the tenants in turn."""
    for _ in range(each):
        for tenant in tenants:
            yield tenant, os.urandom(size), str(uuid.uuid4())


def peak_mib(store: Store, folder: Path, options: argparse.Namespace, tenants: int, size: int) -> float:
    """Drain a backlog of all tenants; the peak in MiB."""
    with sink(options.server_ms) as server:
        bench = Bench.at(store, folder, server, options.in_flight, names(tenants))
        bench.environment["RELAY_MAX_BYTES_IN_MEMORY"] = str(options.budget_mib * MIB)
        application = bench.connect()
        for row in rows(names(tenants), options.each, size):
            application.insert([row])
        application.close()
        process = bench.start("--until-empty")
        peak = watch_peak(process) / 1024
        if process.returncode != 0 or query(server, "summary")["count"] != tenants * options.each:
            sys.exit(
                f"the relay ended with {process.returncode}: {(folder / 'relay.log').read_text()[-3000:]}"
            )
        print(
            f"  {tenants:>3} tenants  {size:>9,} bytes  peak {peak:4.0f} MiB  {rate(server):6.1f}/s",
            flush=True,
        )
        return peak


def main() -> int:
    """Parse the options and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tenants", type=int, nargs="+", default=[1, 4, 10])
    parser.add_argument("--size", type=int, default=5_000_000, help="payload bytes")
    parser.add_argument("--each", type=int, default=24, help="messages of each tenant")
    parser.add_argument("--in-flight", type=int, default=8)
    parser.add_argument("--server-ms", type=float, default=200, help="the server's response time")
    parser.add_argument("--budget-mib", type=int, default=192, help="RELAY_MAX_BYTES_IN_MEMORY")
    parser.add_argument("--outbox", choices=["sqlite", "postgres"], default="sqlite")
    options = parser.parse_args()
    limit, peaks = BASE_MIB + options.budget_mib, []
    print(f"the outbox is on {options.outbox}; the formula allows {BASE_MIB} + {options.budget_mib} MiB")
    with tempfile.TemporaryDirectory(prefix="relay-bench-") as name, running(options.outbox) as store:
        for tenants in options.tenants:
            for size in (SMALL, options.size):
                folder = Path(name) / f"{tenants}-{size}"
                peaks.append(peak_mib(store, folder, options, tenants, size))
    return 0 if max(peaks) <= limit else 1


if __name__ == "__main__":
    sys.exit(main())
