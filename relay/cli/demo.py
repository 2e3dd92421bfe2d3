"""This file is `relay demo`: a relay, an ION simulator and its faults, in under a minute."""

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from relay.cli import output

demo_app = typer.Typer(
    help="A relay, an ION simulator and its faults, in under a minute.", invoke_without_command=True
)


@demo_app.callback()
def demo(
    directory: Annotated[
        Path | None,
        typer.Option(help="Where outbox, logs and picture go; otherwise a new temporary folder."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Run a real relay against an ION simulator through outages, refusals and a kill -9; print a verdict.

    What it made is kept: the folder is printed. Exit code 0 if nothing was lost, sent against ION's rules or
    out of order, otherwise 1.
    """
    from relay.demo.run import run
    from relay.demo.stage import DemoFolder

    folder = DemoFolder((directory or Path(tempfile.mkdtemp(prefix="relay-demo-"))).resolve())
    if folder.outbox.exists():
        output.give_up(f"{folder.path} holds an earlier demo; name another folder, or empty it")
    try:
        folder.path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        output.give_up(f"{folder.path} cannot be used: {error.strerror}")
    raise typer.Exit(run(folder, json_wanted=as_json))
