"""`relay outbox`: print its schema, upgrade it, copy it to another database, back it up and restore it."""

import sys

import typer

from relay.cli import outbox_backup, outbox_copy, output

outbox_app = typer.Typer(help="Create, upgrade, copy, back up and restore the outbox.", no_args_is_help=True)
outbox_app.command("copy")(outbox_copy.copy)
outbox_app.command("backup")(outbox_backup.backup)
outbox_app.command("restore")(outbox_backup.restore)


@outbox_app.command("schema")
def schema() -> None:
    """Print the SQL statements that create the outbox."""
    from relay import outbox
    from relay.cli.common import load_settings

    at = load_settings().outbox
    text = outbox.schema(at.location)
    sys.stdout.write(text.rstrip("\n") + "\n")


@outbox_app.command("upgrade")
def upgrade() -> None:
    """Create the outbox, or upgrade its schema.

    The outbox may be in an application's own database. On PostgreSQL, ids that would be generated twice
    after a restore are corrected.
    """
    from relay import outbox
    from relay.cli.common import load_settings, name_outbox

    at = load_settings().outbox
    name_outbox(at.location, create=True)
    for line in outbox.upgrade(at.location):
        output.print_line(line)
    output.print_line(f"the outbox {at.place} is up to date")
