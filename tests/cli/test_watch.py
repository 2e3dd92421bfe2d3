"""`relay status --watch`: on a terminal and piped, ended by q and by Ctrl-C, while the outbox fails."""

import os
import pty
import select
import signal
import subprocess
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from relay.cli import watch
from relay.core.ports import StoreError

if TYPE_CHECKING:
    from tests.cli.conftest import Operator

COMMAND = [sys.executable, "-m", "relay", "status", "--watch"]
WITHIN = 30.0


@contextmanager
def on_a_terminal(operator: "Operator") -> Iterator[tuple["subprocess.Popen[bytes]", int]]:
    """The command, and the operator's end of its terminal of 80 columns."""
    ours, its = pty.openpty()
    termios.tcsetwinsize(its, (24, 80))
    process = subprocess.Popen(
        COMMAND,
        stdin=its,
        stdout=its,
        stderr=its,
        cwd=operator.folder,
        env=operator.environment | {"TERM": "xterm"},
    )
    try:
        yield process, ours
    finally:
        process.kill()
        process.wait()
        os.close(its)
        os.close(ours)


def read_until(ours: int, wanted: bytes) -> bytes:
    """What the terminal shows until then."""
    shown = b""
    while wanted not in shown:
        assert select.select([ours], [], [], WITHIN)[0], shown
        shown += os.read(ours, 65536)
    return shown


@pytest.mark.parametrize("how", ["q", "Ctrl-C"])
def test_on_a_terminal_it_is_redrawn_in_place_until_the_operator_quits(
    operator: "Operator", how: str
) -> None:
    operator.enqueue("m1")
    with on_a_terminal(operator) as (process, ours):
        before = termios.tcgetattr(ours)
        shown = read_until(ours, b"ACME")
        assert b"no relay is running" in shown
        operator.enqueue("m2", tenant="GLOBEX")
        read_until(ours, b"GLOBEX")
        read_until(ours, b"ACME")
        if how == "q":
            os.write(ours, b"q")
        else:
            process.send_signal(signal.SIGINT)
        read_until(ours, b"\x1b[?1049l")  # back from the alternate screen
        assert process.wait(WITHIN) == (0 if how == "q" else 130)
        assert termios.tcgetattr(ours) == before


def test_piped_it_prints_one_table_after_the_other_and_ctrl_c_ends_it(operator: "Operator") -> None:
    operator.enqueue("m1")
    process = subprocess.Popen(
        COMMAND, stdout=subprocess.PIPE, cwd=operator.folder, env=operator.environment, text=True
    )
    assert process.stdout is not None
    seen = 0
    for line in process.stdout:
        seen += line.startswith("ACME ")
        if seen == 2:
            break
    process.send_signal(signal.SIGINT)
    rest, _ = process.communicate(timeout=WITHIN)
    assert process.returncode == 130
    assert "\x1b" not in rest


@pytest.mark.parametrize("option", ["--json", "--alive", "--here"])
def test_options_for_programs_are_refused(operator: "Operator", option: str) -> None:
    ran = operator.run("status", "--watch", option)
    assert (ran.code, ran.err) == (2, "relay: --watch cannot be combined with --alive, --here or --json\n")


class FailingOutbox:
    """An outbox that cannot be read."""

    def __init__(self, *, lasting: bool) -> None:
        self.lasting = lasting

    async def counts(self) -> Any:
        raise StoreError("the disk did not answer", lasting=self.lasting)


async def test_a_temporary_outbox_error_is_shown_and_a_lasting_one_ends_the_command(
    operator: "Operator",
) -> None:
    from relay.cli.common import load_settings

    outbox: Any = FailingOutbox(lasting=False)
    assert await watch._read(outbox, load_settings()) == "the disk did not answer"
    outbox = FailingOutbox(lasting=True)
    with pytest.raises(StoreError):
        await watch._read(outbox, load_settings())
