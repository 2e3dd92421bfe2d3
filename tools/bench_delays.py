"""This file is how long single messages take, from commit to arrival: alone, and beside a backlog."""

import argparse
import sys
import time
from pathlib import Path

from tools.bench_relay import TENANT, Bench, ask, percentile, seconds_of_processor, sink, stop, told
from tools.stores import Application, Store

_OTHER = "OTHER"


def measure_pick_up(store: Store, folder: Path, samples: int) -> None:
    """From the application's commit to the arrival at the far side, on an otherwise idle relay; idle CPU."""
    with sink() as far:
        bench = Bench.at(store, folder / "pickup", far, 8)
        process = bench.start()
        application = bench.connect()
        delays(application, far, TENANT, "warm", 1)
        print(f"  {told(delays(application, far, TENANT, 'pick-up', samples))}")
        before = seconds_of_processor(process.pid)
        time.sleep(10)
        share = 10 * (seconds_of_processor(process.pid) - before)
        print(f"  idle CPU {share:.2f} % of a core over 10 s")
        application.close()
        stop(process)


def measure_fairness(store: Store, folder: Path, milliseconds: float, options: argparse.Namespace) -> None:
    """One tenant's single messages, on an idle relay and beside another tenant's backlog."""
    pace = f"a far side that answers after {milliseconds:g} ms"
    print(f"one message, alone and beside another tenant's backlog; {pace}")
    with sink(milliseconds) as far:
        bench = Bench.at(store, folder, far, options.in_flight, (TENANT, _OTHER))
        process = bench.start()
        application = bench.connect()
        delays(application, far, _OTHER, "warm", 1)
        alone = delays(application, far, _OTHER, "alone", options.samples)
        print(f"  on an idle relay: {told(alone)}")
        before = ask(far, "summary")["count"]
        bench.fill(options.neighbours, 2000)
        while ask(far, "summary")["count"] < before + 500:
            time.sleep(0.05)
        beside = delays(application, far, _OTHER, "beside", options.samples)
        left = options.neighbours - (ask(far, "summary")["count"] - before - options.samples)
        print(f"  beside a backlog: {told(beside)}; {left:,} of {options.neighbours:,} were left then")
        slow, quick = percentile(beside, 0.99), percentile(alone, 0.99)
        to_answer = (slow + milliseconds) / (quick + milliseconds)
        print(
            f"  p99 beside and alone: {slow / quick:.2f} times to the arrival, {to_answer:.2f} to the answer"
        )
        application.close()
        stop(process)
        if left <= 0:
            sys.exit("the backlog was gone before the last sample; give more --neighbours")


def delays(application: Application, far: str, tenant: str, name: str, samples: int) -> list[float]:
    """Milliseconds from the commit of a message to its arrival, one message after the other, ascending."""
    waits = []
    for sample in range(samples):
        message_id = f"{name}-{sample}"
        application.insert([(tenant, b"x" * 2000, message_id)])
        committed = time.monotonic()
        waits.append((ask(far, f"arrival/{message_id}")["at"] - committed) * 1000)
        time.sleep(0.02 + 0.0007 * (sample % 17))  # not in step with whatever the relay's watch does
    return sorted(waits)
