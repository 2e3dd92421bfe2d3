"""`relay check`: settings, outbox, and each tenant's initialisation at ION, step by step."""

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from relay.cli import output

if TYPE_CHECKING:
    from relay.config.settings import Settings
    from relay.core.validation import Problem
    from relay.daemon.preflight import CheckStep

_MAX_NAMES = 50
"""More tenants than this are counted, not named."""


def check(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check the settings, the outbox and the connection to ION.

    Each tenant's initialisation is run step by step; no message is sent. The exit code is 1 if a step
    fails, 2 if the settings are wrong; each failure is printed with a hint.
    """
    from relay.cli.common import load_settings
    from relay.config.settings import SettingsError
    from relay.daemon import preflight

    try:
        settings = load_settings(warn=False)  # they are in the result
    except SettingsError as error:
        if as_json:
            _print_json([_wrong(problem) for problem in error.problems], ())
            raise typer.Exit(output.USAGE_ERROR) from None
        raise
    checked = asyncio.run(preflight.check(settings))
    steps = [_configured(settings), *map(_wrong, settings.broken), *map(_step, checked), *_tokens(settings)]
    if as_json:
        _print_json(steps, settings.unknown)
    else:
        _print(steps, settings.unknown)
    raise typer.Exit(output.SUCCESS if all(step["ok"] for step in steps) else output.FAILURE)


def _tokens(settings: "Settings") -> list[dict[str, Any]]:
    """The files with the tokens of the page, as `relay run` reads them."""
    from relay.config.settings import SettingsError
    from relay.web.token_files import access_tokens

    if settings.web.listen == "off":
        return []
    try:
        access_tokens(settings.web)
    except SettingsError as error:
        return [_wrong(problem) for problem in error.problems]
    return []


def _configured(settings: "Settings") -> dict[str, Any]:
    names = [name for name in settings.tenants if settings.owns(name)]
    others = len(settings.tenants) - len(names)
    detail, hint = f"tenants: {', '.join(names)}" if len(names) <= _MAX_NAMES else f"{len(names)} tenants", ""
    if not settings.tenants:
        detail = "no tenant is configured"
        hint = "set RELAY_TENANTS__<TENANT>__LOGICAL_ID and its credentials, or RELAY_TENANTS_DIR"
    elif not names:
        detail, hint = "this relay owns no tenant", "change RELAY_ONLY_TENANTS or RELAY_NOT_TENANTS"
    elif others:
        detail += f" (and {others} owned by other relays)"
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


def _step(step: "CheckStep") -> dict[str, Any]:
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
    output.print_json({"ok": all(step["ok"] for step in steps), "steps": steps, "unknown": names})


def _result(step: dict[str, Any]) -> str:
    """A hint beside a success is a warning."""
    if not step["ok"]:
        return "failed"
    return "warning" if step["hint"] else "ok"


def _print(steps: Sequence[dict[str, Any]], unknown: "Sequence[Problem]") -> None:
    rows = [(_result(step), step["tenant"], step["step"], step["detail"]) for step in steps]
    output.print_table(("", "tenant", "step", "detail"), rows)
    for step in steps:
        if step["hint"]:
            tenant = f"{step['tenant']}, " if step["tenant"] else ""
            page = f" ({step['code']})" if step["code"] else ""
            output.print_line(f"hint: {tenant}{step['step']}: {step['hint']}{page}")
    for problem in unknown:
        output.print_line(f"note: {problem}")
