"""What is deleted and purged on SQLite once it was settled long ago."""

import json
import sqlite3
from collections.abc import Sequence

from relay.core.model import RowId
from relay.outbox.retention import Place
from relay.outbox.sqlite.json_rows import in_one_step, rows
from relay.outbox.sqlite.settle import PURGING

_SETTLED = in_one_step(
    2,
    """
SELECT settled_at, id FROM relay_outbox INDEXED BY relay_outbox_settled
WHERE (state = 'delivered' OR state = 'dropped') AND (settled_at, id) > (?, ?)
  AND settled_at < strftime('%Y-%m-%dT%H:%M:%fZ', 'now', printf('-%.3f seconds', ?))
ORDER BY settled_at, id LIMIT ?
""",
)

_DELETE = """
DELETE FROM relay_outbox
WHERE id IN (SELECT value FROM json_each(?)) AND (state = 'delivered' OR state = 'dropped')
"""

_PURGE = f"""
UPDATE relay_outbox SET {PURGING}
WHERE id IN (SELECT value FROM json_each(?)) AND state = 'delivered' AND payload_size IS NULL
"""  # noqa: S608


def settled_long_ago(
    connection: sqlite3.Connection, after: Place | None, older_than: float, limit: int
) -> list[Place]:
    """The next rows that were settled so long ago, in the order of settling."""
    settled_at, row = ("", 0) if after is None else after
    return [
        (at, RowId(found)) for at, found in rows(connection, _SETTLED, (settled_at, row, older_than, limit))
    ]


def delete(connection: sqlite3.Connection, ids: Sequence[RowId]) -> int:
    """Delete those that are settled still, with their histories; how many."""
    return connection.execute(_DELETE, (json.dumps(ids),)).rowcount


def purge(connection: sqlite3.Connection, ids: Sequence[RowId]) -> int:
    """Purge the payloads of those that are delivered still; how many."""
    return connection.execute(_PURGE, (json.dumps(ids),)).rowcount
