"""What a statement costs on SQLite, in a measure that no busy machine disturbs."""

import contextlib
import sqlite3
from collections.abc import Iterator


@contextlib.contextmanager
def steps(connection: sqlite3.Connection) -> Iterator[list[int]]:
    """SQLite's own count of its virtual machine's steps, in hundreds."""
    count = [0]

    def tick() -> int:
        count[0] += 1
        return 0

    connection.set_progress_handler(tick, 100)
    try:
        yield count
    finally:
        connection.set_progress_handler(None, 0)
