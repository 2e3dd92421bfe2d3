"""This file is the demo from its first line to its last: put on the stage, told, gathered, judged, drawn."""

import asyncio
import json
import signal
import sqlite3
import sys
import time
from contextlib import closing, suppress
from datetime import datetime
from typing import Any

from rich.console import Console

from relay.demo import summary
from relay.demo.application import Application
from relay.demo.evidence import Again, Evidence, Fate, PingSeen, TakenMessage
from relay.demo.ion import ping_was_fine
from relay.demo.picture import draw
from relay.demo.scenario import Scenario
from relay.demo.screen import Screen, choose
from relay.demo.stage import DemoError, Place, Stage
from relay.demo.verdict import as_json, judge
from relay.demo.watch import DemoWatch
from relay.demo.workload import ACME, LATE, REFUSED, WITHDRAWN

_UNSTEADY = frozenset({(ACME, WITHDRAWN), (ACME, LATE)})
_FATES = "SELECT id, state, reason, settled_at FROM relay_outbox"
INTERRUPTED = 130
_LARGE = 4096
"""Bytes from which on it is worth asking whether a message came compressed."""


def run(place: Place, *, json_wanted: bool) -> int:
    """Show it; the exit code: 0 where everything held, 1 where not, 130 where it was interrupted."""
    screen = choose(as_json=json_wanted)
    try:
        evidence = asyncio.run(_play(place, screen))
    except asyncio.CancelledError:
        sys.stderr.write(f"\nrelay demo: ended early; both processes too. Outbox and logs: {place.folder}\n")
        return INTERRUPTED
    except DemoError as error:
        sys.stderr.write(f"relay demo: {error}\nOutbox and logs: {place.folder}\n")
        return 1
    verdict = judge(evidence)
    facts = as_json(verdict, evidence) | place.as_json()
    place.summary.write_text(json.dumps(facts, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    place.picture.write_text(draw(evidence, verdict), encoding="utf-8")
    if json_wanted:
        sys.stdout.write(place.summary.read_text("utf-8"))
    else:
        console = Console(highlight=False, soft_wrap=True)
        width = console.width if console.is_terminal else None
        console.print(summary.text(verdict, evidence, place, width))
    return 0 if verdict.fine else 1


async def _play(place: Place, screen: Screen) -> Evidence:
    """The whole play."""
    _end_on_signals()
    began = time.time()

    def say(tenant: str, text: str) -> None:
        screen.say(time.time() - began, tenant, text)

    say(
        "",
        f"Everything lies in {place.folder}; retries begin at 0.2 s and grow to 3 s here, to save your time.",
    )
    with screen.drawing():
        async with Stage(place) as stage:
            application = Application(place.outbox)
            watch = DemoWatch(
                place.outbox, lambda: screen.show(time.time() - began, watch.tenants, story.now)
            )
            story = Scenario(stage, application, watch, say)
            looking = asyncio.create_task(watch.look_on())
            try:
                began = time.time()
                await story.tell()
                await watch.look()
            except* (DemoError, sqlite3.Error) as errors:
                story.problems += map(str, errors.exceptions)
            finally:
                looking.cancel()
                with suppress(asyncio.CancelledError):
                    await looking
            code = await stage.stop_relay()
            if code:
                story.problems.append(f"the relay ended with exit code {code}")
            return await _gather(began, stage, application, watch, story)


async def _gather(
    began: float, stage: Stage, application: Application, watch: DemoWatch, story: Scenario
) -> Evidence:
    """Everything that is known, after the relay has ended and before the ION simulator does."""
    ended = time.time()
    taken = await stage.listed("record")
    pings = await stage.listed("requests", call="ping")
    violations = await stage.listed("violations")
    counts = (await stage.ask("GET", ""))["counts"]
    return Evidence(
        began=began,
        ended=ended,
        handed=tuple(application.handed),
        fates=await asyncio.to_thread(_fates, stage.place),
        taken=tuple(
            TakenMessage(
                number=one["number"],
                tenant=one["tenant_id"],
                message_id=one["message_id"],
                document=one["document_name"],
                sha256=one["sha256"],
                at=one["at"],
                again=tuple(Again(again["at"], again["previous_outcome"]) for again in one["redeliveries"]),
            )
            for one in taken
        ),
        violations=tuple(f"{one['tenant_id']}: {one['kind']}: {one['reason']}" for one in violations),
        refused=frozenset({REFUSED}),
        unsteady=_UNSTEADY,
        pings=tuple(PingSeen(one["tenant_id"], one["at"], ping_was_fine(one)) for one in pings),
        compressed=await _compressed(stage, taken),
        answers=_answers(counts),
        faults=tuple(story.faults),
        stretches=watch.stretches(ended),
        killed_at=story.killed_at,
        restarted_at=story.restarted_at,
        problems=tuple(story.problems),
    )


async def _compressed(stage: Stage, taken: list[dict[str, Any]]) -> int:
    """How many of the larger ones ION says came compressed."""
    paths = [f"record/{one['tenant_id']}/{one['message_id']}" for one in taken if one["size"] >= _LARGE]
    kept = [(await stage.ask("GET", path))["parameters"] or {} for path in paths]
    return sum(parameters.get("encoding") == "DEFLATE" for parameters in kept)


def _answers(counts: list[dict[str, Any]]) -> dict[str, dict[str, int]]:
    """The sandbox's counts, of all tenants together. Status 0: left without an answer."""
    found: dict[str, dict[str, int]] = {}
    for one in counts:
        of_call = found.setdefault(one["call"], {})
        of_call[str(one["status"])] = of_call.get(str(one["status"]), 0) + one["count"]
    return found


def _end_on_signals() -> None:
    """Ctrl-C, SIGTERM and a closed terminal end it once; a second signal does not disturb the ending."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None

    def end() -> None:
        if not task.cancelling():
            task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, end)


def _fates(place: Place) -> dict[int, Fate]:
    with closing(sqlite3.connect(place.outbox, timeout=5)) as connection:
        rows = connection.execute(_FATES).fetchall()
    return {
        row: Fate(state, reason, None if at is None else datetime.fromisoformat(at).timestamp())
        for row, state, reason, at in rows
    }
