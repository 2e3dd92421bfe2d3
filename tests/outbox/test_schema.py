"""The schema: made, printed, upgraded; what an earlier version holds stays readable, a later one is refused."""

import asyncio
import contextlib
import sqlite3
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from relay.core.model import DocumentName, MessageId, TenantState
from relay.core.ports import StoreError
from relay.outbox import StoredOutbox, open_outbox, schema, upgrade
from relay.outbox.sqlite import schema as sqlite_schema
from tests.outbox.conftest import Opener
from tests.support.pgstore import ACME, Open, draft, texts
from tests.support.postgres import Cluster, connected

SINCE = datetime(2026, 1, 2, tzinfo=UTC)
WAITING = TenantState(
    ACME,
    "sending",
    "why",
    SINCE,
    relay="relay-1",
    kind="not accepted",
    documents=(DocumentName("Sync.A, B"),),
)


@dataclass(frozen=True, slots=True)
class EmptyDatabase:
    """One without an outbox, or a file that does not exist yet."""

    url: str
    path: Path | None

    async def run(self, statements: str) -> None:
        """As an application or an administrator does."""
        if self.path is None:
            async with connected(self.url) as connection:
                await connection.execute(statements)
        else:
            with contextlib.closing(sqlite3.connect(self.path)) as connection:
                connection.executescript(statements)


