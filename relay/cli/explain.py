"""This file is `relay explain`: the page of the run book that a code of the log leads to."""

from importlib import resources
from typing import TYPE_CHECKING, Annotated, Any

import typer

from relay.cli import output

if TYPE_CHECKING:
    from relay.observability.error_codes import Code


def explain(
    code: Annotated[str | None, typer.Argument(help="As in the log: RELAY-101, or 101.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say what a code means and what to do; without one, list them all."""
    from relay.observability import error_codes

    if code is None:
        if as_json:
            output.as_json([_summary(one) for one in error_codes.CODES])
        else:
            rows = [(one.code, one.title, ", ".join(one.kinds + one.events)) for one in error_codes.CODES]
            output.table(("code", "what", "in the log"), rows)
        return
    found = error_codes.find(code)
    if found is None:
        near = ", ".join(f"{one.code} ({one.title})" for one in error_codes.nearest(code))
        hint = f"did you mean {near}?" if near else "relay explain lists all of them"
        output.give_up(f"there is no code {code!r}: {hint}")
    page = _page(found)
    if as_json:
        output.as_json({**_summary(found), "page": page})
        return
    for line in page.rstrip("\n").split("\n"):
        output.line(line)


def _page(code: "Code") -> str:
    return (
        resources.files("relay.observability")
        .joinpath("runbook", f"{code.code}.md")
        .read_text(encoding="utf-8")
    )


def _summary(code: "Code") -> dict[str, Any]:
    return {"code": code.code, "title": code.title, "kinds": code.kinds, "events": code.events}
