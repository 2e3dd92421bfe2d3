"""The scale demo: relays that share a PostgreSQL outbox are killed, frozen, added and replaced.

    python -m tools.demo_scale [--directory FOLDER]

The server is that of the tests (or the one that RELAY_TEST_POSTGRES_URL names), ION is the simulator. Exit
code 0 if nothing was lost, sent against ION's rules, out of order or sent twice without a cause; otherwise 1.
"""

import argparse
import asyncio
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from statistics import median

from relay.demo.run import INTERRUPTED, cancel_on_signals
from relay.sandbox import Sandbox, SandboxTenant
from tests.support.postgres import Cluster, connected, running_cluster
from tools.scale_fleet import DOCUMENT, Application, Fleet, ScaleError
from tools.scale_picture import draw
from tools.scale_verdict import Evidence, Outage, Verdict, assess

LEASE_SECONDS = 3
TENANTS = [f"T{number:02}_PRD" for number in range(1, 61)]
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_MAX_SHOWN = 20


class Scenario:
    """What happens to the replicas, one thing after the other."""

    def __init__(self, fleet: Fleet, report: Callable[[str], None]) -> None:
        self._fleet, self._report = fleet, report
        self.outages: list[Outage] = []
        self.marks: list[tuple[float, str]] = []
        self.problems: list[str] = []

    async def run(self) -> None:
        """All of it, while messages are enqueued."""
        await self._fleet.until_shared(TENANTS)
        self._report(f"{len(TENANTS)} tenants are shared: {self._shares()}")
        await asyncio.sleep(2)
        await self._kill("a")
        await self._freeze("b")
        self._mark("d joins")
        await self._fleet.start("d")
        await self._fleet.until_shared(TENANTS)
        self._report(f"d joined, and the others released its share: {self._shares()}")
        await asyncio.sleep(1)
        for name in ("b", "c", "d"):
            await self._replace(name)
        await asyncio.sleep(1)

    async def _kill(self, name: str) -> None:
        owned = self._fleet.owned(name)
        at = self._mark(f"kill -9 {name}", self._fleet.replicas[name].send(signal.SIGKILL))
        self.outages.append(Outage("killed", name, owned, at))
        self._report(
            f"kill -9 {name}, which owned {len(owned)} tenants; its leases expire after {LEASE_SECONDS} s"
        )
        await self._until_taken_over(name)
        self._report(f"all of them taken over after {time.time() - at:.1f} s: {self._shares()}")
        await self._fleet.until_shared(TENANTS)
        await asyncio.sleep(1)

    async def _freeze(self, name: str) -> None:
        """Freeze it for longer than its lease; after the thaw it must notice that others own its tenants."""
        owned = self._fleet.owned(name)
        replica = self._fleet.replicas[name]
        at = self._mark(f"{name} freezes", replica.send(signal.SIGSTOP))
        self._report(f"SIGSTOP {name}, which owned {len(owned)} tenants")
        await self._until_taken_over(name)
        self._report(f"all of them taken over after {time.time() - at:.1f} s: {self._shares()}")
        await asyncio.sleep(max(at + LEASE_SECONDS + 1 - time.time(), 0))
        lost = len(replica.relay.said("tenant.lost"))
        end = self._mark(f"{name} thaws", replica.send(signal.SIGCONT))
        self.outages.append(Outage("frozen", name, owned, at, end))
        await self._fleet.until(
            lambda: len(replica.relay.said("tenant.lost")) - lost >= len(owned),
            "the thawed replica to notice",
        )
        self._report(f"SIGCONT {name}: it noticed after {time.time() - end:.1f} s and gave them up")
        await self._fleet.until_shared(TENANTS)
        self._report(f"it has a share again: {self._shares()}")

    async def _until_taken_over(self, name: str) -> None:
        await self._fleet.until(
            lambda: not self._fleet.owned(name), f"the tenants of {name} to be taken over"
        )

    async def _replace(self, name: str) -> None:
        """Replace it as a rolling update does."""
        at = self._mark(f"replace {name}", time.time())
        self.problems += await self._fleet.stop(name)
        stopped = time.time()
        await self._fleet.start(name)
        await self._fleet.until_shared(TENANTS)
        self._report(
            f"SIGTERM {name}: ended in {stopped - at:.1f} s; started again, and shared after"
            f" {time.time() - at:.1f} s: {self._shares()}"
        )

    def _mark(self, text: str, at: float | None = None) -> float:
        at = time.time() if at is None else at
        self.marks.append((at, text))
        return at

    def _shares(self) -> str:
        wanted = (name for name, replica in self._fleet.replicas.items() if replica.is_wanted)
        return ", ".join(f"{name} {len(self._fleet.owned(name))}" for name in wanted)


