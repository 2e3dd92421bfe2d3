"""This file is the table as applications meet it: three columns are enough, and a bad row is refused at the INSERT."""

import contextlib
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from relay.core.validation import (
    MAX_DOCUMENT_NAME,
    MAX_LOGICAL_ID,
    MAX_MESSAGE_ID,
    MAX_ORDERING_KEY,
    MAX_TENANT_ID,
)
from relay.outbox import upgrade


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """An application's own connection, with nothing of the relay's."""
    upgrade(f"sqlite:///{tmp_path}/relay.db")
    with contextlib.closing(sqlite3.connect(tmp_path / "relay.db", isolation_level=None)) as connection:
        yield connection


def insert(connection: sqlite3.Connection, **columns: Any) -> dict[str, Any]:
    row = {"tenant_id": "ACME_PRD", "document_name": "Sync.SalesOrder", "payload": b"x"} | columns
    cursor = connection.execute(
        f"INSERT INTO relay_outbox ({', '.join(row)}) VALUES ({', '.join('?' * len(row))})",
        tuple(row.values()),
    )
    found = connection.execute("SELECT * FROM relay_outbox WHERE id = ?", (cursor.lastrowid,))
    return dict(zip([column[0] for column in found.description], found.fetchone(), strict=True))


INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


def test_three_columns_are_enough(connection: sqlite3.Connection) -> None:
    row = insert(connection)
    assert row["id"] == 1
    assert (row["to_logical_id"], row["ordering_key"], row["parameters"]) == ("lid://default", None, "{}")
    assert (row["state"], row["attempts"], row["not_before"], row["reason"]) == ("pending", 0, None, None)
    assert INSTANT.fullmatch(row["created_at"])
    assert row["queued_at"] == row["created_at"]
    assert row["settled_at"] is None


def test_null_means_the_default(connection: sqlite3.Connection) -> None:
    """Mappers write every column they know."""
    unset = ("message_id", "to_logical_id", "parameters", "state", "attempts", "created_at", "queued_at")
    row = insert(connection, **dict.fromkeys(unset))
    assert all(row[name] is not None for name in unset)


def test_every_row_gets_a_classic_id_of_its_own(connection: sqlite3.Connection) -> None:
    ids = [insert(connection)["message_id"] for _ in range(300)]
    assert len(set(ids)) == 300
    assert all(re.fullmatch(r"[0-9a-f]{12}4[0-9a-f]{3}[89ab][0-9a-f]{15}", id_) for id_ in ids)
    assert {id_[16] for id_ in ids} == set("89ab")


def test_text_is_taken_as_utf_8(connection: sqlite3.Connection) -> None:
    insert(connection, payload="Grüße\0")
    (payload,) = connection.execute("SELECT CAST(payload AS BLOB) FROM relay_outbox").fetchone()
    assert payload == "Grüße\0".encode()


