"""This file is `relay sandbox faults`: order what goes wrong at a sandbox that runs."""

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

Url = Annotated[str, typer.Option("--url", help="Where the sandbox is.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]

_TEXTS = frozenset({"tenant", "call", "error", "text", "add", "withdraw", "versions"})
"""Fields whose value is a text even where it reads as a number: `text=4711`."""

faults_app = typer.Typer(help="Inject faults of a sandbox that runs.", invoke_without_command=True)


@faults_app.callback()
def faults_list(context: typer.Context, url: Url = DEFAULT_URL, as_json: Json = False) -> None:
    """List the faults, and how often each was applied."""
    if context.invoked_subcommand is None:
        _show(ask(url, "GET", "faults")["faults"], as_json)


@faults_app.command("add")
def faults_add(
    fields: Annotated[
        list[str] | None, typer.Argument(help="FIELD=VALUE, as in call=post status=503.")
    ] = None,
    file: Annotated[Path | None, typer.Option(help="Rules from a TOML or JSON file.")] = None,
    url: Url = DEFAULT_URL,
    as_json: Json = False,
) -> None:
    """Order one rule by its fields, or those of a file."""
    try:
        rules: list[Any] = [] if file is None else list(read_faults(file))
        rules += [_rule(fields)] if fields else []
    except (ValueError, FaultError) as error:
        output.give_up(str(error))
    if not rules:
        output.give_up("give FIELD=VALUE, or --file")
    _show(ask(url, "POST", "faults", rules)["faults"], as_json)


@faults_app.command("remove")
def faults_remove(rule: str, url: Url = DEFAULT_URL) -> None:
    """Take one rule away, by its id."""
    ask(url, "DELETE", f"faults/{urllib.parse.quote(rule, safe='')}")


@faults_app.command("clear")
def faults_clear(url: Url = DEFAULT_URL) -> None:
    """Take all rules away: normal operation. What they changed of a tenant stays."""
    ask(url, "DELETE", "faults")


def _rule(texts: list[str]) -> dict[str, Any]:
    """FIELD=VALUE as a rule: numbers, true and false where the field takes them; given twice, a list."""
    found: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise ValueError(f"{text}: write FIELD=VALUE")
        read = value if name in _TEXTS else _plain(value)
        found[name] = [*_listed(found[name]), read] if name in found else read
    return found


def _plain(value: str) -> object:
    try:
        read: object = json.loads(value)
    except ValueError:
        return value
    return read


def _listed(value: object) -> list[object]:
    return value if isinstance(value, list) else [value]


def _show(rules: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        output.as_json(rules)
        return
    for rule in rules:
        given = " ".join(f"{k}={v}" for k, v in rule.items() if k not in {"id", "applied", "state"})
        output.line(f"{rule['id']}  {rule['state']}, applied {rule['applied']} times  {given}")


# --- speaking to a sandbox ------------------------------------------------------------------------


def ask(url: str, method: str, path: str, content: object = None) -> Any:
    """A JSON answer of the sandbox's control interface."""
    try:
        return remote.ask(url, method, path, content)
    except remote.RemoteError as error:
        complain(error)


def complain(error: remote.RemoteError) -> NoReturn:
    """End the command: wrong use, or no sandbox that answers."""
    output.give_up(str(error), output.WRONG if error.wrong_use else output.TROUBLE)
