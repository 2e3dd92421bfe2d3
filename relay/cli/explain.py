"""`relay explain`: the run book page of an error code."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from relay.cli import output

if TYPE_CHECKING:
    from relay.observability.error_codes import Code


def explain(
    code: Annotated[str | None, typer.Argument(help="A code from the log: RELAY-101, or 101.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Explain an error code; without one, list all codes."""
    from relay.observability import error_codes

    if code is None:
        if as_json:
            output.print_json([_summary(one) for one in error_codes.CODES])
        else:
            rows = [(one.code, one.title, ", ".join(one.kinds + one.events)) for one in error_codes.CODES]
            output.print_table(("code", "meaning", "in the log"), rows)
        return
    found = error_codes.find(code)
    if found is None:
        near = ", ".join(f"{one.code} ({one.title})" for one in error_codes.nearest(code))
        hint = f"did you mean {near}?" if near else "list all codes with: relay explain"
        output.fail(f"there is no code {code!r}: {hint}")
    page = error_codes.page_of(found)
    if as_json:
        output.print_json({**_summary(found), "page": page})
        return
    for line in page.rstrip("\n").split("\n"):
        output.print_line(line)


def _summary(code: "Code") -> dict[str, Any]:
    return {"code": code.code, "title": code.title, "kinds": code.kinds, "events": code.events}
