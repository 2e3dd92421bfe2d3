"""This file is `relay check`: configuration, outbox, and every tenant's way to ION, step by step."""

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from relay.cli import say

if TYPE_CHECKING:
    from relay.check import Step
    from relay.model import Problem
    from relay.settings import Settings


def check(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check settings, outbox and the way to ION.

    Every tenant's initialisation is tried step by step; no message is sent. The exit code is 1 if a step
    fails, 2 if the settings are wrong, and each failure comes with its mend.
    """
    from relay import check as checks
    from relay.cli.desk import settings
    from relay.settings import SettingsError

    try:
        known = settings()
    except SettingsError as error:
        if as_json:
            _print_json([_wrong(problem) for problem in error.problems], ())
            raise typer.Exit(say.WRONG) from None
        raise
    steps = asyncio.run(checks.check(known))
    fine = bool(known.tenants) and all(step.ok for step in steps)
    if as_json:
        _print_json([_configured(known), *map(_told, steps)], known.unknown)
    else:
        _print([_configured(known), *map(_told, steps)], known.unknown)
    raise typer.Exit(say.FINE if fine else say.TROUBLE)


def _configured(known: "Settings") -> dict[str, Any]:
    names = ", ".join(known.tenants)
    mend = "" if names else "set RELAY_TENANTS__<TENANT>__LOGICAL_ID and its credentials"
    detail = f"tenants: {names}" if names else "no tenant is configured"
    return {"tenant": None, "step": "configuration", "ok": bool(names), "detail": detail, "mend": mend}


def _wrong(problem: "Problem") -> dict[str, Any]:
    detail = f"{problem.field}: {problem.what}"
    return {"tenant": None, "step": "configuration", "ok": False, "detail": detail, "mend": problem.mend}


def _told(step: "Step") -> dict[str, Any]:
    return {
        "tenant": step.tenant,
        "step": step.what,
        "ok": step.ok,
        "detail": step.detail,
        "mend": step.mend,
    }


def _print_json(steps: Sequence[dict[str, Any]], unknown: "Sequence[Problem]") -> None:
    names = [{"name": problem.field, "what": problem.what, "mend": problem.mend} for problem in unknown]
    say.as_json({"ok": all(step["ok"] for step in steps), "steps": steps, "unknown": names})


def _print(steps: Sequence[dict[str, Any]], unknown: "Sequence[Problem]") -> None:
    rows = [
        ("ok" if step["ok"] else "failed", step["tenant"], step["step"], step["detail"]) for step in steps
    ]
    say.table(("", "tenant", "step", "detail"), rows)
    for step in steps:
        if not step["ok"]:
            who = f"{step['tenant']}, " if step["tenant"] else ""
            say.line(f"mend: {who}{step['step']}: {step['mend']}")
    for problem in unknown:
        say.line(f"note: {problem}")
