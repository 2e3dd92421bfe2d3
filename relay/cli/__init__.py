"""This package is the command line, one file a command family; `main` is what `relay` runs.

Heavy imports stand inside the commands, and the ION simulator's and the demo's families are only imported
when they are asked for, so that every other command starts quickly.
"""

import errno
import importlib
import importlib.util
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

import relay
from relay.cli import (
    audit,
    check,
    enqueue,
    explain,
    messages,
    outbox,
    output,
    queue,
    run,
    status,
    tenants,
)
from relay.cli import next as next_command

_LATER = {
    "sandbox": "An ION simulator to try the relay on, with faults to inject.",
    "demo": "A relay, an ION simulator and its faults, in under a minute.",
}
"""Families in files of their own name, each with its `<name>_app`; a distribution may leave them out."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command and exit with its code: 0 fine, 1 trouble reported, 2 wrong use or configuration."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        code = command_line(given)(given, prog_name="relay", standalone_mode=False)
        output.finish()
    except KeyboardInterrupt:
        code = 130  # as shells say it: ended by SIGINT
    except Exception as error:  # noqa: BLE001  # sorted out there; what is a bug is raised again
        code = _code_of(error)
    output.let_go_of_stderr()
    sys.exit(code if isinstance(code, int) else output.FINE)


def command_line(given: Sequence[str]) -> typer.Typer:
    """All commands; those that take long to import only if they are the one that is given."""
    app = typer.Typer(
        help="Carry messages from the outbox to Infor ION.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich" if sys.stdout.isatty() else None,
    )
    app.callback()(_options)
    app.command("run")(run.run)
    app.command("enqueue")(enqueue.enqueue)
    app.command("check")(check.check)
    app.command("status")(status.status)
    app.command("queue")(queue.queue)
    app.command("next")(next_command.next_)
    app.command("audit")(audit.audit)
    app.command("explain")(explain.explain)
    app.add_typer(messages.messages_app, name="messages")
    app.add_typer(tenants.tenants_app, name="tenants")
    app.add_typer(outbox.outbox_app, name="outbox")
    for name, about in _LATER.items():
        if importlib.util.find_spec(f"relay.cli.{name}") is not None:
            _add_later(app, name, about, wanted=name in given[:1])
    return app


def _add_later(app: typer.Typer, name: str, about: str, *, wanted: bool) -> None:
    if not wanted:
        app.command(name, help=about)(_simulator)
        return
    app.add_typer(getattr(importlib.import_module(f"relay.cli.{name}"), f"{name}_app"), name=name)


def _simulator() -> None:
    """Only its line in the help is ever seen."""


def _version(wanted: bool) -> None:
    if wanted:
        output.line(relay.__version__)
        raise typer.Exit


def _options(
    version: Annotated[  # acted upon by its callback
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Carry messages from the outbox to Infor ION."""


# --- errors -----------------------------------------------------------------------------------------------


def _code_of(error: Exception) -> int:
    """Say what went wrong in plain words; a bug is raised as it is."""
    from relay.config.settings import SettingsError
    from relay.core.ports import ConflictError, StoreError

    match error:
        case typer.Exit(exit_code=code):
            return int(code)
        case typer.Abort():
            output.note("relay: nothing was done")
            return output.TROUBLE
        case typer.TyperException():
            return _wrong_use(error)
        case SettingsError(problems=problems):
            for problem in problems:
                output.note(f"relay: {problem}")
            return output.WRONG
        case StoreError(lasting=lasting):
            output.note(f"relay: {error}")
            return output.WRONG if lasting else output.TROUBLE
        case ConflictError():
            output.note(f"relay: {error}")
            return output.TROUBLE
        case BrokenPipeError():  # `relay messages list | head`: nobody listens any more
            output.hush(sys.stdout)
            return output.TROUBLE
        case OSError(errno=errno.ENOSPC | errno.EIO):  # the result goes to a file on a full or failing disk
            output.hush(sys.stdout)
            output.note(f"relay: the result cannot be written: {error.strerror}")
            return output.TROUBLE
        case _:
            raise error


def _wrong_use(error: Exception) -> int:
    show = getattr(error, "show", None)
    if show is not None:
        show()
    return int(getattr(error, "exit_code", output.WRONG))
