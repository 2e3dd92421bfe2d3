"""The command line, one file a command; `main` is the entry point of `relay`.

Commands import what is slow to import when they run, and `sandbox` and `demo` are only imported when they are
given, so that every other command starts quickly.
"""

# The first statements come before what is slow to import.

import sys

from relay.daemon import held_signals

if sys.argv[1:2] == ["run"]:
    held_signals.hold()
else:
    held_signals.end_on_interrupt()

import errno
import importlib
import importlib.util
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

held_signals.raise_on_interrupt()

_LAZY = {
    "sandbox": "Run an ION simulator, with faults to inject.",
    "demo": "Run a relay against an ION simulator, in under a minute.",
}
"""Modules of the same name, each with a `<name>_app`; a distribution may leave them out."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command and exit with its code: 0 success, 1 failure, 2 wrong arguments or settings."""
    output.open_missing()
    words = list(sys.argv[1:] if arguments is None else arguments)
    output.escape_unencodable()
    try:
        code = command_line(words)(words, prog_name="relay", standalone_mode=False)
        output.flush()
    except KeyboardInterrupt:
        code = output.INTERRUPTED
    except Exception as error:  # noqa: BLE001  # a bug is raised again there
        code = _report(error)
    output.flush_stderr()
    sys.exit(code if isinstance(code, int) else output.SUCCESS)


def command_line(words: Sequence[str]) -> typer.Typer:
    """All commands; `words`: the arguments, which name the lazy command to import, if any."""
    app = typer.Typer(
        help="Deliver messages from the outbox to Infor ION.",
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
    for name, about in _LAZY.items():
        if importlib.util.find_spec(f"relay.cli.{name}") is not None:
            _add_lazy(app, name, about, wanted=name in words[:1])
    return app


def _add_lazy(app: typer.Typer, name: str, about: str, *, wanted: bool) -> None:
    if not wanted:
        app.command(name, help=about)(_placeholder)
        return
    app.add_typer(getattr(importlib.import_module(f"relay.cli.{name}"), f"{name}_app"), name=name)


def _placeholder() -> None:
    """Only its line in the help is used."""


def _version(wanted: bool) -> None:
    if wanted:
        output.print_line(relay.__version__)
        raise typer.Exit


def _options(
    version: Annotated[  # used by its callback
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Deliver messages from the outbox to Infor ION."""


# --- errors -----------------------------------------------------------------------------------------------


def _report(error: Exception) -> int:
    """Print an error that is no bug; the exit code. A bug is raised again."""
    from relay.config.settings import SettingsError
    from relay.core.ports import ConflictError, StoreError

    match error:
        case typer.Exit(exit_code=code):
            return int(code)
        case typer.Abort():
            output.print_note("relay: nothing was changed")
            return output.FAILURE
        case typer.TyperException():
            return _usage_error(error)
        case SettingsError(problems=problems):
            for problem in problems:
                output.print_note(f"relay: {problem}")
            return output.USAGE_ERROR
        case StoreError(lasting=lasting):
            output.print_note(f"relay: {error}")
            return output.USAGE_ERROR if lasting else output.FAILURE
        case ConflictError():
            output.print_note(f"relay: {error}")
            return output.FAILURE
        case UnicodeEncodeError():  # an argument that the shell gave in another encoding
            output.print_note("relay: an argument is not text in UTF-8; use a terminal or locale with UTF-8")
            return output.USAGE_ERROR
        case OSError():
            return _os_error(error)
        case _:
            raise error


def _os_error(error: OSError) -> int:
    match error:
        case BrokenPipeError():  # `relay messages list | head`
            output.discard(sys.stdout)
        case OSError(errno=errno.ENOSPC | errno.EIO):  # stdout is a file on a full or failing disk
            output.discard(sys.stdout)
            output.print_note(f"relay: the result cannot be written: {error.strerror}")
        case FileNotFoundError(filename=None):  # of getcwd: nothing can be relative to it
            output.print_note("relay: the working directory was deleted; change to another one")
        case OSError(filename=None):
            raise error
        case _:  # a place that this user may not use, or that is gone
            output.print_note(f"relay: {error.filename}: {error.strerror}")
    return output.FAILURE


def _usage_error(error: Exception) -> int:
    show = getattr(error, "show", None)
    if show is not None:
        show()
    return int(getattr(error, "exit_code", output.USAGE_ERROR))
