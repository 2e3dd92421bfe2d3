"""`relay run`: deliver messages until stopped, or until none is left."""

from functools import partial
from typing import Annotated

import typer

from relay.cli import output


def run(
    until_empty: Annotated[
        bool,
        typer.Option("--until-empty", help="Exit once nothing more can be sent without an operator."),
    ] = False,
    within: Annotated[
        float | None,
        typer.Option(
            min=0, metavar="SECONDS", help="With --until-empty: exit after this time at the latest."
        ),
    ] = None,
) -> None:
    """Deliver messages to ION until stopped.

    SIGTERM or Ctrl-C: messages in flight are completed first; a second signal exits at once. SIGHUP reloads
    the settings. With --until-empty the exit code is 1 if a message was parked, a tenant is halted, or a
    document is not accepted by ION.
    """
    if within is not None and not until_empty:
        output.fail("--within requires --until-empty")
    from relay.cli.common import load_settings
    from relay.daemon import app
    from relay.observability import logs

    logs.write_in_background()
    load = partial(load_settings, warn=False)  # the log does
    settings = load()
    if not settings.tenants and settings.tenants_dir is None:  # a folder may be filled later
        hint = "set RELAY_TENANTS__<TENANT>__LOGICAL_ID and its credentials, or RELAY_TENANTS_DIR"
        output.fail_with([f"no tenant is configured; {hint}", *settings.unknown])
    logs.configure(settings.log.level, settings.log.format)
    raise typer.Exit(app.run(settings, load, until_empty=until_empty, within=within))
