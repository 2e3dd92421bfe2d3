"""Values that a column of the outbox may be given by any program, as SQL; and the stores that take or refuse them.

A value is an SQL expression, so that a test can write what no driver would: text that is not UTF-8, numbers in
columns of text, infinite instants. What a constraint refuses is refused; what it admits, the relay must bear.
"""

import json
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Protocol

import asyncpg
from hypothesis import strategies as st

from relay.core.validation import MAX_NESTING, MAX_PARAMETERS
from relay.outbox.postgres import schema as postgres_schema
from relay.outbox.postgres.table_names import TableNames
from relay.outbox.sqlite import schema as sqlite_schema
from tests.support.postgres import connected

Columns = Mapping[str, str]
"""Column → SQL expression."""


class OddStore(Protocol):
    """An outbox as a program uses it that knows SQL and nothing of the relay."""

    kind: str
    url: str

    async def insert(self, columns: Columns, table: str = "relay_outbox") -> int | None:
        """One row; its id, or None where it was refused."""

    async def ask(self, sql: str) -> Sequence[Sequence[Any]]:
        """The rows of a query."""

    def text(self, data: bytes) -> str:
        """These bytes as text."""

    def columns_of(self, table: str) -> str:
        """A query for the names of its columns."""


class OddSqlite:
    """A file."""

    kind = "sqlite"

    def __init__(self, path: Path) -> None:
        self._path, self.url = path, f"sqlite:///{path}"

    async def insert(self, columns: Columns, table: str = "relay_outbox") -> int | None:
        with closing(sqlite3.connect(self._path, timeout=30, isolation_level=None)) as connection:
            try:
                return connection.execute(_insert(table, columns)).lastrowid
            except sqlite3.Error:
                return None

    async def ask(self, sql: str) -> Sequence[Sequence[Any]]:
        with closing(sqlite3.connect(self._path, timeout=30, isolation_level=None)) as connection:
            connection.text_factory = lambda data: str(data, "utf-8", "replace")
            return connection.execute(sql).fetchall()

    def text(self, data: bytes) -> str:
        return f"CAST(x'{data.hex()}' AS TEXT)"

    def columns_of(self, table: str) -> str:
        return f"SELECT name FROM pragma_table_info('{table}')"


class OddPostgres:
    """A database."""

    kind = "postgres"

    def __init__(self, url: str) -> None:
        self.url = url

    async def insert(self, columns: Columns, table: str = "relay_outbox") -> int | None:
        async with connected(self.url) as connection:
            key = "id" if table in {"relay_outbox", "relay_history", "relay_audit"} else "0"
            into = _insert(table, columns, "OVERRIDING SYSTEM VALUE" if "id" in columns else "")
            try:
                row: int = await connection.fetchval(f"{into} RETURNING {key}")
            except asyncpg.PostgresError:
                return None
            return row

    async def ask(self, sql: str) -> Sequence[Sequence[Any]]:
        async with connected(self.url) as connection:
            return [tuple(row) for row in await connection.fetch(sql)]

    def text(self, data: bytes) -> str:
        return f"convert_from('\\x{data.hex()}'::bytea, 'UTF8')"

    def columns_of(self, table: str) -> str:
        return f"SELECT attname FROM pg_attribute WHERE attrelid = '{table}'::regclass AND attnum > 0"


def _insert(table: str, columns: Columns, more: str = "") -> str:
    return f"INSERT INTO {table} ({', '.join(columns)}) {more} VALUES ({', '.join(columns.values())})"


