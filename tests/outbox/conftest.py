from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from relay.outbox import OutboxLocation, SqliteOutbox, StoredOutbox, open_outbox
from relay.outbox.postgres import PostgresOutbox
from tests.support import disks
from tests.support.pgstore import Open
from tests.support.postgres import Cluster

Opener = Callable[..., Awaitable[SqliteOutbox]]


@pytest.fixture
async def opened() -> AsyncIterator[Opener]:
    """Open an outbox that is closed at the end of the test."""
    made: list[SqliteOutbox] = []

    async def open_(path: Path, *, create: bool = True, exclusive: bool = False) -> SqliteOutbox:
        outbox = await open_outbox(f"sqlite:///{path}", create=create, exclusive=exclusive)
        assert isinstance(outbox, SqliteOutbox)
        made.append(outbox)
        return outbox

    yield open_
    for outbox in made:
        await outbox.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte. Needs root; elsewhere the test is skipped with the reason."""
    with disks.small(tmp_path / "small", "1m") as folder:
        yield folder


@pytest.fixture
async def url(postgres: Cluster) -> AsyncIterator[str]:
    """A fresh outbox on PostgreSQL."""
    async with postgres.outbox() as url:
        yield url


@pytest.fixture
async def opened_there() -> AsyncIterator[Open]:
    """Open an outbox on PostgreSQL that is closed at the end of the test."""
    made: list[StoredOutbox] = []

    async def open_(url: str | OutboxLocation, **options: object) -> PostgresOutbox:
        outbox = await open_outbox(url, **({"lease_seconds": 15.0} | options))  # type: ignore[arg-type]
        made.append(outbox)
        assert isinstance(outbox, PostgresOutbox)
        return outbox

    yield open_
    for outbox in made:
        await outbox.close()


@pytest.fixture(params=["sqlite", "postgres"])
async def stored(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[StoredOutbox]:
    """An empty outbox, on each store."""
    if request.param == "sqlite":
        outbox = await open_outbox(f"sqlite:///{tmp_path}/relay.db")
        yield outbox
        await outbox.close()
        return
    cluster: Cluster = request.getfixturevalue("postgres")
    async with cluster.reused_outbox() as url:
        outbox = await open_outbox(url)
        yield outbox
        await outbox.close()
