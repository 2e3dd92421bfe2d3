"""The demo from start to exit code: set up, run the scenario, collect the evidence, print the verdict."""

import asyncio
import json
import signal
import sqlite3
import sys
import time
from contextlib import closing, suppress
from datetime import datetime

from rich.console import Console

from relay.demo.application import OrderApplication
from relay.demo.scenario import Scenario
from relay.demo.screen import OutboxWatch, Screen
from relay.demo.stage import DemoFolder, Stage
from relay.demo.timeline import draw
from relay.demo.verdict import Evidence, OutboxRow, as_json, assess, format_summary
from relay.demo.workload import ACME, LATE, REFUSED, WITHDRAWN
from relay.sandbox import Sandbox

INTERRUPTED = 130
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_MIN_COMPRESSED = 4096
"""Bytes: smaller messages are not compressed."""


def run(folder: DemoFolder, *, json_wanted: bool) -> int:
    """Run the demo; the exit code: 0 if nothing is wrong, 1 if something is, 130 if it was interrupted."""
    try:
        evidence = asyncio.run(_play(folder, Screen(as_json=json_wanted)))
    except asyncio.CancelledError:
        sys.stderr.write(
            f"\nrelay demo: interrupted; the relay has ended too. Outbox and log: {folder.path}\n"
        )
        return INTERRUPTED
    except OSError as error:
        sys.stderr.write(f"relay demo: {error}\nOutbox and log: {folder.path}\n")
        return 1
    verdict = assess(evidence)
    summary = json.dumps(as_json(verdict, evidence) | folder.as_json(), indent=2, ensure_ascii=False) + "\n"
    folder.summary.write_text(summary, encoding="utf-8")
    folder.picture.write_text(draw(evidence, verdict), encoding="utf-8")
    if json_wanted:
        sys.stdout.write(summary)
    else:
        console = Console(highlight=False, soft_wrap=True)
        files = {"picture": folder.picture, "outbox": folder.outbox, "relay's log": folder.log}
        width = console.width if console.is_terminal else None
        console.print(format_summary(verdict, evidence, files, width))
    return 0 if verdict.fine else 1


async def _play(folder: DemoFolder, screen: Screen) -> Evidence:
    cancel_on_signals()
    began = time.time()

    def report(tenant: str, text: str) -> None:
        screen.report(time.time() - began, tenant, text)

    report(
        "", f"Files are in {folder.path}. Retry delays are short here, 0.2 s growing to 3 s, to save time."
    )
    with screen.drawing:
        async with Stage(folder) as stage:
            application = OrderApplication(folder.outbox)
            watch = OutboxWatch(
                folder.outbox, lambda: screen.refresh(time.time() - began, watch.tenants, scenario.active)
            )
            scenario = Scenario(stage, application, watch, report)
            polling = asyncio.create_task(watch.poll_forever())
            try:
                began = time.time()
                await scenario.run()
                await watch.poll()
            except* (OSError, sqlite3.Error) as errors:
                scenario.problems += map(str, errors.exceptions)
            finally:
                polling.cancel()
                with suppress(asyncio.CancelledError):
                    await polling
            if code := await stage.stop_relay():
                scenario.problems.append(f"the relay ended with exit code {code}")
            return await _collect(began, stage, application, watch, scenario)


async def _collect(
    began: float, stage: Stage, application: OrderApplication, watch: OutboxWatch, scenario: Scenario
) -> Evidence:
    """All that is known after the relay has ended."""
    ended, sandbox = time.time(), stage.sandbox
    answers: dict[str, dict[str, int]] = {}
    for (_, call, status), count in sorted(sandbox.record.counts.items(), key=str):
        by_status = answers.setdefault(call, {})
        by_status[str(status)] = by_status.get(str(status), 0) + count
    return Evidence(
        began=began,
        ended=ended,
        enqueued=application.enqueued,
        rows=await asyncio.to_thread(_read_rows, stage.folder),
        taken=sandbox.messages(),
        violations=[f"{one.tenant_id}: {one.kind}: {one.reason}" for one in sandbox.violations],
        refused=frozenset({REFUSED}),
        unsteady=frozenset({(ACME, WITHDRAWN), (ACME, LATE)}),
        pings=sandbox.requests(call="ping"),
        compressed=_count_compressed(sandbox),
        answers=answers,
        faults=scenario.faults,
        states=watch.state_periods(ended),
        killed_at=scenario.killed_at,
        restarted_at=scenario.restarted_at,
        problems=scenario.problems,
    )


def _count_compressed(sandbox: Sandbox) -> int:
    large = [taken for taken in sandbox.messages() if taken.size >= _MIN_COMPRESSED]
    kept = [sandbox.record.content(taken.tenant_id, taken.message_id) for taken in large]
    return sum(one is not None and one.parameters.get("encoding") == "DEFLATE" for one in kept)


def _read_rows(folder: DemoFolder) -> dict[int, OutboxRow]:
    with closing(sqlite3.connect(folder.outbox, timeout=5)) as connection:
        rows = connection.execute("SELECT id, state, reason, settled_at FROM relay_outbox").fetchall()
    return {
        row: OutboxRow(state, reason, None if at is None else datetime.fromisoformat(at).timestamp())
        for row, state, reason, at in rows
    }


def cancel_on_signals() -> None:
    """Cancel this task at Ctrl-C, SIGTERM or SIGHUP, once: a second signal does not disturb the clean-up."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None

    def cancel() -> None:
        if not task.cancelling():
            task.cancel()

    for number in _SIGNALS:
        loop.add_signal_handler(number, cancel)
