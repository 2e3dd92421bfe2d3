"""The web thread: everything that is served runs on a loop of its own, beside the one that delivers.

So it still answers when that one has stalled, and reports it; and neither scrapes nor pages take time from
the hot path. What the ports serve is composed in `application.py`.
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
class Port:
    """A port to serve: the variable with its address, the address, and what it serves."""

    setting: str
    at: str
    build: Callable[[StoreAccess], web.Application]


class WebThread:
    """All ports of one relay process. `open_store`: opens the outbox in the web thread's loop."""

    def __init__(
        self, ports: Sequence[Port], open_store: Callable[[], Awaitable[Store]], bridge: RelayBridge
    ) -> None:
        self._ports, self._open_store, self._bridge = ports, open_store, bridge
        self._opened: Future[Mapping[str, str]] = Future()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="web", daemon=True)

    async def start(self) -> Mapping[str, str]:
        """Listen; the actual address by each port's setting. Raises SettingsError."""
        self._thread.start()
        return await asyncio.wrap_future(self._opened)

    async def stop(self) -> None:
        """Stop, within a few seconds."""
        if self._loop is None:
            return
        self._loop.call_soon_threadsafe(self._stopping.set)
        await asyncio.to_thread(self._thread.join, _STOP_SECONDS)

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except Exception as error:  # raised where the start is awaited
            if self._opened.done():
                raise
            self._opened.set_exception(error)

    async def _serve(self) -> None:
        access = StoreAccess(self._open_store, self._bridge)
        listeners: list[Listener] = []
        addresses: dict[str, str] = {}
        try:
            for port in self._ports:
                listener = Listener(port.setting, port.at, port.build(access))
                addresses[port.setting] = await listener.open()
                listeners.append(listener)
            self._loop = asyncio.get_running_loop()
            self._opened.set_result(addresses)
            await self._stopping.wait()
        finally:
            for listener in listeners:
                await listener.close()
            await access.close()
