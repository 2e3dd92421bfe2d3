"""This file is the look-out for changes by other connections: whether anything was committed since last time.

SQLite tells nobody of a commit, but a connection's `PRAGMA data_version` differs once another one has
committed. Asking is a look into shared memory, some ten microseconds.
"""

import asyncio
import contextlib
import sqlite3
import threading
from pathlib import Path

from relay.outbox.sqlite import database

LOOK_SECONDS = 0.01
"""Half of it on average, all of it at worst, is added to a message's way."""

_IDENTITY_LOOKS = 100  # once a second: is it still the same file?
_CLOSE_SECONDS = 1.0
_REST_SECONDS = 1.0  # between two tries to open a file that cannot be opened


class ChangeWatch:
    """A small thread that looks, and wakes whoever waits for a change.

    A change is never missed: the waiter reads the outbox after it was woken, and a commit that comes after
    the thread's look is seen by its next one.
    """

    def __init__(self, path: Path, loop: asyncio.AbstractEventLoop) -> None:
        self._path = path
        self._loop = loop
        self._stopping = threading.Event()
        self._changed = asyncio.Event()
        self._changed.set()  # what was there before the first look is news too
        self._thread = threading.Thread(target=self._run, name="outbox-watch", daemon=True)
        self._thread.start()

    async def change(self, within: float) -> None:
        """Return once something was committed since the last return, at the latest after `within` seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within):
                await self._changed.wait()
        self._changed.clear()

    def close(self) -> None:
        """Ends within a look."""
        self._stopping.set()
        self._thread.join(_CLOSE_SECONDS)  # a disk that hangs does not hold up the stop

    def _run(self) -> None:
        while not self._stopping.is_set():
            with contextlib.suppress(
                sqlite3.Error
            ):  # the one who reads the outbox is told; here it is tried again
                self._watch_one_file()
            self._tell()
            self._stopping.wait(_REST_SECONDS)

    def _watch_one_file(self) -> None:
        opened = database.identity(self._path)
        with contextlib.closing(database.connect(self._path)) as connection:
            last: int | None = None
            looks = 0
            while not self._stopping.wait(LOOK_SECONDS):
                (version,) = connection.execute("PRAGMA data_version").fetchone()
                if version != last:
                    last = version
                    self._tell()
                looks += 1
                if looks % _IDENTITY_LOOKS == 0 and database.identity(self._path) != opened:
                    return

    def _tell(self) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._changed.set)
