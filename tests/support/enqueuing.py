"""An application in a process of its own, to be killed: enqueues in transactions, and notes what it committed.

`python -m tests.support.enqueuing URL TENANT FIRST LAST NOTES`: messages m<FIRST> to m<LAST>. One line in the file
NOTES for each transaction: the number after its last message. It knows the table and SQL, and nothing of the relay.
"""

import asyncio
import os
import random
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import asyncpg

KEYS = 12
NAME = "enqueuing"
"""The connection's name on PostgreSQL."""
_COLUMNS = "INSERT INTO relay_outbox (tenant_id, document_name, payload, message_id, ordering_key) VALUES"
_SQLITE = f"{_COLUMNS} (?, 'Sync.SalesOrder', ?, ?, ?)"
_POSTGRES = f"{_COLUMNS} ($1, 'Sync.SalesOrder', $2, $3, $4)"

Rows = list[tuple[str, bytes, str, str | None]]


def transactions(tenant: str, first: int, last: int) -> Iterator[tuple[int, Rows]]:
    """1 to 12 messages each; a tenth of them without a key."""
    chance = random.Random(first)
    while first <= last:
        end = min(first + chance.randint(1, 12), last + 1)
        yield end, [(tenant, b"<order>%d</order>" % n, f"m{n}", key_of(n)) for n in range(first, end)]
        first = end


def key_of(number: int) -> str | None:
    """The ordering key of a message."""
    return None if number % 10 == 0 else f"k{number % KEYS}"


def note(path: Path, end: int) -> None:
    """It is committed; in one write, so that a kill leaves no half line."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, f"{end}\n".encode())
    os.close(descriptor)


def into_sqlite(path: str, work: Iterator[tuple[int, Rows]], notes: Path) -> None:
    """A transaction after the other."""
    with closing(sqlite3.connect(path, timeout=30, isolation_level=None)) as connection:
        for end, rows in work:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(_SQLITE, rows)
            connection.execute("COMMIT")
            note(notes, end)


async def into_postgres(url: str, work: Iterator[tuple[int, Rows]], notes: Path) -> None:
    """The same."""
    connection = await asyncpg.connect(url, server_settings={"application_name": NAME})
    for end, rows in work:
        async with connection.transaction():
            await connection.executemany(_POSTGRES, rows)
        note(notes, end)
    await connection.close()


if __name__ == "__main__":
    url, tenant, first, last, notes = sys.argv[1:]
    work = transactions(tenant, int(first), int(last))
    if url.startswith("postgres"):
        asyncio.run(into_postgres(url, work, Path(notes)))
    else:
        into_sqlite(url, work, Path(notes))
