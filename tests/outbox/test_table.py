"""The table as an interface for applications: three columns are enough, and a bad row is refused at the INSERT."""

import contextlib
import re
import sqlite3
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from relay.core.validation import (
    MAX_DOCUMENT_NAME,
    MAX_LOGICAL_ID,
    MAX_MESSAGE_ID,
    MAX_ORDERING_KEY,
    MAX_TENANT_ID,
)
from relay.outbox import upgrade
from tests.outbox.applications import Application, PostgresApplication, RefusedError, SqliteApplication
from tests.support.postgres import Cluster, connected

ENQUEUE = (Path(__file__).resolve().parents[2] / "docs" / "enqueue.md").read_text()


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """An application's own connection, with nothing of the relay's."""
    upgrade(f"sqlite:///{tmp_path}/relay.db")
    with contextlib.closing(sqlite3.connect(tmp_path / "relay.db", isolation_level=None)) as connection:
        yield connection


@pytest.fixture(params=["sqlite", "postgres"])
async def application(request: pytest.FixtureRequest) -> AsyncIterator[Application]:
    """The same on each store."""
    if request.param == "sqlite":
        yield SqliteApplication(request.getfixturevalue("connection"))
        return
    cluster: Cluster = request.getfixturevalue("postgres")
    async with cluster.reused_outbox() as url, connected(url) as connection:
        yield PostgresApplication(connection)


async def test_three_columns_are_enough(application: Application) -> None:
    row = await application.insert()
    assert (row["to_logical_id"], row["ordering_key"], row["parameters"]) == ("lid://default", None, "{}")
    assert (row["state"], row["attempts"], row["not_before"], row["reason"]) == ("pending", 0, None, None)
    assert None not in (row["created_at"], row["queued_at"])
    assert row["settled_at"] is None


def test_instants_are_text_that_sorts(connection: sqlite3.Connection) -> None:
    connection.execute("INSERT INTO relay_outbox (tenant_id, document_name, payload) VALUES ('A', 'B', 'x')")
    created, queued = connection.execute("SELECT created_at, queued_at FROM relay_outbox").fetchone()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", created)
    assert queued == created
    connection.execute("UPDATE relay_outbox SET not_before = '2999-12-31T23:59:59.999Z'")


async def test_null_means_the_default(application: Application) -> None:
    """Mappings write every column they know."""
    unset = ("message_id", "to_logical_id", "parameters", "state", "attempts", "created_at", "queued_at")
    row = await application.insert(**dict.fromkeys(unset))
    assert all(row[name] is not None for name in unset)
    assert (row["to_logical_id"], row["parameters"], row["attempts"]) == ("lid://default", "{}", 0)


async def test_every_row_gets_a_classic_id_of_its_own(application: Application) -> None:
    ids = [(await application.insert())["message_id"] for _ in range(300)]
    assert len(set(ids)) == 300
    assert all(re.fullmatch(r"[0-9a-f]{12}4[0-9a-f]{3}[89ab][0-9a-f]{15}", id_) for id_ in ids)
    assert {id_[16] for id_ in ids} == set("89ab")


def test_text_is_taken_as_utf_8(connection: sqlite3.Connection) -> None:
    connection.execute(
        "INSERT INTO relay_outbox (tenant_id, document_name, payload) VALUES ('A', 'B', ?)", ("Grüße\0",)
    )
    (payload,) = connection.execute("SELECT CAST(payload AS BLOB) FROM relay_outbox").fetchone()
    assert payload == "Grüße\0".encode()


