"""This file is `relay check`: configuration, outbox, and every tenant's way to ION, step by step."""

from typing import Annotated

import typer

from relay.cli import say


def check(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check settings, outbox and the way to ION.

    Every tenant's initialisation is tried step by step; no message is sent.

    The exit code is 1 if a step fails, and each step that does comes with its mend.
    """
    from relay import app
    from relay.cli.desk import settings

    found = settings()
    steps = app.check(found)
    failed = [step for step in steps if not step.ok]
    if as_json:
        say.as_json(
            {
                "ok": not failed,
                "unknown": [
                    {"name": problem.field, "what": problem.what, "mend": problem.mend}
                    for problem in found.unknown
                ],
                "steps": [
                    {
                        "tenant": step.tenant,
                        "step": step.what,
                        "ok": step.ok,
                        "detail": step.detail,
                        "mend": step.mend,
                    }
                    for step in steps
                ],
            }
        )
    else:
        rows = [("ok" if step.ok else "failed", step.tenant or "", step.what, step.detail) for step in steps]
        say.table(("", "tenant", "step", "detail"), rows)
        for step in failed:
            say.line(f"{f'{step.tenant}, ' if step.tenant else ''}{step.what}: {step.mend}")
        for problem in found.unknown:
            say.note(f"note: {problem}")
    raise typer.Exit(say.TROUBLE if failed else say.FINE)
