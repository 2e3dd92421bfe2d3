"""`relay demo`: a relay against an ION simulator with faults, in under a minute."""

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from relay.cli import output

demo_app = typer.Typer(
    help="Run a relay against an ION simulator with faults, in under a minute.", invoke_without_command=True
)


@demo_app.callback()
def demo(
    directory: Annotated[
        Path | None,
        typer.Option(help="Directory for the outbox, logs and picture. Default: a new temporary one."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Run a real relay against an ION simulator through outages, rejections and a kill -9; print a verdict.

    All files are kept; their directory is printed. The exit code is 0 if no message was lost, sent against
    ION's rules or out of order, otherwise 1.
    """
    from relay.demo.run import run
    from relay.demo.stage import DemoFolder

    folder = DemoFolder((directory or Path(tempfile.mkdtemp(prefix="relay-demo-"))).resolve())
    if folder.outbox.exists():
        output.fail(f"{folder.path} holds an earlier demo; use another directory, or empty this one")
    try:
        folder.path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        output.fail(f"{folder.path} cannot be used: {error.strerror}")
    raise typer.Exit(run(folder, json_wanted=as_json))
