from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from relay.core.ports import Store
from tests.contract.stores import (
    MemoryCase,
    PostgresCase,
    SharedCase,
    SharedMemoryCase,
    SharedPostgresCase,
    SqliteCase,
    StoreCase,
)
from tests.support.postgres import Cluster


@pytest.fixture(params=["sqlite", "memory", "postgres"])
async def store_case(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[StoreCase]:
    """An empty outbox of each kind."""
    case: StoreCase
    match request.param:
        case "postgres":
            cluster: Cluster = request.getfixturevalue("postgres")
            async with cluster.reused_outbox() as url:
                case = PostgresCase(url)
                yield case
                await case.close()
            return
        case "sqlite":
            case = SqliteCase(tmp_path)
        case _:
            case = MemoryCase()
    yield case
    await case.close()


@pytest.fixture
async def store(store_case: StoreCase) -> Store:
    """It, opened by one process."""
    return await store_case.open()


@pytest.fixture(params=["memory", "postgres"])
async def shared_case(request: pytest.FixtureRequest) -> AsyncIterator[SharedCase]:
    """An empty outbox of each kind that several relays may share."""
    if request.param == "memory":
        memory = SharedMemoryCase()
        yield memory
        await memory.close()
        return
    cluster: Cluster = request.getfixturevalue("postgres")
    async with cluster.reused_outbox() as url:
        case = SharedPostgresCase(url)
        yield case
        await case.close()
