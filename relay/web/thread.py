"""This file is the web thread: what is served runs on a loop of its own, beside the one that carries.

So it still answers where that one stands still, and says so; and neither scrapes nor pages take from the hot
path's loop. What is behind the doors is put together in `front.py`.
"""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

from aiohttp import web

from relay.core.ports import Store
from relay.web.listener import Listener
from relay.web.relay_bridge import RelayBridge
from relay.web.store_access import StoreAccess

_STOP_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Door:
    """A port to be served: the variable that says where, the address, and what is there."""

    setting: str
    at: str
    build: Callable[[StoreAccess], web.Application]


class WebThread:
    """All doors of one relay process. `reach`: open the outbox, in the web thread's loop."""

    def __init__(
        self, doors: Sequence[Door], reach: Callable[[], Awaitable[Store]], inside: RelayBridge
    ) -> None:
        self._doors, self._reach, self._inside = doors, reach, inside
        self._opened: Future[Mapping[str, str]] = Future()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="web", daemon=True)

    async def start(self) -> Mapping[str, str]:
        """Listen; by each door's setting the address it has now. Raises SettingsError."""
        self._thread.start()
        return await asyncio.wrap_future(self._opened)

    async def stop(self) -> None:
        """End it, within a few seconds."""
        if self._loop is None:
            return
        self._loop.call_soon_threadsafe(self._stopping.set)
        await asyncio.to_thread(self._thread.join, _STOP_SECONDS)

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except Exception as error:  # told to whoever waits for the start
            if self._opened.done():
                raise
            self._opened.set_exception(error)

    async def _serve(self) -> None:
        hall = StoreAccess(self._reach, self._inside)
        listeners: list[Listener] = []
        addresses: dict[str, str] = {}
        try:
            for door in self._doors:
                listener = Listener(door.setting, door.at, door.build(hall))
                addresses[door.setting] = await listener.open()
                listeners.append(listener)
            self._loop = asyncio.get_running_loop()
            self._opened.set_result(addresses)
            await self._stopping.wait()
        finally:
            for listener in listeners:
                await listener.close()
            await hall.close()
