"""`relay sandbox`: run an ION simulator, and query it while it runs."""

import asyncio
import errno
import json
import sys
import tempfile
import urllib.parse
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from relay.cli import output
from relay.cli.faults import DEFAULT_URL, PORT, Json, Url, fail_remote, faults_app, request
from relay.reports.times import instant
from relay.sandbox import FaultError, Sandbox, remote
from relay.sandbox.certificates import Certificates, tls_context
from relay.sandbox.running import read_faults, read_tenant, serve
from relay.sandbox.server import MAX_MESSAGE_BYTES
from relay.sandbox.tenants import DEFAULT_DOCUMENTS

TENANTS = ("ACME_PRD,lid://acme.orders.1", "GLOBEX_TST,lid://globex.orders.1,oauth1")
_PAYLOAD_BYTES = 64 * 1024 * 1024

sandbox_app = typer.Typer(help="Run an ION simulator, with faults to inject.", invoke_without_command=True)
sandbox_app.add_typer(faults_app, name="faults")

Port = Annotated[int, typer.Option(min=0, max=65535, help="Port on 127.0.0.1; 0 selects a free one.")]
Tenants = Annotated[
    list[str] | None,
    typer.Option("--tenant", help="A tenant: ID[,LOGICAL_ID][,oauth1|oauth2]; repeat for more."),
]
Accept = Annotated[list[str] | None, typer.Option(help="A document to accept; repeat for more.")]
FaultsFile = Annotated[Path | None, typer.Option(help="Faults to start with: a TOML or JSON file.")]
Directory = Annotated[
    Path | None, typer.Option(help="Directory for .ionapi files and credentials; existing ones are reused.")
]
KeepPayloads = Annotated[bool, typer.Option(help="Keep the newest payloads, up to 64 MiB.")]
MaxMessageBytes = Annotated[int, typer.Option(min=1, help="Larger documents are rejected with 413.")]
HotLoop = Annotated[
    int, typer.Option(min=1, help="More failed cycles per second than this are reported as a hot loop.")
]
Tls = Annotated[bool, typer.Option("--tls", help="Serve by TLS, with a certificate of an own test CA.")]
ClientCertificate = Annotated[
    bool, typer.Option("--client-certificate", help="Demand a certificate of that CA from clients.")
]
ReadyFile = Annotated[
    Path | None, typer.Option(help="File to write once it listens: address, pid and environment as JSON.")
]

Tenant = Annotated[str | None, typer.Option("--tenant", help="Only this tenant.")]


@sandbox_app.callback()
def sandbox(
    context: typer.Context,
    port: Port = PORT,
    tenant: Tenants = None,
    accept: Accept = None,
    faults: FaultsFile = None,
    directory: Directory = None,
    keep_payloads: KeepPayloads = True,
    max_message_bytes: MaxMessageBytes = MAX_MESSAGE_BYTES,
    hot_loop: HotLoop = 10,
    tls: Tls = False,
    client_certificate: ClientCertificate = False,
    ready_file: ReadyFile = None,
    as_json: Json = False,
) -> None:
    """Run an ION simulator until SIGINT or SIGTERM; prints the variables that point a relay at it."""
    if context.invoked_subcommand is not None:
        return
    if client_certificate and not tls:
        output.fail("--client-certificate needs --tls beside it")
    with tempfile.TemporaryDirectory(prefix="relay-sandbox-") as temporary:
        folder = (directory or Path(temporary)).resolve()
        documents = accept or list(DEFAULT_DOCUMENTS)
        try:
            certificates = Certificates.make(folder / "tls") if tls else None
            served = Sandbox(
                [read_tenant(text, documents, folder) for text in tenant or TENANTS],
                port=port,
                max_message_bytes=max_message_bytes,
                payload_bytes=_PAYLOAD_BYTES if keep_payloads else 0,
                hot_loop=hot_loop,
                tls=tls_context(certificates, client_certificate=client_certificate),
            )
            served.add_faults(read_faults(faults) if faults is not None else [])
        except (ValueError, FaultError, OSError) as error:
            output.fail(str(error))
        _run(served, folder, certificates, as_json, ready_file)


def _run(
    served: Sandbox, directory: Path, certificates: Certificates | None, as_json: bool, ready: Path | None
) -> None:
    try:
        import uvloop

        factory: Any = uvloop.new_event_loop
    except ImportError:  # only on Linux
        factory = None
    try:
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(
                serve(served, directory, _announce, certificates=certificates, as_json=as_json, ready=ready)
            )
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            output.fail(
                f"port {served.port} on 127.0.0.1 is in use; give another with --port, or 0 for a free one"
            )
        output.fail(str(error))


