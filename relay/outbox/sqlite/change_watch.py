"""Watches for commits of other connections.

SQLite sends no notification of a commit, but a connection's `PRAGMA data_version` differs once another one
has committed. Reading it is an access to shared memory, some ten microseconds.
"""

import asyncio
import contextlib
import sqlite3
import threading
from pathlib import Path

from relay.outbox.sqlite import database
from relay.outbox.sqlite.file_lock import file_id

POLL_SECONDS = 0.01
"""Half of it on average, all of it at worst, is added to a message's latency."""

_FILE_POLLS = 100  # once a second: is it still the same file?
_CLOSE_SECONDS = 1.0
_REST_SECONDS = 1.0  # between two tries to open a file that cannot be opened


class ChangeWatch:
    """A small thread that polls, and wakes whoever waits for a change.

    A change is never missed: the waiter reads the outbox after it was woken, and a commit that comes after
    the thread's poll is found by its next one.
    """

    def __init__(self, path: Path, loop: asyncio.AbstractEventLoop) -> None:
        self._path = path
        self._loop = loop
        self._stopping = threading.Event()
        self._changed = asyncio.Event()
        self._changed.set()  # what was there before the first poll counts too
        self._thread = threading.Thread(target=self._run, name="outbox-watch", daemon=True)
        self._thread.start()

    async def change(self, within: float) -> None:
        """Return once something was committed since the last return, at the latest after `within` seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within):
                await self._changed.wait()
        self._changed.clear()

    def close(self) -> None:
        """Ends within a poll."""
        self._stopping.set()
        self._thread.join(_CLOSE_SECONDS)  # a disk that hangs does not hold up the stop

    def _run(self) -> None:
        while not self._stopping.is_set():
            with contextlib.suppress(sqlite3.Error):  # reported where the outbox is read; here it is retried
                self._watch_one_file()
            self._wake()
            self._stopping.wait(_REST_SECONDS)

    def _watch_one_file(self) -> None:
        opened = file_id(self._path)
        with contextlib.closing(database.connect(self._path)) as connection:
            last: int | None = None
            polls = 0
            while not self._stopping.wait(POLL_SECONDS):
                (version,) = connection.execute("PRAGMA data_version").fetchone()
                if version != last:
                    last = version
                    self._wake()
                polls += 1
                if polls % _FILE_POLLS == 0 and file_id(self._path) != opened:
                    return

    def _wake(self) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._changed.set)
