"""This file is `relay check`: configuration, outbox, and every tenant's way to ION, step by step."""

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from relay.cli import output

if TYPE_CHECKING:
    from relay.config.settings import Settings
    from relay.core.validation import Problem
    from relay.daemon.preflight import Step

_NAMED = 50
"""As many tenants are named; more are counted."""


def check(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check settings, outbox and the way to ION.

    Every tenant's initialisation is tried step by step; no message is sent. The exit code is 1 if a step
    fails, 2 if the settings are wrong, and each failure comes with its mend.
    """
    from relay.cli.common import settings
    from relay.config.settings import SettingsError
    from relay.daemon import preflight as checks

    try:
        known = settings()
    except SettingsError as error:
        if as_json:
            _print_json([_wrong(problem) for problem in error.problems], ())
            raise typer.Exit(output.WRONG) from None
        raise
    steps = asyncio.run(checks.check(known))
    told = [_configured(known), *map(_wrong, known.broken), *map(_told, steps)]
    if as_json:
        _print_json(told, known.unknown)
    else:
        _print(told, known.unknown)
    raise typer.Exit(output.FINE if all(step["ok"] for step in told) else output.TROUBLE)


def _configured(known: "Settings") -> dict[str, Any]:
    names = [name for name in known.tenants if known.owns(name)]
    others = len(known.tenants) - len(names)
    detail, hint = f"tenants: {', '.join(names)}" if len(names) <= _NAMED else f"{len(names)} tenants", ""
    if not known.tenants:
        detail = "no tenant is configured"
        hint = "set RELAY_TENANTS__<TENANT>__LOGICAL_ID and its credentials, or RELAY_TENANTS_DIR"
    elif not names:
        detail, hint = "this relay carries no tenant", "change RELAY_ONLY_TENANTS or RELAY_NOT_TENANTS"
    elif others:
        detail += f" ({others} more are left to other relays)"
    return _configuration(detail, hint, ok=not hint)


def _wrong(problem: "Problem") -> dict[str, Any]:
    detail = f"{problem.field}: {problem.what}"
    return _configuration(detail, problem.hint, ok=False)


def _configuration(detail: str, hint: str, *, ok: bool) -> dict[str, Any]:
    from relay.observability import error_codes

    code = None if ok else error_codes.WRONG_SETTINGS.code
    return {
        "tenant": None,
        "step": "configuration",
        "ok": ok,
        "detail": detail,
        "hint": hint,
        "code": code,
    }


def _told(step: "Step") -> dict[str, Any]:
    return {
        "tenant": step.tenant,
        "step": step.what,
        "ok": step.ok,
        "detail": step.detail,
        "hint": step.hint,
        "code": step.code,
    }


def _print_json(steps: Sequence[dict[str, Any]], unknown: "Sequence[Problem]") -> None:
    names = [{"name": problem.field, "what": problem.what, "hint": problem.hint} for problem in unknown]
    output.as_json({"ok": all(step["ok"] for step in steps), "steps": steps, "unknown": names})


def _print(steps: Sequence[dict[str, Any]], unknown: "Sequence[Problem]") -> None:
    rows = [
        ("ok" if step["ok"] else "failed", step["tenant"], step["step"], step["detail"]) for step in steps
    ]
    output.table(("", "tenant", "step", "detail"), rows)
    for step in steps:
        if not step["ok"]:
            who = f"{step['tenant']}, " if step["tenant"] else ""
            page = f" ({step['code']})" if step["code"] else ""
            output.line(f"mend: {who}{step['step']}: {step['hint']}{page}")
    for problem in unknown:
        output.line(f"note: {problem}")