@pytest.fixture(params=["sqlite", "postgres"])
async def empty(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[EmptyDatabase]:
    """The same on each store."""
    if request.param == "sqlite":
        yield EmptyDatabase(f"sqlite:///{tmp_path}/relay.db", tmp_path / "relay.db")
        return
    cluster: Cluster = request.getfixturevalue("postgres")
    name = await cluster.create()
    yield EmptyDatabase(cluster.url_of(name), None)
    await cluster.drop(name)


async def payloads_in(url: str) -> list[bytes]:
    """What an outbox that is not made by this holds for ACME."""
    outbox: StoredOutbox = await open_outbox(url, create=False)
    try:
        found = await outbox.due(ACME, {draft().document_name}, frozenset(), frozenset(), 10, 1000)
    finally:
        await outbox.close()
    return [message.payload for message in found]


ENQUEUE = "INSERT INTO relay_outbox (tenant_id, document_name, payload) VALUES ('acme_prd', 'Sync.SalesOrder', 'x');"


async def test_the_printed_schema_is_what_upgrade_makes(empty: EmptyDatabase) -> None:
    await empty.run("CREATE TABLE orders (id int);" + schema(empty.url) + ENQUEUE)
    await asyncio.to_thread(upgrade, empty.url)
    assert await payloads_in(empty.url) == [b"x"]
    if empty.path is not None:
        with contextlib.closing(sqlite3.connect(empty.path)) as connection:
            assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


async def test_upgrading_again_changes_nothing_and_several_at_once_are_one(empty: EmptyDatabase) -> None:
    await asyncio.gather(*(asyncio.to_thread(upgrade, empty.url) for _ in range(3)))
    await empty.run(ENQUEUE)
    await asyncio.to_thread(upgrade, empty.url)
    assert await payloads_in(empty.url) == [b"x"]


async def test_a_newer_schema_is_refused_with_the_hint(empty: EmptyDatabase) -> None:
    await asyncio.to_thread(upgrade, empty.url)
    await empty.run(
        "INSERT INTO relay_schema (version) VALUES (99)"
        if empty.path is not None
        else "INSERT INTO relay_schema (version, works_with) VALUES (99, 99)"
    )
    with pytest.raises(StoreError, match=r"made by a newer relay .*install that relay") as caught:
        await open_outbox(empty.url)
    assert caught.value.lasting


async def test_an_older_schema_is_refused_with_the_hint(url: str) -> None:
    """A file is upgraded on opening."""
    async with connected(url) as connection:
        await connection.execute("DELETE FROM relay_schema")
    with pytest.raises(
        StoreError, match=r"has schema version 0, this relay needs .*relay outbox upgrade"
    ) as caught:
        await open_outbox(url)
    assert caught.value.lasting


async def test_a_database_without_an_outbox_is_refused_with_the_hint(postgres: Cluster) -> None:
    name = await postgres.create()
    try:
        with pytest.raises(StoreError, match="relay outbox upgrade") as caught:
            await open_outbox(postgres.url_of(name))
        assert caught.value.lasting
    finally:
        await postgres.drop(name)


async def test_a_newer_schema_that_works_with_this_relay_is_used(url: str, opened_there: Open) -> None:
    """So that the tables are upgraded first, and the relays one after the other."""
    async with connected(url) as connection:
        await connection.execute("INSERT INTO relay_schema VALUES (99, 1)")
    assert await texts(await opened_there(url)) == []


async def test_upgrade_adds_the_outbox_to_an_applications_own_database(tmp_path: Path) -> None:
    """Only there can a message be enqueued in the application's own transaction."""
    path = tmp_path / "orders.db"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE orders (id)")
        connection.execute("PRAGMA user_version = 7")
    upgrade(f"sqlite:///{path}")
    upgrade(f"sqlite:///{path}")
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("INSERT INTO orders VALUES (1)")
        connection.execute(
            "INSERT INTO relay_outbox (tenant_id, document_name, payload) VALUES ('acme_prd', 'Sync.SalesOrder', 'x')"
        )
        assert connection.execute("PRAGMA user_version").fetchone() == (7,)
    assert await payloads_in(f"sqlite:///{path}") == [b"x"]


async def test_text_in_another_encoding_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "relay.db"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA encoding = 'UTF-16'")
        connection.execute("CREATE TABLE orders (id)")
    with pytest.raises(StoreError, match="UTF-16"):
        upgrade(f"sqlite:///{path}")


async def test_processes_that_start_at_once_make_one_outbox(tmp_path: Path) -> None:
    """The first start of several containers on one volume."""
    code = "import sys; from relay.outbox import upgrade; upgrade(sys.argv[1])"
    processes = [
        await asyncio.create_subprocess_exec(sys.executable, "-c", code, f"sqlite:///{tmp_path}/relay.db")
        for _ in range(3)
    ]
    assert [await process.wait() for process in processes] == [0, 0, 0]


async def test_a_file_of_version_2_keeps_its_history_with_counted_for_blamed(
    opened: Opener, tmp_path: Path
) -> None:
    path = tmp_path / "relay.db"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        for number, text in sqlite_schema.versions():
            if number <= 2:
                connection.executescript(text)
        connection.execute(
            "INSERT INTO relay_outbox (tenant_id, document_name, payload, message_id) VALUES ('A', 'B', 'x', 'm')"
        )
        connection.execute(
            "INSERT INTO relay_history (row, at, what, detail) VALUES"
            " (1, '2026-01-02T00:00:00.000Z', 'released', 'HTTP 503'),"
            " (1, '2026-01-02T00:00:01.000Z', 'blamed', 'HTTP 500')"
        )
        connection.commit()
    outbox = await opened(path)
    with contextlib.closing(sqlite3.connect(path)) as connection:  # a relay of version 2 that still runs
        connection.execute("INSERT INTO relay_history (row, what, detail) VALUES (1, 'blamed', 'HTTP 502')")
        connection.commit()
    (record,) = await outbox.show(MessageId("m"), None)
    assert [(what, detail) for _, what, detail in record.history] == [
        ("released", "HTTP 503"),
        ("counted", "HTTP 500"),
        ("counted", "HTTP 502"),
    ]
    assert record.history[1][0] == datetime(2026, 1, 2, 0, 0, 1, tzinfo=UTC)
    (row,) = await outbox.transfer.read_rows([1])
    assert [what for _, what, _ in row.history] == ["released", "counted", "counted"]


async def test_relays_of_version_2_may_write_a_database_of_version_3(url: str, opened_there: Open) -> None:
    """During a rolling upgrade: their releases are read as counted, and their states as without kind."""
    outbox = await opened_there(url)
    await outbox.add([replace(draft(), message_id=MessageId("m"))])
    await outbox.beat("relay-1", {})
    await outbox.report([WAITING])
    assert await outbox.states() == {ACME: WAITING}
    async with connected(url) as connection:
        await connection.execute(
            "INSERT INTO relay_history (message_row, what, detail) VALUES (1, 'blamed', '')"
        )
        await connection.execute(
            "UPDATE relay_tenants SET state = 'idle', reason = 'why', since = $1", SINCE.replace(hour=1)
        )
    (record,) = await outbox.show(MessageId("m"), None)
    assert [what for _, what, _ in record.history] == ["counted"]
    (row,) = await outbox.transfer.read_rows([record.row])
    assert [what for _, what, _ in row.history] == ["counted"]
    assert await outbox.states() == {
        ACME: replace(WAITING, state="idle", since=SINCE.replace(hour=1), kind="", documents=())
    }


async def test_the_upgrade_to_version_3_may_be_run_twice(url: str, opened_there: Open) -> None:
    async with connected(url) as connection:
        await connection.execute(schema(url))
        checks = await connection.fetch(
            "SELECT pg_get_constraintdef(oid) FROM pg_constraint"
            " WHERE conrelid = 'relay_history'::regclass AND contype = 'c'"
        )
    assert ["counted" in text for (text,) in checks] == [True]
    outbox = await opened_there(url)
    assert await outbox.states() == {}
