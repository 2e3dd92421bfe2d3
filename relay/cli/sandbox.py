"""This file is `relay sandbox`: a stand-in ION to serve, and to ask and command while it runs."""

import asyncio
import errno
import json
import sys
import tempfile
import urllib.parse
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from relay.sandbox import remote
from relay.sandbox.running import read_tenant, read_weather, serve
from relay.sandbox.server import MAX_MESSAGE_BYTES, Sandbox
from relay.sandbox.tenants import DEFAULT_DOCUMENTS
from relay.sandbox.weather import WeatherError

PORT = 8481
TENANTS = ("ACME_PRD,lid://acme.orders.1", "GLOBEX_TST,lid://globex.orders.1,oauth1")

sandbox_app = typer.Typer(
    help="A stand-in ION to try the relay on, with weather to order.", invoke_without_command=True
)
weather_app = typer.Typer(help="Order weather of a sandbox that runs.", invoke_without_command=True)
sandbox_app.add_typer(weather_app, name="weather")

Url = Annotated[str, typer.Option("--url", help="Where the sandbox is.")]
Tenant = Annotated[str | None, typer.Option("--tenant", help="Of this tenant only.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
_HERE = f"http://127.0.0.1:{PORT}"


@sandbox_app.callback()
def sandbox(
    context: typer.Context,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = PORT,
    tenant: Annotated[
        list[str] | None, typer.Option(help="ID[,LOGICAL_ID][,oauth1|oauth2]; repeat for more.")
    ] = None,
    accept: Annotated[list[str] | None, typer.Option(help="A document to accept; repeat for more.")] = None,
    weather: Annotated[Path | None, typer.Option(help="Rules to begin with, TOML or JSON.")] = None,
    directory: Annotated[
        Path | None, typer.Option(help="For .ionapi files and credentials; kept ones are used again.")
    ] = None,
    keep_payloads: Annotated[bool, typer.Option(help="Keep the newest payloads, up to 64 MiB.")] = True,
    max_message_bytes: Annotated[
        int, typer.Option(min=1, help="Larger documents are answered 413.")
    ] = MAX_MESSAGE_BYTES,
    hot_loop: Annotated[
        int, typer.Option(min=1, help="Failed rounds a second that the judge lets pass.")
    ] = 10,
    ready_file: Annotated[
        Path | None, typer.Option(help="Written once it listens: address, pid, environment, as JSON.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Serve a stand-in ION until SIGINT or SIGTERM, and print the variables that point a relay at it."""
    if context.invoked_subcommand is not None:
        return
    with tempfile.TemporaryDirectory(prefix="relay-sandbox-") as own:
        place = (directory or Path(own)).resolve()
        try:
            tenants = [
                read_tenant(text, accept or list(DEFAULT_DOCUMENTS), place) for text in tenant or TENANTS
            ]
            served = Sandbox(
                tenants,
                port=port,
                max_message_bytes=max_message_bytes,
                payload_bytes=64 * 1024 * 1024 if keep_payloads else 0,
                hot_loop=hot_loop,
            )
            if weather is not None:
                served.order(read_weather(weather))
        except (ValueError, WeatherError) as error:
            _give_up(str(error), 2)
        _run(served, place, as_json, ready_file)


def _run(served: Sandbox, directory: Path, as_json: bool, ready: Path | None) -> None:
    try:
        import uvloop

        factory: Any = uvloop.new_event_loop
    except ImportError:
        factory = None
    try:
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(serve(served, directory, _say, as_json=as_json, ready=ready))
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        _give_up(
            f"port {served.port} on 127.0.0.1 is taken; give another with --port, or 0 for a free one", 2
        )


# --- weather --------------------------------------------------------------------------------------


@weather_app.callback()
def weather_list(context: typer.Context, url: Url = _HERE, as_json: Json = False) -> None:
    """Show the rules that stand, and how often they struck."""
    if context.invoked_subcommand is None:
        _show_rules(_ask(url, "GET", "weather")["weather"], as_json)


@weather_app.command("add")
def weather_add(
    fields: Annotated[
        list[str] | None, typer.Argument(help="FIELD=VALUE, as in call=post status=503.")
    ] = None,
    file: Annotated[Path | None, typer.Option(help="Rules from a TOML or JSON file.")] = None,
    url: Url = _HERE,
    as_json: Json = False,
) -> None:
    """Order one rule by its fields, or those of a file."""
    try:
        rules: list[Any] = [] if file is None else list(read_weather(file))
        rules += [_fields(fields)] if fields else []
    except (ValueError, WeatherError) as error:
        _give_up(str(error), 2)
    if not rules:
        _give_up("give FIELD=VALUE, or --file", 2)
    _show_rules(_ask(url, "POST", "weather", rules)["weather"], as_json)


@weather_app.command("remove")
def weather_remove(rule: str, url: Url = _HERE) -> None:
    """Take one rule away, by its id."""
    _ask(url, "DELETE", f"weather/{urllib.parse.quote(rule, safe='')}")


@weather_app.command("clear")
def weather_clear(url: Url = _HERE) -> None:
    """Take all rules away: fair weather. What they changed of a tenant stays."""
    _ask(url, "DELETE", "weather")


def _fields(texts: list[str]) -> dict[str, Any]:
    """FIELD=VALUE as a rule; a value is JSON where it reads as JSON, and a field given twice is a list."""
    found: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise ValueError(f"{text}: write FIELD=VALUE")
        try:
            read = json.loads(value)
        except ValueError:
            read = value
        found[name] = [*_listed(found[name]), read] if name in found else read
    return found


def _listed(value: object) -> list[object]:
    return value if isinstance(value, list) else [value]


def _show_rules(rules: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        _say(json.dumps(rules) + "\n")
        return
    for rule in rules:
        given = " ".join(f"{k}={v}" for k, v in rule.items() if k not in {"id", "struck", "state"})
        _say(f"{rule['id']}  {rule['state']}, struck {rule['struck']} times  {given}\n")


# --- what it saw ----------------------------------------------------------------------------------


@sandbox_app.command("record")
def record(
    tenant: Tenant = None,
    document: Annotated[str | None, typer.Option(help="Of this document only.")] = None,
    sent_twice: Annotated[bool, typer.Option("--sent-twice", help="Only those that came again.")] = False,
    url: Url = _HERE,
    as_json: Json = False,
) -> None:
    """List the messages it took, in the order of arrival."""
    query = {"tenant": tenant, "document": document, "sent_twice": "1" if sent_twice else None}
    _list(
        url,
        "record",
        "messages",
        query,
        as_json,
        ("tenant_id", "message_id", "document_name", "size", "times"),
    )


@sandbox_app.command("payload")
def payload(tenant_id: str, message_id: str, url: Url = _HERE) -> None:
    """Write the document of one message to standard output, byte for byte."""
    path = "/".join(urllib.parse.quote(part, safe="") for part in (tenant_id, message_id))
    try:
        sys.stdout.buffer.write(remote.fetch(url, "GET", f"record/{path}/payload"))
    except remote.RemoteError as error:
        _give_up(str(error), 2 if error.wrong_use else 1)


@sandbox_app.command("requests")
def requests(
    tenant: Tenant = None,
    call: Annotated[str | None, typer.Option(help="ping, versions, acceptedDocuments, post, token.")] = None,
    url: Url = _HERE,
    as_json: Json = False,
) -> None:
    """List the requests that came, in the order they began."""
    shown = ("tenant_id", "call", "status", "code", "message_id", "why")
    _list(url, "requests", "requests", {"tenant": tenant, "call": call}, as_json, shown)


@sandbox_app.command("violations")
def violations(tenant: Tenant = None, url: Url = _HERE, as_json: Json = False) -> None:
    """List what clients did against the guide's sequence; exit code 1 if there is any."""
    shown = ("tenant_id", "kind", "message_id", "reason")
    if _list(url, "violations", "violations", {"tenant": tenant}, as_json, shown):
        raise typer.Exit(1)


@sandbox_app.command("summary")
def summary(url: Url = _HERE) -> None:
    """Print what it took and saw, by tenant, as JSON."""
    _say(json.dumps(_ask(url, "GET", ""), indent=2) + "\n")


def _list(
    url: str, path: str, name: str, query: dict[str, str | None], as_json: bool, shown: tuple[str, ...]
) -> int:
    """Print a list, one item a line; how many there were."""
    number = 0
    try:
        for item in remote.pages(url, path, name, query):
            number += 1
            when = datetime.fromtimestamp(item["at"], UTC).isoformat(timespec="milliseconds")
            line = "  ".join(str(item[key]) for key in shown if item[key] not in {None, ""})
            _say(json.dumps(item) + "\n" if as_json else f"{when}  {line}\n")
    except remote.RemoteError as error:
        _give_up(str(error), 2 if error.wrong_use else 1)
    return number


def _ask(url: str, method: str, path: str, content: object = None) -> Any:
    try:
        return remote.ask(url, method, path, content)
    except remote.RemoteError as error:
        _give_up(str(error), 2 if error.wrong_use else 1)


def _say(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _give_up(text: str, code: int) -> NoReturn:
    typer.echo(f"relay sandbox: {text}", err=True)
    raise typer.Exit(code)
