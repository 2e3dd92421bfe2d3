"""Rows that were written on SQLite with the constraints switched off: they are read, and so is what is beside them."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from relay.core.admin import Filter
from relay.core.model import DocumentName, TenantId
from relay.outbox import open_outbox, upgrade

ACME, ORDER = TenantId("ACME"), DocumentName("Sync.SalesOrder")
COLUMNS = ("message_id", "to_logical_id", "ordering_key", "document_name", "parameters", "attempts", "not_before",
           "created_at", "queued_at", "settled_at", "payload", "payload_size", "reason")  # fmt: skip
VALUES = (b"\xff\x00", "", "tomorrow", 42, 1.5, -(2**63))


@pytest.mark.parametrize("column", COLUMNS)
async def test_a_value_of_any_type_in_a_column_hides_no_other_message(tmp_path: Path, column: str) -> None:
    url = f"sqlite:///{tmp_path / 'outbox.db'}"
    upgrade(url)
    with closing(sqlite3.connect(tmp_path / "outbox.db", isolation_level=None)) as connection:
        connection.execute("PRAGMA ignore_check_constraints = ON")
        for trigger in ("relay_outbox_inserted_limits", "relay_outbox_updated_limits"):
            connection.execute(f"DROP TRIGGER {trigger}")
        for number in range(len(VALUES) + 1):
            columns: dict[str, object] = {
                "tenant_id": ACME,
                "document_name": ORDER,
                "message_id": f"m{number}",
                "payload": b"x",
            }
            columns |= {column: VALUES[number]} if number < len(VALUES) else {}
            names, marks = ", ".join(columns), ", ".join("?" * len(columns))
            connection.execute(
                f"INSERT INTO relay_outbox ({names}) VALUES ({marks})", tuple(columns.values())
            )
    outbox = await open_outbox(url, notify=False)
    try:
        documents = await outbox.documents(ACME)
        due = await outbox.due(ACME, documents, frozenset(), frozenset(), 100, 2**20)
        assert due[-1].message_id == f"m{len(VALUES)}"
        assert len(await outbox.find(Filter(ACME), 100)) == len(VALUES) + 1
        assert await outbox.queue_ages(ACME, 100)
    finally:
        await outbox.close()
