"""The web side's outbox: opened at its first use, and not tried all the time while that fails."""

import asyncio
from typing import cast

import pytest

from relay.core.ports import Store, StoreError
from relay.web.relay_bridge import RelayBridge
from relay.web.store_access import StoreAccess
from tests.support.virtual import run


def test_an_outbox_that_cannot_be_opened_is_tried_after_growing_pauses_and_said_each_time() -> None:
    tries: list[float] = []
    opened = cast("Store", object())

    async def scene() -> None:
        clock = asyncio.get_running_loop().time

        async def open_store() -> Store:
            tries.append(clock())
            if clock() < 60:
                raise StoreError("it refused the password")
            return opened

        access = StoreAccess(open_store, RelayBridge(asyncio.get_running_loop()))
        for _ in range(240):
            with pytest.raises(StoreError, match="it refused the password"):
                await access.store()
            await asyncio.sleep(0.25)
        await asyncio.sleep(10)
        assert await access.store() is opened
        assert await access.store() is opened

    run(scene())
    assert list(map(round, tries)) == [0, 1, 3, 7, 15, 25, 35, 45, 55, 70]
