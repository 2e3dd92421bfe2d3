"""`relay sandbox faults`: list, add and remove faults of a running sandbox."""

import json
import urllib.parse
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from relay.cli import output
from relay.sandbox import FaultError, remote
from relay.sandbox.running import read_faults

PORT = 8481
DEFAULT_URL = f"http://127.0.0.1:{PORT}"

Url = Annotated[str, typer.Option("--url", help="Address of the sandbox.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]

_TEXTS = frozenset({"tenant", "call", "error", "text", "add", "withdraw", "versions"})
"""Fields whose value is text even if it looks like a number: `text=4711`."""

faults_app = typer.Typer(help="Inject faults into a running sandbox.", invoke_without_command=True)


@faults_app.callback()
def faults_list(context: typer.Context, url: Url = DEFAULT_URL, as_json: Json = False) -> None:
    """List the active faults, and how often each was applied."""
    if context.invoked_subcommand is None:
        _show(request(url, "GET", "faults")["faults"], as_json)


@faults_app.command("add")
def faults_add(
    fields: Annotated[
        list[str] | None, typer.Argument(help="FIELD=VALUE, for example call=post status=503.")
    ] = None,
    file: Annotated[Path | None, typer.Option(help="Read faults from a TOML or JSON file.")] = None,
    url: Url = DEFAULT_URL,
    as_json: Json = False,
) -> None:
    """Add one fault by its fields, or all faults of a file."""
    try:
        faults: list[Any] = [] if file is None else list(read_faults(file))
        faults += [_fault(fields)] if fields else []
    except (ValueError, FaultError) as error:
        output.fail(str(error))
    if not faults:
        output.fail("give FIELD=VALUE, or --file")
    _show(request(url, "POST", "faults", faults)["faults"], as_json)


@faults_app.command("remove")
def faults_remove(fault_id: Annotated[str, typer.Argument(metavar="ID")], url: Url = DEFAULT_URL) -> None:
    """Remove one fault, by its id."""
    request(url, "DELETE", f"faults/{urllib.parse.quote(fault_id, safe='')}")


@faults_app.command("clear")
def faults_clear(url: Url = DEFAULT_URL) -> None:
    """Remove all faults: normal operation. What a fault changed in a tenant stays."""
    request(url, "DELETE", "faults")


def _fault(texts: list[str]) -> dict[str, Any]:
    """FIELD=VALUE as a fault: JSON values where the field takes them; a repeated field is a list."""
    found: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise ValueError(f"{text}: use the form FIELD=VALUE")
        parsed = value if name in _TEXTS else _parse(value)
        found[name] = [*_as_list(found[name]), parsed] if name in found else parsed
    return found


def _parse(value: str) -> object:
    try:
        parsed: object = json.loads(value)
    except ValueError:
        return value
    return parsed


def _as_list(value: object) -> list[object]:
    return value if isinstance(value, list) else [value]


def _show(faults: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        output.print_json(faults)
        return
    for fault in faults:
        given = " ".join(f"{k}={v}" for k, v in fault.items() if k not in {"id", "applied", "state"})
        output.print_line(f"{fault['id']}  {fault['state']}, applied {fault['applied']} times  {given}")


# --- requests to a sandbox ------------------------------------------------------------------------


def request(url: str, method: str, path: str, content: object = None) -> Any:
    """Call the sandbox's control interface; its JSON response."""
    try:
        return remote.ask(url, method, path, content)
    except remote.RemoteError as error:
        fail_remote(error)


def fail_remote(error: remote.RemoteError) -> NoReturn:
    """End the command with the error of a sandbox, or because none answers."""
    output.fail(str(error), output.USAGE_ERROR if error.wrong_use else output.FAILURE)
