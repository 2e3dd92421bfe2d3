"""What an outbox of an earlier schema version holds stays readable, and relays of that version may go on writing."""

import contextlib
import sqlite3
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from relay.core.model import DocumentName, MessageId, TenantState
from relay.outbox import schema
from relay.outbox.sqlite import schema as sqlite_schema
from tests.outbox.conftest import Opener
from tests.support.pgstore import ACME, Open, draft
from tests.support.postgres import connected

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


async def test_a_file_of_version_2_keeps_its_history_and_calls_counted_what_it_called_blamed(
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
    (row,) = await outbox.rows.pick([1])
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
    (row,) = await outbox.rows.pick([record.row])
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
