from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.contract.stores import MemoryCase, SqliteCase, Store, StoreCase


@pytest.fixture(params=["sqlite", "memory"])
async def store_case(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[StoreCase]:
    """An empty outbox of each kind."""
    case: StoreCase = SqliteCase(tmp_path) if request.param == "sqlite" else MemoryCase()
    try:
        yield case
    finally:
        await case.close()


@pytest.fixture
async def store(store_case: StoreCase) -> Store:
    """It, opened by one process."""
    return await store_case.open()
