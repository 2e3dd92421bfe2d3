"""Whether a SQLite file is still the store that this relay uses, or a copy was put in its place.

Each transaction in which the relay writes leaves its number in the file, under a name that this process alone
has. A backup that was restored into the file, or another file at its path, holds an earlier number or another
name, whatever else it holds.
"""

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from sqlite3 import Connection

_NEXT = "UPDATE relay_identity SET position = ? WHERE writer = ? AND position >= ?"

_ADOPT = """
INSERT INTO relay_identity (id, writer, position) VALUES (1, ?, ?)
ON CONFLICT (id) DO UPDATE SET writer = excluded.writer, position = excluded.position
"""

_FOUND = "SELECT count(*) FROM relay_identity WHERE writer = ? AND position >= ?"

Mark = tuple[str, int]
"""The writer, and the number of its last write."""


class StoreIdentity:
    """The transactions of a store: one thread's that writes, another's that reads.

    `changed` is called in the thread that noticed, once for each change. None: nothing is left and checked,
    as in a command beside the relay.
    """

    def __init__(self, changed: Callable[[], None] | None) -> None:
        self._changed = changed
        self._lock = threading.Lock()
        self._last: Mark | None = None
        """None: whatever the file holds is adopted by the next write."""
        self._number = 0

    @contextlib.contextmanager
    def writing(self, connection: Connection) -> Iterator[None]:
        """A transaction that writes; the next mark is left in it."""
        connection.execute("BEGIN IMMEDIATE")
        mark = None if self._changed is None else self._leave(connection)
        yield
        connection.execute("COMMIT")
        self._last = mark

    @contextlib.contextmanager
    def reading(self, connection: Connection) -> Iterator[None]:
        """A snapshot."""
        last = self._last  # before the snapshot: a write that commits meanwhile only raises the number
        connection.execute("BEGIN")
        if last is not None and connection.execute(_FOUND, last).fetchone() == (0,):
            self._lose(last)
        yield
        connection.execute("COMMIT")

    def _leave(self, connection: Connection) -> Mark:
        last = self._last
        self._number += 1
        if last is not None:
            if connection.execute(_NEXT, (self._number, *last)).rowcount:
                return last[0], self._number
            self._lose(last)
        mark = os.urandom(16).hex(), self._number
        connection.execute(_ADOPT, mark)
        return mark

    def _lose(self, last: Mark) -> None:
        with self._lock:
            is_news = self._last is not None and self._last[0] == last[0]
            if is_news:
                self._last = None
        if is_news and self._changed is not None:
            self._changed()