@pytest.mark.parametrize(
    ("rule", "column", "values"),
    [
        (
            "tenant_id_is_1_to_22_letters_digits_underscores",
            "tenant_id",
            ["", "A" * (MAX_TENANT_ID + 1), "A B", "A-B", "Ä", "A\0B", b"ACME"],
        ),
        (
            "document_name_is_1_to_100_printable_characters",
            "document_name",
            ["", " ", "D" * (MAX_DOCUMENT_NAME + 1), "A\nB", "A\x7f", "A\0", b"Sync.X"],
        ),
        (
            "message_id_is_1_to_250_printable_characters",
            "message_id",
            ["", "  ", "m" * (MAX_MESSAGE_ID + 1), "a\tb", "a\0", b"m"],
        ),
        (
            "to_logical_id_begins_with_lid_and_has_at_most_250_characters",
            "to_logical_id",
            [
                "",
                "default",
                "lid://",
                "LID://default",
                "lid://a\0",
                "lid://" + "a" * (MAX_LOGICAL_ID - 5),
                b"lid://default",
            ],
        ),
        (
            "ordering_key_is_null_or_1_to_250_printable_characters",
            "ordering_key",
            ["", " ", "k" * (MAX_ORDERING_KEY + 1), "a\nb", "a\0", b"k"],
        ),
        ("parameters_is_a_json_object", "parameters", ["", "{", "[]", "1", "null", "{'a':1}", b"{}"]),
        ("state_is_pending_delivered_parked_or_dropped", "state", ["", "new", "PENDING"]),
        ("attempts_is_a_whole_number_from_0", "attempts", [-1, 0.5, "many"]),
        ("payload_is_bytes_or_text_and_not_empty", "payload", [b"", "", 5, 0.5]),
        *(
            (
                "instants_are_utc_like_2025_01_31T23_59_59_123Z",
                column,
                [
                    "now",
                    "",
                    "2025-01-31",
                    "2025-01-31 23:59:59",
                    "2025-01-31T23:59:59.123",
                    "2025-02-30T00:00:00.000Z",
                    5,
                ],
            )
            for column in ("created_at", "queued_at", "not_before", "settled_at")
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_bad_row_is_refused_and_the_error_names_the_rule(
    connection: sqlite3.Connection, rule: str, column: str, values: list[Any]
) -> None:
    for value in values:
        with pytest.raises(sqlite3.IntegrityError, match=f"^CHECK constraint failed: {rule}$"):
            insert(connection, **{column: value})
    assert connection.execute("SELECT count(*) FROM relay_outbox").fetchone() == (0,)


@pytest.mark.parametrize("column", ["tenant_id", "document_name", "payload"])
def test_what_must_be_given_is_named(connection: sqlite3.Connection, column: str) -> None:
    with pytest.raises(sqlite3.IntegrityError, match=rf"NOT NULL constraint failed: relay_outbox\.{column}"):
        insert(connection, **{column: None})


def test_everything_within_the_limits_is_taken(connection: sqlite3.Connection) -> None:
    row = insert(
        connection,
        tenant_id="a_Z9" + "A" * (MAX_TENANT_ID - 4),
        document_name="Ü" * MAX_DOCUMENT_NAME,
        message_id="é :-ION-: " + "m" * (MAX_MESSAGE_ID - 10),
        to_logical_id="lid://" + "a" * (MAX_LOGICAL_ID - 6),
        ordering_key="ключ" + "k" * (MAX_ORDERING_KEY - 4),
        parameters='{"documentId": "1", "custom_A": "\\u0000"}',
        not_before="2999-12-31T23:59:59.999Z",
    )
    assert row["state"] == "pending"


def test_numbers_are_taken_as_text_where_text_is_kept(connection: sqlite3.Connection) -> None:
    """Order numbers are handed over as numbers by many a program."""
    row = insert(connection, ordering_key=4711, message_id=12)
    assert (row["ordering_key"], row["message_id"]) == ("4711", "12")


def test_the_same_message_id_is_refused_within_a_tenant_in_whatever_case(
    connection: sqlite3.Connection,
) -> None:
    insert(connection, message_id="m")
    insert(connection, message_id="m", tenant_id="GLOBEX")
    with pytest.raises(sqlite3.IntegrityError, match=r"UNIQUE .*relay_outbox\.message_id"):
        insert(connection, message_id="m", tenant_id="acme_prd")


def test_an_application_may_ignore_what_it_handed_over_before(connection: sqlite3.Connection) -> None:
    statement = (
        "INSERT INTO relay_outbox (tenant_id, document_name, payload, message_id) VALUES ('A', 'B', 'x', 'm') "
        "ON CONFLICT (tenant_id, message_id) DO NOTHING"
    )
    assert [connection.execute(statement).rowcount for _ in range(2)] == [1, 0]


def test_the_applications_own_last_row_id_is_the_messages(connection: sqlite3.Connection) -> None:
    """The triggers that count write rows too."""
    cursor = connection.execute(
        "INSERT INTO relay_outbox (tenant_id, document_name, payload) VALUES ('A', 'B', 'x')"
    )
    assert (cursor.lastrowid, cursor.rowcount) == (1, 1)
    assert connection.execute("SELECT last_insert_rowid()").fetchone() == (1,)


def test_what_the_application_rolls_back_was_never_handed_over(connection: sqlite3.Connection) -> None:
    connection.execute("BEGIN")
    insert(connection)
    connection.execute("ROLLBACK")
    assert connection.execute("SELECT count(*) FROM relay_outbox").fetchone() == (0,)
    assert connection.execute("SELECT coalesce(sum(pending), 0) FROM relay_counts").fetchone() == (0,)


def test_counters_follow_whatever_is_done_by_hand(connection: sqlite3.Connection) -> None:
    for state in ("pending", "pending", "delivered", "parked", "dropped"):
        insert(connection, state=state)
    connection.execute("UPDATE relay_outbox SET state = 'parked' WHERE id IN (1, 3)")
    connection.execute("DELETE FROM relay_outbox WHERE id IN (2, 4)")
    assert connection.execute("SELECT * FROM relay_counts").fetchall() == [("ACME_PRD", 0, 0, 2, 1)]
