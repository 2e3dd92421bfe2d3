"""Stdin, stdout and stderr that are not read, not there, or cannot be written: no command needs any of them."""

import asyncio
import fcntl
import json
import os
import signal
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from relay.sandbox import Sandbox
from tests.e2e.conftest import GLOBEX
from tests.support.application import OutboxRow, order
from tests.support.process import COMMAND, Station

CLOSED = ["<&-", ">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"]
"""As a shell starts a process without some of its streams."""


def _shell(station: Station, arguments: str, streams: str) -> subprocess.Popen[bytes]:
    command = f"exec {' '.join(COMMAND)} {arguments} {streams}"
    return subprocess.Popen(
        ["/bin/sh", "-c", command],
        cwd=station.folder,
        env=station.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


async def _output(process: subprocess.Popen[bytes]) -> tuple[int, str, str]:
    out, err = await asyncio.to_thread(process.communicate, timeout=30)
    return process.returncode, out.decode(), err.decode()


def _start_unread(station: Station) -> tuple[subprocess.Popen[bytes], int]:
    """A relay whose stderr is a small pipe, and the end that a reader would have."""
    read, write = os.pipe()
    fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, 4096)
    relay = subprocess.Popen(
        [*COMMAND, "run"],
        cwd=station.folder,
        env=station.environment | {"RELAY_LOG__LEVEL": "debug"},
        stdin=subprocess.DEVNULL,
        stderr=write,
    )
    os.close(write)
    return relay, read


@asynccontextmanager
async def _unread(station: Station) -> AsyncIterator[tuple[subprocess.Popen[bytes], int]]:
    """The same; it has ended afterwards, however the test went."""
    relay, read = _start_unread(station)
    try:
        yield relay, read
    finally:
        if relay.poll() is None:
            relay.kill()
        relay.wait(10)
        os.close(read)


async def test_a_full_pipe_that_nobody_reads_holds_up_neither_messages_nor_the_stop(
    sandbox: Sandbox, station: Station
) -> None:
    """At debug a message writes some lines: the pipe of 4 KiB is full at once."""
    station.application.insert_all(OutboxRow(GLOBEX, order(n)) for n in range(200))
    async with _unread(station) as (relay, read):
        await station.until_delivered()
        relay.send_signal(signal.SIGTERM)
        await station.until(lambda: relay.poll() is not None, "the end, though nobody reads")
        assert relay.returncode == 0
        os.set_blocking(read, False)
        assert os.read(read, 65536).startswith(b'{"timestamp"')
    assert sandbox.record.sent_twice() == []


async def test_a_reader_that_comes_late_gets_every_line_in_order(sandbox: Sandbox, station: Station) -> None:
    """The relay ended nothing and dropped nothing while it waited; its last line is read too."""
    ids = station.application.insert_all(OutboxRow(GLOBEX, order(n), key="k") for n in range(200))
    async with _unread(station) as (relay, read):
        await station.until_delivered()
        with os.fdopen(os.dup(read)) as file:
            relay.send_signal(signal.SIGTERM)
            lines = [json.loads(line) for line in await asyncio.to_thread(file.readlines)]
        assert await asyncio.to_thread(relay.wait, 10) == 0
    assert [line["message_id"] for line in lines if line["event"] == "message.delivered"] == ids
    assert lines[-1]["event"] == "relay.ended"


@pytest.mark.parametrize("streams", CLOSED)
async def test_a_relay_without_streams_delivers(sandbox: Sandbox, station: Station, streams: str) -> None:
    """And what it would have printed is in no file that it opened later."""
    station.application.insert_all(OutboxRow(GLOBEX, order(n)) for n in range(5))
    relay = _shell(station, "run --until-empty --within 20", streams)
    code, out, err = await _output(relay)
    assert (code, out) == (0, ""), err
    assert "Traceback" not in err
    assert station.application.is_all_delivered(GLOBEX)
    for file in station.folder.iterdir():
        assert b"relay.started" not in file.read_bytes(), file


@pytest.mark.parametrize("streams", CLOSED)
async def test_commands_without_streams_do_their_work(station: Station, streams: str) -> None:
    (station.folder / "order.xml").write_bytes(order(1))
    enqueue = f"enqueue --tenant {GLOBEX} --document Sync.SalesOrder order.xml"
    for arguments in (enqueue, "status", "status --json", "messages list"):
        code, out, err = await _output(_shell(station, arguments, streams))
        notes = [line for line in err.splitlines() if not line.startswith("outbox: ")]  # what it wrote to
        assert (code, notes) == (0, []), arguments
        assert bool(out) == (">&-" not in streams.replace("2>&-", "")), arguments
    assert station.application.states() == {"pending": 1}


@pytest.mark.parametrize("streams", ["2>/dev/full", ">&- 2>/dev/full"])
async def test_an_error_that_cannot_be_printed_keeps_its_exit_code(station: Station, streams: str) -> None:
    code, _, _ = await _output(_shell(station, "messages show nothing", streams))
    assert code == 1


async def test_a_relay_on_a_full_disk_of_its_log_delivers(
    sandbox: Sandbox, station: Station, tmp_path: Path
) -> None:
    station.application.insert(GLOBEX)
    code, _, _ = await _output(_shell(station, "run --until-empty --within 20", "2>/dev/full"))
    assert code == 0
    assert station.application.is_all_delivered(GLOBEX)
