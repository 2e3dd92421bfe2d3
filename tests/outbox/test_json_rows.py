"""However many rows are read, the interpreter's lock is released a few times only; and every byte arrives."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.core.model import DocumentName, TenantId
from relay.outbox import upgrade
from relay.outbox.sqlite import admin_queries, due, tenants
from relay.outbox.sqlite.database import connect
from relay.outbox.values import PendingFilter

ACME, ORDER = TenantId("ACME"), DocumentName("Sync.SalesOrder")
TENANTS, MESSAGES = 300, 128

_INSERT = "INSERT INTO relay_outbox (tenant_id, document_name, ordering_key, payload) VALUES (?, ?, ?, ?)"


class Counting(sqlite3.Cursor):
    """Counts the rows that Python stepped to."""

    stepped = 0

    def __next__(self) -> Any:  # a row is whatever the statement selects
        found = super().__next__()
        Counting.stepped += 1
        return found

    def fetchone(self) -> Any:
        found = super().fetchone()
        Counting.stepped += found is not None
        return found

    def fetchall(self) -> list[Any]:
        found = super().fetchall()
        Counting.stepped += len(found)
        return found


class Counted:
    """A connection whose rows are counted."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        Counting.stepped = 0

    def execute(self, *words: Any) -> sqlite3.Cursor:
        return self._connection.cursor(Counting).execute(*words)


@pytest.fixture
def crowded(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """Three hundred tenants have messages that wait, one of them a group's worth."""
    upgrade(f"sqlite:///{tmp_path}/relay.db")
    with closing(connect(tmp_path / "relay.db")) as connection:
        connection.execute("BEGIN")
        for number in range(TENANTS):
            for document, key in (("A", None), ("A", "k"), ("B", None)):
                connection.execute(_INSERT, (f"T{number}", document, key, b"x"))
        connection.executemany(_INSERT, [(ACME, ORDER, None, b"x" * 100)] * MESSAGES)
        connection.execute("COMMIT")
        yield connection


def counted(connection: sqlite3.Connection) -> Any:  # stands in for a connection
    return Counted(connection)


def test_what_is_asked_of_all_tenants_takes_a_few_steps(crowded: sqlite3.Connection) -> None:
    seen = counted(crowded)
    assert len(tenants.notification(seen).pending) == TENANTS + 1
    assert Counting.stepped <= 2
    seen = counted(crowded)
    found = admin_queries.counts(seen)
    assert len(found) == TENANTS + 1
    assert all(count.oldest_due_seconds is not None for count in found.values())
    assert Counting.stepped <= 3


def test_a_group_of_messages_takes_a_few_steps(crowded: sqlite3.Connection) -> None:
    seen = counted(crowded)
    found = due.due(seen, ACME, {ORDER}, PendingFilter(frozenset(), frozenset(), MESSAGES), 1 << 20)
    assert len(found) == MESSAGES
    assert Counting.stepped <= 6


PAYLOADS = st.lists(
    st.one_of(
        st.binary(min_size=1, max_size=40),
        st.text(min_size=1, max_size=20),
        st.sampled_from([bytes(range(256)), b"\0", b"\0\0\0", b"\xff\xfe", "é\0ü"]),
        st.integers(-1, 1).map(lambda more: b"\0\xe9" * ((due.APART + more) // 2) + b"!"),
    ),
    min_size=1,
    max_size=8,
)


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sqlite3.Connection]:
    """An outbox without a row, for many examples."""
    path = tmp_path_factory.mktemp("steps") / "relay.db"
    upgrade(f"sqlite:///{path}")
    with closing(connect(path)) as connection:
        yield connection


@given(PAYLOADS, st.sampled_from([1 << 20, due.APART, 30]))
def test_every_byte_arrives(empty: sqlite3.Connection, payloads: list[bytes | str], max_bytes: int) -> None:
    """Also of text, of what is read alone, and beside what is too large to be read at all."""
    empty.execute("BEGIN")
    try:
        empty.executemany(_INSERT, [(ACME, ORDER, None, payload) for payload in payloads])
        found = due.due(empty, ACME, {ORDER}, PendingFilter(frozenset(), frozenset(), MESSAGES), max_bytes)
    finally:
        empty.execute("ROLLBACK")
    given_bytes = [payload.encode() if isinstance(payload, str) else payload for payload in payloads]
    assert found
    for message, payload in zip(found, given_bytes, strict=False):
        assert message.size == len(payload)
        assert message.payload == (payload if len(payload) <= max_bytes else b"")
