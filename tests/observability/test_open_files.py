"""Too many open files are reported as that, with the limit, wherever they are met."""

import contextlib
import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest
from yarl import URL

from relay.core.model import LogicalId
from relay.core.ports import StoreError
from relay.core.replies import NoReply, TokenUnavailable
from relay.ion.auth import open_address
from relay.ion.credentials import IonApiFile
from relay.ion.transport import TimeLimits, Transport
from relay.observability import open_files
from relay.observability.open_files import OpenFiles
from relay.outbox import open_outbox, upgrade
from relay.outbox.location import OutboxLocation
from relay.outbox.postgres import errors as postgres_errors

SPARE = 60
"""Descriptors that this process may open before it is out of them."""


@contextlib.contextmanager
def none_left() -> Iterator[str]:
    """No further file can be opened; the text that names it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = max(map(int, os.listdir("/proc/self/fd"))) + SPARE  # noqa: PTH208
    taken: list[int] = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    try:
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.open(os.devnull, os.O_RDONLY))
        yield f"too many open files (limit {limit})"
    finally:
        for each in taken:
            os.close(each)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize(
    ("limit", "connections", "web"),
    [(None, None, None), (64, 20, 8), (40, 4, 5), (20, 4, 4), (1024, 860, 128)],
)
def test_the_limit_is_shared(limit: int | None, connections: int | None, web: int | None) -> None:
    assert (OpenFiles(limit).connections, OpenFiles(limit).web) == (connections, web)


def test_it_is_named_where_it_bounds_something() -> None:
    assert OpenFiles(64).bounds(20) is None
    assert OpenFiles(None).bounds(10_000) is None
    assert OpenFiles(64).bounds(21) == "the limit of 64 open files leaves 20 connections to ION, not 21"


def test_a_limit_that_is_none_is_unlimited(monkeypatch: pytest.MonkeyPatch) -> None:
    unlimited = resource.RLIM_INFINITY
    monkeypatch.setattr(resource, "getrlimit", lambda _: (unlimited, unlimited))
    assert open_files.open_files() == OpenFiles(None)


def test_a_limit_that_may_not_be_changed_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError

    monkeypatch.setattr(resource, "setrlimit", refuse)
    assert open_files.raise_limit() == open_files.open_files()


def test_files_can_be_opened_otherwise() -> None:
    assert not open_files.are_exhausted()
    assert not open_files.is_exhausted(OSError(13, "denied"))


async def test_a_sqlite_outbox(tmp_path: Path) -> None:
    """Whether the lock or the file itself cannot be opened."""
    url = f"sqlite:///{tmp_path}/outbox.db"
    upgrade(url)
    for exclusive in (True, False):
        with none_left() as text, pytest.raises(StoreError, match="too many open files") as caught:
            await open_outbox(OutboxLocation(url), exclusive=exclusive)
        assert text in str(caught.value)
        assert "right" not in str(caught.value)


def test_a_postgresql_outbox() -> None:
    for error in (OSError(24, "Too many open files"), OSError("Multiple exceptions: [Errno 24] …")):
        with none_left() as text:
            explained = postgres_errors.explain(error, "postgresql://db")
        assert text in str(explained)


def test_a_credential_file_is_read_later(tmp_path: Path) -> None:
    """Nothing is wrong with the credentials: the tenant backs off, and is not halted."""
    (tmp_path / "acme.ionapi").write_text("{}")
    source = IonApiFile(tmp_path / "acme.ionapi")
    with none_left() as text:
        address = open_address(source, None, LogicalId("lid://acme.orders.1"), "ACME_PRD")
    assert isinstance(address, TokenUnavailable)
    assert text in address.detail


async def test_a_connection_to_ion() -> None:
    transport = Transport(TimeLimits(1.0, 1.0, 1.0, 1000))
    url = URL("http://127.0.0.1:9/")
    await transport.get(url, dict, 100)  # whatever is imported late is there now
    with none_left() as text:
        reply = await transport.get(url, dict, 100)
    await transport.close()
    assert isinstance(reply, NoReply)
    assert text in reply.detail