def sqlite_at_version(path: Path, version: int) -> None:
    """A file as a relay made it that knew this version of the schema."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        for number, text in sqlite_schema.versions():
            if number <= version:
                connection.executescript(text)


async def postgres_at_version(url: str, version: int) -> None:
    """The same in an empty database."""
    async with connected(url) as connection:
        for number, text in postgres_schema.versions():
            if number <= version:
                await connection.execute(TableNames().definition(text))


# --- values -----------------------------------------------------------------------------------------------

TEXTS: Sequence[bytes] = (
    *(text.encode() for text in (
        "a", " a ", "é", "😀" * 100, "日本", "\u00a0", "\u0085", "\u2028", "\u202e\u2066", "\u200b", "\ufeff", "\ufffd",
        "\ufffe", "\U0010ffff", "\u0301", "'", '"', "\\", "\\ud800", "%", "%s", "{0}", "{{ 7*7 }}", "[red]x[/red]",
        "<script>alert(1)</script>", "&amp;", "../../x", "a/b?c=d&e#f", "a+b", "--json", "-x", "null", "0", "\n", "\t",
        "\x1b[31m", "\x7f", "\x00", "a\x00b", "x" * 22, "x" * 100, "x" * 250, "x" * 251, "X", "x" * 10_000,
    )),
    b"\xff", b"a\x80", b"\xc3", b"\xe2\x82", b"\xed\xa0\x80", b"\xf8\x88\x80\x80\x80", b"\xc1\x81",
)  # fmt: skip

PARAMETERS: Sequence[str] = (
    "{}", " {} ", '{"variationId": 3}', '{"variationId": 1e3}', '{"variationId": -1}', '{"source": 1e999}',
    '{"source": -1e999}', '{"source": NaN}', '{"source": Infinity}', '{"source": "\\ud800"}', '{"\\ud800": 1}',
    '{"custom_A": "\\u0000"}', '{"a\\u0000b": 1}', '{"custom_A": "\\udfff\\ud800"}', '{"custom_A": "1", "custom_A": "2"}',
    '{"source": ' + "[" * (MAX_NESTING - 1) + "]" * (MAX_NESTING - 1) + "}",
    '{"source": ' + "[" * 990 + "]" * 990 + "}", '{"source": ' + "[" * 1990 + "]" * 1990 + "}",
    '{"source": ' + "[" * 3000 + "]" * 3000 + "}", '{"source": ' + '{"a":' * 900 + "1" + "}" * 900 + "}",
    '{"variationId": ' + "9" * 5000 + "}", '{"variationId": ' + "9" * 200_000 + "}", '{"source": 1' + "0" * 4000 + "}",
    '{"custom_A": "' + "x" * MAX_PARAMETERS + '"}', '{"custom_A": "' + "x" * 2_000_000 + '"}', "[]", "null", "1", '"x"', "",
    "{", "{a: 1}", "{'a': 1}", '{"a": 1,}', '{"a": +1}', '{"a": 0x10}', '{"a": .5}', '{"traceparent": 1}',
    '{"documentName": "x"}', '{"encoding": null}', '{"instances": {"a": [1, 2.5, null, true]}}', '{"": ""}',
    '{"unreadable": "x", "text": 1}', '{"batchAbortIndicator": "true"}', '{"source": 0.1e-400}', '{"source": "\u202e\u2028"}',
)  # fmt: skip

INSTANTS: Mapping[str, Sequence[str]] = {
    "sqlite": (
        "'0000-01-01T00:00:00.000Z'", "'0001-01-01T00:00:00.000Z'", "'0099-12-31T23:59:59.999Z'",
        "'9999-12-31T23:59:59.999Z'", "'2500-02-28T00:00:00.000Z'", "'2000-02-30T00:00:00.000Z'",
        "'-001-01-01T00:00:00.000Z'", "'now'", "'infinity'", "''", "0", "-1", "1e300", "9e999", "x'ff'", "NULL",
        "strftime('%Y-%m-%dT%H:%M:%fZ', 'now')", "CAST(x'323032ff2d30312d30315430303a30303a30302e3030305a' AS TEXT)",
        "CAST('2025-01-01T00:00:00.000Z' AS BLOB)", "'2025-01-01T00:00:00.000Z' || char(0)",
    ),
    "postgres": (
        "'infinity'", "'-infinity'", "'20000-01-01'", "'4000-01-01 BC'", "'4714-11-24 00:00+00 BC'",
        "'294276-12-31 23:59:59.999999+00'", "'9999-12-31 23:59:59.999999+00'", "'9999-12-31 23:59:59.999+00'",
        "'0001-01-01 00:00+00'", "'0001-01-01 00:00+00 BC'", "'1970-01-01 00:00+00'", "now()", "NULL",
    ),
}  # fmt: skip

NUMBERS = (
    "0", "1", "-1", str(2**31 - 1), str(2**31), str(2**63 - 1), str(-(2**63) + 1), str(2**63), "1.5", "1e300", "NULL",
    "'x'", "'9'", "9e999",
)  # fmt: skip

PAYLOADS: Mapping[str, Sequence[str]] = {
    "sqlite": (
        "'x'",
        "x'00ff00'",
        "CAST(x'ff00' AS TEXT)",
        "x''",
        "1",
        "'a' || char(0) || 'b'",
        "zeroblob(100000)",
    ),
    "postgres": ("'x'", "'\\x00ff00'", "'\\x'", "convert_to(repeat('é', 50000), 'UTF8')"),
}

STATES = ("'pending'", "'delivered'", "'parked'", "'dropped'", "'PENDING'", "''", "NULL", "'new'")


def literal(text: str) -> str:
    """As a constant; SQL keeps what JSON escapes."""
    return "'" + text.replace("'", "''") + "'"


def values_of(store: OddStore, column: str) -> list[str]:
    """The values that are tried in a column of `relay_outbox`."""
    texts = [*map(store.text, TEXTS), "NULL", "1", "1.5", "x'61ff'" if store.kind == "sqlite" else "'\\xff'"]
    match column:
        case "to_logical_id":
            return [*texts, *(f"'lid://' || {text}" for text in texts)]
        case "parameters":
            return [*map(literal, PARAMETERS), *texts]
        case "state":
            return [*STATES, *texts]
        case "created_at" | "queued_at" | "not_before" | "settled_at":
            return [*INSTANTS[store.kind], *texts[:3]]
        case "id":  # not those that the sequence gives next, nor the one behind which SQLite has none
            return [
                number for number in NUMBERS if number not in {"1", "1.5", "'9'", str(2**63 - 1)}
            ] + texts[:3]
        case "attempts" | "payload_size":
            return [*NUMBERS, *texts[:3]]
        case "payload":
            return [*PAYLOADS[store.kind]]
        case _:
            return texts


COLUMNS = (
    "id", "tenant_id", "document_name", "message_id", "to_logical_id", "ordering_key", "parameters", "state", "attempts",
    "not_before", "reason", "created_at", "queued_at", "settled_at", "payload", "payload_size",
)  # fmt: skip


def rows(store: OddStore) -> st.SearchStrategy[dict[str, str]]:
    """Any values in any columns, of those tables above or made up."""
    made = {
        "parameters": st.dictionaries(st.text(st.characters(exclude_categories=())), _JSON, max_size=3).map(
            _json
        ),
        "not_before": _instants(store),
        "created_at": _instants(store),
        "queued_at": _instants(store),
        "settled_at": _instants(store),
    }
    made |= {
        name: st.one_of(st.binary(max_size=30), st.text().map(str.encode)).map(store.text)
        for name in ("document_name", "message_id", "ordering_key", "reason")
    }
    made |= {name: st.integers(-(2**63) + 1, 2**63 - 1).map(str) for name in ("attempts", "payload_size")}
    columns = {
        name: st.one_of(st.sampled_from(values_of(store, name)), made.get(name, st.nothing()))
        for name in COLUMNS
        if name not in {"id", "tenant_id"}
    }
    few = st.lists(st.sampled_from(sorted(columns)), min_size=1, max_size=3, unique=True)
    return few.flatmap(lambda names: st.fixed_dictionaries({name: columns[name] for name in names}))


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=())),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)


def _json(value: object) -> str:
    return literal(json.dumps(value))


def _instants(store: OddStore) -> st.SearchStrategy[str]:
    if store.kind == "sqlite":
        return st.datetimes().map(lambda when: f"'{when.isoformat(timespec='milliseconds')}Z'")
    return st.integers(-210_000_000_000, 9_000_000_000_000).map(lambda at: f"to_timestamp({at})")