def _announce(text: str) -> None:
    """Write at once, also into a pipe: a script waits for it."""
    sys.stdout.write(text)
    output.flush()


# --- queries -------------------------------------------------------------------------------------


@sandbox_app.command("record")
def record(
    tenant: Tenant = None,
    document: Annotated[str | None, typer.Option(help="Only this document.")] = None,
    sent_twice: Annotated[
        bool, typer.Option("--sent-twice", help="Only messages that were received more than once.")
    ] = False,
    url: Url = DEFAULT_URL,
    as_json: Json = False,
) -> None:
    """List the accepted messages in order of arrival.

    JSON is printed as one object per line.
    """
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
def payload(tenant_id: str, message_id: str, url: Url = DEFAULT_URL) -> None:
    """Write the document of a message to standard output."""
    path = "/".join(urllib.parse.quote(part, safe="") for part in (tenant_id, message_id))
    try:
        sys.stdout.buffer.write(remote.fetch(url, "GET", f"record/{path}/payload"))
    except remote.RemoteError as error:
        fail_remote(error)


@sandbox_app.command("requests")
def requests(
    tenant: Tenant = None,
    call: Annotated[
        str | None, typer.Option(help="Only this call: ping, versions, acceptedDocuments, post or token.")
    ] = None,
    url: Url = DEFAULT_URL,
    as_json: Json = False,
) -> None:
    """List the requests in order of arrival.

    JSON is printed as one object per line.
    """
    shown = ("tenant_id", "call", "status", "code", "message_id", "why")
    _list(url, "requests", "requests", {"tenant": tenant, "call": call}, as_json, shown)


@sandbox_app.command("violations")
def violations(tenant: Tenant = None, url: Url = DEFAULT_URL, as_json: Json = False) -> None:
    """List what clients did against the protocol.

    The exit code is 1 if there is any violation.
    """
    shown = ("tenant_id", "kind", "message_id", "reason")
    if _list(url, "violations", "violations", {"tenant": tenant}, as_json, shown):
        raise typer.Exit(output.FAILURE)


@sandbox_app.command("summary")
def summary(url: Url = DEFAULT_URL) -> None:
    """Print counts of messages and requests by tenant, as JSON."""
    output.print_json(request(url, "GET", ""))


@sandbox_app.command("activate")
def activate(
    tenant_id: str,
    application: Annotated[
        str, typer.Option(help="URL of the application, without /service: http://127.0.0.1:8482/ACME_PRD.")
    ],
    consumer_key: Annotated[str, typer.Option(help="Consumer key that the application issued for ION.")],
    consumer_secret: Annotated[str, typer.Option(help="Secret of that key.")],
    url: Url = DEFAULT_URL,
    as_json: Json = False,
) -> None:
    """Activate a bidirectional connection point as ION does.

    The simulator calls the application first: if ping, versions or protocol fails, the connection point
    stays inactive, and the exit code is 1.
    """
    body = {"url": application, "consumer_key": consumer_key, "consumer_secret": consumer_secret}
    outcome = request(url, "POST", f"tenants/{urllib.parse.quote(tenant_id, safe='')}/activate", body)
    if as_json:
        output.print_json(outcome)
    else:
        for visit in outcome["visits"]:
            output.print_line(f"{visit['call']}  {visit['status'] or 'no answer'}  {visit['answer']}")
        output.print_line(f"the connection point is {'active' if outcome['activated'] else 'inactive'}")
    if not outcome["activated"]:
        raise typer.Exit(output.FAILURE)


def _list(
    url: str, path: str, name: str, query: dict[str, str | None], as_json: bool, shown: tuple[str, ...]
) -> int:
    """Print a list, one item per line; the number of items."""
    number = 0
    try:
        for item in remote.pages(url, path, name, query):
            number += 1
            output.print_line(json.dumps(item) if as_json else _format_item(item, shown))
    except remote.RemoteError as error:
        fail_remote(error)
    return number


def _format_item(item: dict[str, Any], shown: tuple[str, ...]) -> str:
    when = instant(datetime.fromtimestamp(item["at"], UTC))
    return "  ".join([str(when), *(str(item[key]) for key in shown if item[key] not in {None, ""})])