async def play(cluster: Cluster, folder: Path) -> Evidence:
    """Run the demo, from an empty outbox to the evidence."""
    cancel_on_signals()
    began = time.time()

    def report(text: str) -> None:
        print(f"{time.time() - began:6.1f} s  {text}", flush=True)

    sandbox = Sandbox(
        [SandboxTenant(name, f"lid://{name.lower()}.orders.1", [DOCUMENT]) for name in TENANTS],
        payload_bytes=0,
    )
    async with cluster.outbox() as url, connected(url) as database, sandbox:
        sandbox.faults(call="post", delay=0.05)
        settings = sandbox.environment(folder / "credentials")
        settings |= {"RELAY_OUTBOX__URL": url, "RELAY_LEASE_SECONDS": str(LEASE_SECONDS)}
        fleet, application = Fleet(folder, settings), Application(database, TENANTS)
        scenario = Scenario(fleet, report)
        try:
            await fleet.start("a", "b", "c")
            began = time.time()
            report("PostgreSQL, simulator and the replicas a, b, c run; 300 messages a second are enqueued")
            await _run(scenario, application)
            report("no more messages are enqueued; what waits is delivered")
            await _until_done(sandbox, application, fleet)
            ended = time.time()
            scenario.problems += await fleet.stop_all()
            unsettled = await application.count_unsettled()
        finally:
            await asyncio.to_thread(fleet.end)
        return Evidence(
            began, ended, len(TENANTS), application.enqueued, sandbox.messages(),
            [str(violation) for violation in sandbox.violations], fleet.moves(), scenario.outages,
            scenario.marks, unsettled, scenario.problems,
        )  # fmt: skip


async def _run(scenario: Scenario, application: Application) -> None:
    traffic = asyncio.create_task(application.enqueue_steadily())
    try:
        await scenario.run()
    except ScaleError as error:
        scenario.problems.append(str(error))
    finally:
        application.stopping.set()
        await traffic


async def _until_done(sandbox: Sandbox, application: Application, fleet: Fleet) -> None:
    """Wait until all messages are taken and settled; after half a minute the verdict names the others."""
    with suppress(ScaleError):
        await fleet.until(lambda: sandbox.record.count() >= len(application.enqueued), "the last message", 30)
        for _ in range(100):
            if not await application.count_unsettled():
                return
            await asyncio.sleep(0.1)


# --- the verdict ----------------------------------------------------------------------------------------


def format_verdict(evidence: Evidence, verdict: Verdict) -> str:
    """The verdict, one fact in each line."""
    lines = [
        f"{len(evidence.enqueued)} messages of {evidence.tenants} tenants enqueued",
        f"{verdict.delivered} delivered, {verdict.lost} lost, {len(evidence.violations)} violations",
        f"{verdict.pairs} pairs of neighbours of one key: "
        + (
            "all in order"
            if not any(one.startswith("out of order") for one in verdict.wrong)
            else "NOT in order"
        ),
        f"median {verdict.median * 1000:.0f} ms from enqueue to custody, slowest {verdict.slowest:.1f} s",
        f"{sum(verdict.twice.values())} sent twice under the same id",
        *(f"  {count}: {why}" for why, count in verdict.twice.items() if count),
    ]
    for outage, seconds in verdict.takeovers:
        if seconds:
            lines.append(
                f"{outage.replica} {outage.how}: its {len(outage.tenants)} tenants taken over after"
                f" {seconds[0]:.1f} s (first), {median(seconds):.1f} s (median), {seconds[-1]:.1f} s (last)"
            )
    return "\n".join(lines)


def run(folder: Path) -> int:
    """Run the demo, print its verdict, draw its picture; the exit code."""
    try:
        with running_cluster() as cluster:
            try:
                evidence = asyncio.run(play(cluster, folder))
            finally:
                for number in _SIGNALS:  # the clean-up is not disturbed
                    signal.signal(number, signal.SIG_IGN)
    except (asyncio.CancelledError, KeyboardInterrupt):
        print(f"\nInterrupted; every process has ended too. Logs: {folder}", file=sys.stderr)
        return INTERRUPTED
    except (ScaleError, OSError, RuntimeError) as error:
        print(f"make demo-scale: {error}\nLogs: {folder}", file=sys.stderr)
        return 1
    verdict = assess(evidence)
    picture = folder / "shares.svg"
    picture.write_text(draw(evidence, verdict), encoding="utf-8")
    print(f"\n{format_verdict(evidence, verdict)}\npicture: {picture}\nlogs:    {folder}")
    for text in verdict.wrong[:_MAX_SHOWN]:
        print(f"WRONG: {text}")
    if len(verdict.wrong) > _MAX_SHOWN:
        print(f"WRONG: and {len(verdict.wrong) - _MAX_SHOWN} more")
    print("Nothing is wrong." if not verdict.wrong else f"{len(verdict.wrong)} things are wrong.")
    return 1 if verdict.wrong else 0


def main() -> int:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m tools.demo_scale", description=__doc__)
    parser.add_argument(
        "--directory", type=Path, help="where logs and picture go; otherwise a new temporary folder"
    )
    given = parser.parse_args()
    folder: Path = (given.directory or Path(tempfile.mkdtemp(prefix="relay-demo-scale-"))).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    return run(folder)


if __name__ == "__main__":
    sys.exit(main())
