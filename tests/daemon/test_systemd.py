"""What systemd is told, read from a real notify socket."""

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


def heard(sock: socket.socket) -> list[str]:
    return sock.recv(4096).decode().split("\n")


def test_ready_stopping_and_a_status_are_said(systemd):
    sock, service = systemd
    service.ready()
    service.status("carries 3 tenants")
    service.stopping()
    assert [heard(sock) for _ in range(3)] == [["READY=1"], ["STATUS=carries 3 tenants"], ["STOPPING=1"]]


def test_a_reload_says_when_it_began(systemd):
    sock, service = systemd
    service.reloading()
    reloading, since = heard(sock)
    assert reloading == "RELOADING=1"
    assert int(since.removeprefix("MONOTONIC_USEC=")) > 0


def test_a_start_that_waits_for_its_outbox_is_given_that_time_and_a_minute(systemd):
    sock, service = systemd
    service.waiting(2.5, "the database is away\nand more")
    assert heard(sock) == ["EXTEND_TIMEOUT_USEC=62500000", "STATUS=waiting: the database is away"]


def test_without_systemd_nothing_is_said():
    SystemdNotifier({}).ready()


def test_a_systemd_that_went_away_is_no_failure(tmp_path: Path):
    SystemdNotifier({"NOTIFY_SOCKET": str(tmp_path / "gone")}).ready()
