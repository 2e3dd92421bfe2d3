"""Measure the delay of single messages, from commit to arrival: alone, and beside a backlog."""

import argparse
import sys
import time
from pathlib import Path

from tools.bench_relay import TENANT, Bench, cpu_seconds, percentile, query, sink, stop, summarised
from tools.stores import Application, Store

_OTHER = "OTHER"


def measure_pick_up(store: Store, folder: Path, samples: int) -> None:
    """Measure from the application's commit to the arrival, on an idle relay; and the idle relay's CPU."""
    with sink() as server:
        bench = Bench.at(store, folder / "pickup", server, 8)
        process = bench.start()
        application = bench.connect()
        delays(application, server, TENANT, "warm", 1)
        print(f"  {summarised(delays(application, server, TENANT, 'pick-up', samples))}")
        before = cpu_seconds(process.pid)
        time.sleep(10)
        share = 10 * (cpu_seconds(process.pid) - before)
        print(f"  idle CPU {share:.2f} % of a core over 10 s")
        application.close()
        stop(process)


def measure_fairness(store: Store, folder: Path, milliseconds: float, options: argparse.Namespace) -> None:
    """Measure single messages of a tenant, on an idle relay and beside another tenant's backlog."""
    print(
        "one message, alone and beside another tenant's backlog; "
        f"a server that answers after {milliseconds:g} ms"
    )
    with sink(milliseconds) as server:
        bench = Bench.at(store, folder, server, options.in_flight, (TENANT, _OTHER))
        process = bench.start()
        application = bench.connect()
        delays(application, server, _OTHER, "warm", 1)
        alone = delays(application, server, _OTHER, "alone", options.samples)
        print(f"  on an idle relay: {summarised(alone)}")
        before = query(server, "summary")["count"]
        bench.fill(options.neighbours, 2000)
        while query(server, "summary")["count"] < before + 500:
            time.sleep(0.05)
        beside = delays(application, server, _OTHER, "beside", options.samples)
        left = options.neighbours - (query(server, "summary")["count"] - before - options.samples)
        print(f"  beside a backlog: {summarised(beside)}; {left:,} of {options.neighbours:,} remained")
        slow, fast = percentile(beside, 0.99), percentile(alone, 0.99)
        to_answer = (slow + milliseconds) / (fast + milliseconds)
        print(
            f"  p99 beside and alone: {slow / fast:.2f} times to the arrival, {to_answer:.2f} to the answer"
        )
        application.close()
        stop(process)
        if left <= 0:
            sys.exit("the backlog was drained before the last sample; increase --neighbours")


def delays(application: Application, server: str, tenant: str, name: str, samples: int) -> list[float]:
    """Send messages one by one; the milliseconds from commit to arrival, ascending."""
    waits = []
    for sample in range(samples):
        message_id = f"{name}-{sample}"
        application.insert([(tenant, b"x" * 2000, message_id)])
        committed = time.monotonic()
        waits.append((query(server, f"arrival/{message_id}")["at"] - committed) * 1000)
        time.sleep(0.02 + 0.0007 * (sample % 17))  # not synchronised with the relay's polling
    return sorted(waits)
