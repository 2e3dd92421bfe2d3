"""This file is `relay outbox`: print its schema, bring it up to date, copy it into another one."""

import sys

import typer

from relay.cli import outbox_copy, output

outbox_app = typer.Typer(help="The outbox itself.", no_args_is_help=True)
outbox_app.command("copy")(outbox_copy.copy)


@outbox_app.command("schema")
def schema() -> None:
    """Print the statements that create the outbox, to read or to run elsewhere."""
    from relay import outbox
    from relay.cli.common import settings

    at = settings().outbox
    text = outbox.schema(at.location)
    sys.stdout.write(text.rstrip("\n") + "\n")


@outbox_app.command("upgrade")
def upgrade() -> None:
    """Create the outbox, or bring its schema up to date; also within an application's own database."""
    from relay import outbox
    from relay.cli.common import settings

    at = settings().outbox
    outbox.upgrade(at.location)
    output.line(f"the outbox {at.shown} is up to date")
