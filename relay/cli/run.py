"""This file is `relay run`: carry messages until stopped, or until nothing is left."""

import signal
from types import FrameType
from typing import Annotated

import typer

from relay.cli import output


def run(
    until_empty: Annotated[
        bool,
        typer.Option("--until-empty", help="End once nothing is due and nothing can become due by itself."),
    ] = False,
    within: Annotated[
        float | None,
        typer.Option(min=0, metavar="SECONDS", help="With --until-empty: give up after so long."),
    ] = None,
) -> None:
    """Carry messages to ION until stopped.

    SIGTERM or Ctrl-C lets what is under way land first; a second one ends it at once. SIGHUP reads the
    settings again. With --until-empty the exit code is 1 if a message was parked, a tenant halted, or a
    document is not accepted.
    """
    if within is not None and not until_empty:
        output.give_up("--within goes with --until-empty")
    signal.signal(signal.SIGTERM, _leave)  # until the relay itself listens; what follows takes a moment
    from relay.cli.common import settings
    from relay.daemon import app
    from relay.observability import logs

    first = settings()
    if not first.tenants and first.tenants_dir is None:  # a folder may be filled later
        output.give_up("no tenant is configured; set RELAY_TENANTS__<TENANT>__LOGICAL_ID and its credentials")
    logs.configure(first.log.level, first.log.format)
    raise typer.Exit(app.run(first, settings, until_empty=until_empty, within=within))


def _leave(_number: int, _frame: FrameType | None) -> None:
    """Stopped before anything began."""
    raise typer.Exit(output.FINE)
