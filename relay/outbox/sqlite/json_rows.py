"""Reads rows of the SQLite outbox in one step, however many there are.

For each row that it steps to, Python's driver releases the interpreter's lock and has to win it back from the
loop's thread. Beside a busy loop that takes up to milliseconds a row; as one JSON text, all rows cost it once
(decision 0013).
"""

import json
import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any

from relay.core.model import RowId
from relay.outbox.values import MAX_TEXT

REPLACED = "\ufffd"
"""What a connection reads for bytes that are not UTF-8; an application may also have written it."""

Values = Sequence[object] | Mapping[str, object]


def text(column: str) -> str:
    """The column as text of bounded length, in a statement: SQLite's columns hold values of any type."""
    return f"substr(CAST({column} AS TEXT), 1, {MAX_TEXT})"


def integer(column: str) -> str:
    """The same as an integer; 0 for what is none."""
    return f"CAST({column} AS INTEGER)"


def in_one_step(columns: int, select: str) -> str:
    """The same statement for `rows`. Its columns must not be blobs: JSON has none."""
    names = ", ".join(f"c{number}" for number in range(columns))
    return (
        f"WITH found_rows({names}) AS ({select}) SELECT json_group_array(json_array({names})) FROM found_rows"  # noqa: S608
    )


def rows(connection: sqlite3.Connection, statement: str, values: Values = ()) -> Sequence[Sequence[Any]]:
    """Every row that a statement made by `in_one_step` finds, in its order."""
    (text,) = connection.execute(statement, values).fetchone()
    found: Sequence[Sequence[Any]] = json.loads(text)
    return found


def row_ids(connection: sqlite3.Connection, statement: str, values: Values) -> list[RowId]:
    """The same of a statement that finds the messages' row ids alone."""
    return [RowId(row) for (row,) in rows(connection, statement, values)]