@pytest.mark.parametrize(
    ("rule", "column", "values"),
    [
        (
            "tenant_id_is_1_to_22_letters_digits_underscores",
            "tenant_id",
            ["", "A" * (MAX_TENANT_ID + 1), "A B", "A-B", "Ä"],
        ),
        (
            "document_name_is_1_to_100_printable_characters",
            "document_name",
            ["", " ", "D" * (MAX_DOCUMENT_NAME + 1), "A\nB", "A\x7f"],
        ),
        (
            "message_id_is_1_to_250_printable_characters",
            "message_id",
            ["", "  ", "m" * (MAX_MESSAGE_ID + 1), "a\tb"],
        ),
        (
            "to_logical_id_begins_with_lid_and_has_at_most_250_characters",
            "to_logical_id",
            ["", "default", "lid://", "LID://default", "lid://" + "a" * (MAX_LOGICAL_ID - 5)],
        ),
        (
            "ordering_key_is_null_or_1_to_250_printable_characters",
            "ordering_key",
            ["", " ", "k" * (MAX_ORDERING_KEY + 1), "a\nb"],
        ),
        ("parameters_is_a_json_object", "parameters", ["[]", "1", "null"]),
        ("state_is_pending_delivered_parked_or_dropped", "state", ["", "new", "PENDING"]),
        ("attempts_is_a_whole_number_from_0", "attempts", [-1]),
        ("not_empty", "payload", [b""]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_a_bad_row_is_refused_and_the_error_names_the_rule(
    application: Application, rule: str, column: str, values: list[Any]
) -> None:
    for value in values:
        with pytest.raises(RefusedError, match=rf"(?i)check constraint.*{rule}\b"):
            await application.insert(**{column: value})
    assert await application.rows("SELECT count(*) FROM relay_outbox") == [(0,)]


@pytest.mark.parametrize(
    ("rule", "column", "values"),
    [
        ("tenant_id_is_1_to_22_letters_digits_underscores", "tenant_id", ["A\0B", b"ACME"]),
        ("document_name_is_1_to_100_printable_characters", "document_name", ["A\0", b"Sync.X"]),
        ("message_id_is_1_to_250_printable_characters", "message_id", ["a\0", b"m"]),
        (
            "to_logical_id_begins_with_lid_and_has_at_most_250_characters",
            "to_logical_id",
            ["lid://a\0", b"lid://default"],
        ),
        ("ordering_key_is_null_or_1_to_250_printable_characters", "ordering_key", ["a\0", b"k"]),
        ("parameters_is_a_json_object", "parameters", ["", "{", "{'a':1}", b"{}"]),
        ("attempts_is_a_whole_number_from_0", "attempts", [0.5, "many"]),
        ("payload_is_bytes_or_text_and_not_empty", "payload", ["", 5, 0.5]),
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
async def test_what_a_typed_column_would_refuse_is_refused_by_sqlite_too(
    connection: sqlite3.Connection, rule: str, column: str, values: list[Any]
) -> None:
    for value in values:
        with pytest.raises(RefusedError, match=f"^CHECK constraint failed: {rule}$"):
            await SqliteApplication(connection).insert(**{column: value})
    assert connection.execute("SELECT count(*) FROM relay_outbox").fetchone() == (0,)


TEXTS = ("document_name", "message_id", "to_logical_id", "ordering_key")

NOT_UTF_8 = ("ff", "c3", "80", "e282", "eda080", "c181", "f888808080", "f4908080")


@pytest.mark.parametrize("column", TEXTS)
def test_text_that_is_not_utf_8_is_refused_by_sqlite(connection: sqlite3.Connection, column: str) -> None:
    """Two message ids that differ in such bytes only would be one to ION. PostgreSQL holds none."""
    given = {"tenant_id": "'A'", "document_name": "'B'", "payload": "'x'"}
    for data in NOT_UTF_8:
        for text in (f"6c69643a2f2f61{data}", f"6c69643a2f2f61{data}c3bc61"):
            row = given | {column: f"CAST(x'{text}' AS TEXT)"}
            statement = f"INSERT INTO relay_outbox ({', '.join(row)}) VALUES ({', '.join(row.values())})"
            with pytest.raises(
                sqlite3.IntegrityError, match=r"^CHECK constraint failed: texts_are_printable_utf_8$"
            ):
                connection.execute(statement)
    connection.execute("INSERT INTO relay_outbox (tenant_id, document_name, payload) VALUES ('A', 'B', 'x')")
    with pytest.raises(sqlite3.IntegrityError, match=r"^CHECK constraint failed: texts_are_printable_utf_8$"):
        connection.execute(f"UPDATE relay_outbox SET {column} = CAST(x'6c69643a2f2f61ff' AS TEXT)")


@pytest.mark.parametrize("text", ["\x80", "a\x85", "\x9fa", "ü\x1b", "\x01"])
async def test_control_characters_are_refused(application: Application, text: str) -> None:
    for column in ("document_name", "message_id", "ordering_key"):
        with pytest.raises(RefusedError, match="printable"):
            await application.insert(**{column: text})


@pytest.mark.parametrize("text", ["ü", "日本語", "😀", "\u0301", "\ufffd", "\ufffe", "\U0010ffff"])
async def test_text_in_every_script_is_taken(application: Application, text: str) -> None:
    row = await application.insert(
        document_name=text, message_id=f"a{text}", to_logical_id=f"lid://{text}", ordering_key=f"{text}1"
    )
    assert (row["document_name"], row["message_id"]) == (text, f"a{text}")


YEARS = {
    "sqlite": ["0000-01-01T00:00:00.000Z", "0000-12-31T23:59:59.999Z"],
    "postgres": [
        "infinity",
        "-infinity",
        "10000-01-01 00:00+00",
        "20000-01-01 00:00+00",
        "0001-12-31 23:59+00 BC",
    ],
}


@pytest.mark.parametrize("column", ["created_at", "queued_at", "not_before", "settled_at"])
async def test_an_instant_that_few_programs_can_hold_is_refused(
    application: Application, column: str
) -> None:
    kind = "postgres" if isinstance(application, PostgresApplication) else "sqlite"
    for when in YEARS[kind]:
        with pytest.raises(
            (sqlite3.IntegrityError, asyncpg.CheckViolationError), match="instants_are_in_the_years_1_to_9999"
        ):
            await application.run(
                f"INSERT INTO relay_outbox (tenant_id, document_name, payload, {column}) VALUES ('A', 'B', 'x', '{when}')"
            )
    fine = "0001-01-01T00:00:00.000Z", "9999-12-31T23:59:59.999Z"
    for when in fine:
        await application.run(
            f"INSERT INTO relay_outbox (tenant_id, document_name, payload, {column}) VALUES ('A', 'B', 'x', '{when}')"
        )


def test_an_id_behind_which_there_are_few_is_refused_by_sqlite(connection: sqlite3.Connection) -> None:
    """AUTOINCREMENT continues behind the greatest: after the last one no INSERT would succeed."""
    statement = "INSERT INTO relay_outbox (id, tenant_id, document_name, payload) VALUES (?, 'A', 'B', 'x')"
    with pytest.raises(sqlite3.IntegrityError, match="id_is_at_most_4611686018427387904"):
        connection.execute(statement, (2**63 - 1,))
    assert connection.execute(statement, (None,)).lastrowid == 1


@pytest.mark.parametrize("column", ["tenant_id", "document_name", "payload"])
async def test_a_column_that_must_be_given_is_named(application: Application, column: str) -> None:
    with pytest.raises(
        RefusedError, match=rf"(?i)not.null constraint.*{column}|{column}.*not-null constraint"
    ):
        await application.insert(**{column: None})


async def test_everything_within_the_limits_is_taken(application: Application) -> None:
    row = await application.insert(
        tenant_id="a_Z9" + "A" * (MAX_TENANT_ID - 4),
        document_name="Ü" * MAX_DOCUMENT_NAME,
        message_id="é :-ION-: " + "m" * (MAX_MESSAGE_ID - 10),
        to_logical_id="lid://" + "a" * (MAX_LOGICAL_ID - 6),
        ordering_key="ключ" + "k" * (MAX_ORDERING_KEY - 4),
        parameters='{"documentId": "1", "custom_A": "\\u0000"}',
    )
    assert row["state"] == "pending"


async def test_numbers_are_taken_as_text_where_text_is_kept(connection: sqlite3.Connection) -> None:
    """Many programs give order numbers as numbers."""
    row = await SqliteApplication(connection).insert(ordering_key=4711, message_id=12)
    assert (row["ordering_key"], row["message_id"]) == ("4711", "12")


async def test_the_same_message_id_is_refused_within_a_tenant_in_whatever_case(
    application: Application,
) -> None:
    await application.insert(message_id="m")
    await application.insert(message_id="m", tenant_id="GLOBEX")
    with pytest.raises(RefusedError, match=r"(?i)unique .*relay_outbox.message"):
        await application.insert(message_id="m", tenant_id="acme_prd")


def test_an_application_may_ignore_what_it_enqueued_before(connection: sqlite3.Connection) -> None:
    statement = (
        "INSERT INTO relay_outbox (tenant_id, document_name, payload, message_id) VALUES ('A', 'B', 'x', 'm') "
        "ON CONFLICT (tenant_id, message_id) DO NOTHING"
    )
    assert [connection.execute(statement).rowcount for _ in range(2)] == [1, 0]


async def test_a_documented_conflict_clause_ignores_the_same_message_and_nothing_else(
    application: Application,
) -> None:
    """A clause without columns would ignore the collision of `id` too, and lose the message."""
    clauses = re.findall(r"^ON CONFLICT .*?DO NOTHING", ENQUEUE, re.MULTILINE)
    assert clauses == [
        "ON CONFLICT (tenant_id, message_id) DO NOTHING",
        "ON CONFLICT (message_id, upper(tenant_id)) DO NOTHING",
    ]
    on_postgres = isinstance(application, PostgresApplication)
    clause, own_id = clauses[on_postgres], "OVERRIDING SYSTEM VALUE" if on_postgres else ""
    columns = "id, tenant_id, document_name, payload, message_id"
    values = f"INSERT INTO relay_outbox ({columns}) {own_id} VALUES"
    for row in ("(1, 'A', 'B', 'x', 'm')", "(2, 'a', 'B', 'x', 'm')"):
        await application.run(f"{values} {row} {clause}")
    with pytest.raises((sqlite3.IntegrityError, asyncpg.UniqueViolationError)):
        await application.run(f"{values} (1, 'A', 'B', 'x', 'n') {clause}")
    assert await application.rows("SELECT id, message_id FROM relay_outbox") == [(1, "m")]


def test_the_applications_own_last_row_id_is_the_messages(connection: sqlite3.Connection) -> None:
    """The triggers that count write rows too."""
    cursor = connection.execute(
        "INSERT INTO relay_outbox (tenant_id, document_name, payload) VALUES ('A', 'B', 'x')"
    )
    assert (cursor.lastrowid, cursor.rowcount) == (1, 1)
    assert connection.execute("SELECT last_insert_rowid()").fetchone() == (1,)


def test_what_the_application_rolls_back_was_never_enqueued(connection: sqlite3.Connection) -> None:
    connection.execute("BEGIN")
    connection.execute("INSERT INTO relay_outbox (tenant_id, document_name, payload) VALUES ('A', 'B', 'x')")
    connection.execute("ROLLBACK")
    assert connection.execute("SELECT count(*) FROM relay_outbox").fetchone() == (0,)
    assert connection.execute("SELECT coalesce(sum(pending), 0) FROM relay_counts").fetchone() == (0,)


async def test_counters_follow_whatever_is_done_by_hand(application: Application) -> None:
    ids = [
        (await application.insert(state=state))["id"]
        for state in ("pending", "pending", "delivered", "parked", "dropped")
    ]
    await application.run(f"UPDATE relay_outbox SET state = 'parked' WHERE id IN ({ids[0]}, {ids[2]})")
    await application.run(f"DELETE FROM relay_outbox WHERE id IN ({ids[1]}, {ids[3]})")
    sums = "sum(pending), sum(delivered), sum(parked), sum(dropped)"
    found = await application.rows(f"SELECT tenant_id, {sums} FROM relay_counts GROUP BY tenant_id")
    assert found == [("ACME_PRD", 0, 0, 2, 1)]
