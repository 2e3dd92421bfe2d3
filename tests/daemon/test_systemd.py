"""What systemd is sent, read from a real notify socket."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from relay.daemon.systemd import SystemdNotifier


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[tuple[socket.socket, SystemdNotifier]]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.settimeout(5)
        yield sock, SystemdNotifier({"NOTIFY_SOCKET": str(tmp_path / "notify")})


def received(sock: socket.socket) -> list[str]:
    return sock.recv(4096).decode().split("\n")


def test_ready_and_stopping_are_sent(systemd):
    sock, notifier = systemd
    notifier.ready()
    notifier.stopping()
    assert [received(sock) for _ in range(2)] == [["READY=1"], ["STOPPING=1"]]


def test_a_reload_is_sent_with_the_time_it_began(systemd):
    sock, notifier = systemd
    notifier.reloading()
    reloading, since = received(sock)
    assert reloading == "RELOADING=1"
    assert int(since.removeprefix("MONOTONIC_USEC=")) > 0


def test_a_start_that_waits_for_its_outbox_extends_the_time_out_by_that_and_a_minute(systemd):
    sock, notifier = systemd
    notifier.waiting(2.5, "the database is away\nand more")
    assert received(sock) == ["EXTEND_TIMEOUT_USEC=62500000", "STATUS=waiting: the database is away"]


def test_without_systemd_nothing_is_sent():
    SystemdNotifier({}).ready()


def test_a_systemd_that_is_gone_is_not_a_failure(tmp_path: Path):
    SystemdNotifier({"NOTIFY_SOCKET": str(tmp_path / "gone")}).ready()
