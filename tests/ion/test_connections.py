"""The connections of a process: what is idle is closed for what is new, and its descriptor is free before."""

import asyncio

from relay.ion.connections import Connections


class Pool:
    """Idle connections whose descriptors are freed in the loop's next turn, as transports do it."""

    def __init__(self, idle: int) -> None:
        self._idle = self.open = idle

    def idle(self) -> int:
        return self._idle

    def close_idle(self) -> None:
        self._idle -= 1
        asyncio.get_running_loop().call_soon(self._close)

    def _close(self) -> None:
        self.open -= 1


async def test_what_is_beyond_the_limit_is_closed_the_largest_pool_first() -> None:
    connections, small, large = Connections(4), Pool(1), Pool(3)
    connections.add(small)
    connections.add(large)
    async with connections.request():
        await connections.make_room()
        assert (small.open, large.open) == (1, 2)
        async with connections.request():
            await connections.make_room()
            assert small.open + large.open == 2


async def test_below_the_limit_nothing_is_closed() -> None:
    connections, pool = Connections(3), Pool(2)
    connections.add(pool)
    async with connections.request():
        await connections.make_room()
    assert pool.open == 2


async def test_requests_beyond_the_limit_take_turns() -> None:
    connections, order = Connections(1), list[int]()

    async def ask(number: int) -> None:
        async with connections.request():
            order.append(number)
            await asyncio.sleep(0)
            order.append(number)

    await asyncio.gather(*map(ask, range(3)))
    assert order == [0, 0, 1, 1, 2, 2]
