"""The pending messages that a tenant's worker reads next, on SQLite.

One limited sub-query a document, each along an index of pending rows, so that neither a million rows of a
document that is not accepted nor a million in a lane that is held are scanned.
"""

import heapq
import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence, Set
from itertools import islice
from typing import Any

from relay.core.model import DocumentName, LogicalId, Message, MessageId, OrderingKey, RowId, TenantId
from relay.core.ports import LARGE_PAYLOAD
from relay.core.validation import Problem
from relay.outbox.sqlite.json_rows import REPLACED, in_one_step, row_ids, rows
from relay.outbox.values import LANES, READ_PARAMETERS, WINDOW, PendingFilter

APART = 16_384
"""Bytes of a payload above which it is read alone: together they are held some times over."""

# `|| ''`: as text; whether JSON stays JSON through a statement depends on SQLite's version.
_DOCUMENTS = in_one_step(
    2,
    """
SELECT each.value, (
    WITH RECURSIVE found(name) AS (
        SELECT (SELECT document_name FROM relay_outbox INDEXED BY relay_outbox_lanes
                WHERE state = 'pending' AND tenant_id = each.value ORDER BY document_name LIMIT 1)
        UNION ALL
        SELECT (SELECT document_name FROM relay_outbox INDEXED BY relay_outbox_lanes
                WHERE state = 'pending' AND tenant_id = each.value AND document_name > found.name
                ORDER BY document_name LIMIT 1)
        FROM found WHERE name IS NOT NULL
    ) SELECT json_group_array(CAST(name AS TEXT)) FROM found WHERE name IS NOT NULL) || ''
FROM json_each(?) AS each
""",
)

_WITHOUT_KEY = in_one_step(
    1,
    """
SELECT id FROM relay_outbox INDEXED BY relay_outbox_lanes
WHERE state = 'pending' AND tenant_id = :tenant AND document_name = :document AND ordering_key IS NULL
  AND id > :after AND id NOT IN (SELECT value FROM json_each(:known))
ORDER BY id LIMIT :limit
""",
)

_KEYED = in_one_step(
    1,
    """
SELECT id FROM (
    SELECT id, ordering_key FROM relay_outbox INDEXED BY relay_outbox_keyed
    WHERE state = 'pending' AND ordering_key IS NOT NULL AND tenant_id = :tenant AND document_name = :document
      AND id > :after
    ORDER BY id LIMIT :window)
WHERE ordering_key NOT IN (SELECT value FROM json_each(:held))
  AND id NOT IN (SELECT value FROM json_each(:known))
LIMIT :limit
""",
)

_MORE_KEYED = """
SELECT 1 FROM relay_outbox INDEXED BY relay_outbox_keyed
WHERE state = 'pending' AND ordering_key IS NOT NULL AND tenant_id = :tenant AND document_name = :document
  AND id > :after
ORDER BY id LIMIT 1 OFFSET :window
"""

_FREE_LANES = in_one_step(
    2,
    """
WITH RECURSIVE lane(key) AS (
    SELECT (SELECT ordering_key FROM relay_outbox INDEXED BY relay_outbox_lanes
            WHERE state = 'pending' AND tenant_id = :tenant AND document_name = :document
              AND ordering_key IS NOT NULL ORDER BY ordering_key LIMIT 1)
    UNION ALL
    SELECT (SELECT ordering_key FROM relay_outbox INDEXED BY relay_outbox_lanes
            WHERE state = 'pending' AND tenant_id = :tenant AND document_name = :document
              AND ordering_key > lane.key ORDER BY ordering_key LIMIT 1)
    FROM lane WHERE key IS NOT NULL
    LIMIT :lanes
) SELECT key, key IN (SELECT value FROM json_each(:held)) FROM lane WHERE key IS NOT NULL
""",
)

_IN_LANE = in_one_step(
    1,
    """
SELECT id FROM relay_outbox INDEXED BY relay_outbox_lanes
WHERE state = 'pending' AND tenant_id = :tenant AND document_name = :document AND ordering_key = :key
  AND id > :after AND id NOT IN (SELECT value FROM json_each(:known))
ORDER BY id LIMIT :limit
""",
)

_SIZES = in_one_step(
    2,
    """
SELECT id, CASE typeof(payload) WHEN 'blob' THEN length(payload) ELSE length(CAST(payload AS BLOB)) END
FROM relay_outbox WHERE id IN (SELECT value FROM json_each(?)) ORDER BY id
""",
)

_TEXTS = ("document_name", "message_id", "to_logical_id", "ordering_key", "parameters")

# One row: what is small enough comes as one blob. `max(0, NULL)` is NULL, hence the coalesce; the casts are
# for rows that were written with the constraints switched off. The inner query must not name a payload that
# stays unread: it would be loaded from the disk.
_MESSAGES = f"""
SELECT json_group_array(json_array(
           id, upper(tenant_id), {", ".join(f"CAST({name} AS TEXT)" for name in _TEXTS[:-1])},
           substr(CAST(parameters AS TEXT), 1, {READ_PARAMETERS}), CAST(attempts AS INTEGER),
           coalesce(max(0.0, (julianday(not_before) - julianday('now')) * 86400.0), 0.0),
           coalesce(max(0.0, (julianday('now') - julianday(queued_at)) * 86400.0), 0.0))),
       CAST(group_concat(together, '') AS BLOB)
FROM (SELECT id, tenant_id, document_name, message_id, to_logical_id, ordering_key, parameters, attempts,
             not_before, queued_at,
             CASE WHEN id IN (SELECT value FROM json_each(:apart)) THEN ''
                  ELSE CAST(CAST(payload AS BLOB) AS TEXT) END AS together
      FROM relay_outbox WHERE id IN (SELECT value FROM json_each(:ids)) ORDER BY id)
"""  # noqa: S608  # constants

_RAW_TEXTS = f"""
SELECT {", ".join(f"CAST({name} AS BLOB)" for name in _TEXTS)} FROM relay_outbox WHERE id = ?
"""  # noqa: S608  # constants

_PAYLOAD = "SELECT CAST(payload AS BLOB) FROM relay_outbox WHERE id = ?"

_IS_PENDING = "SELECT 1 FROM relay_outbox WHERE id = ? AND state = 'pending'"


def documents(connection: sqlite3.Connection, tenant: TenantId) -> frozenset[DocumentName]:
    """The document names of the tenant's pending rows."""
    return frozenset(documents_of(connection, [tenant])[tenant])


def documents_of(
    connection: sqlite3.Connection, tenants: Iterable[TenantId]
) -> Mapping[TenantId, Sequence[DocumentName]]:
    """The same of several, sorted: one step along the index for each name."""
    found = rows(connection, _DOCUMENTS, (json.dumps(list(tenants)),))
    return {TenantId(tenant): [DocumentName(name) for name in json.loads(names)] for tenant, names in found}


def due(
    connection: sqlite3.Connection,
    tenant: TenantId,
    accepted: Set[DocumentName],
    pending: PendingFilter,
    max_bytes: int,
) -> Sequence[Message]:
    """The pending messages of accepted documents in the order of their rows."""
    wanted = documents(connection, tenant) & accepted
    ids = pending_ids(connection, tenant, wanted, pending)
    return _read(connection, ids, max_bytes, min(max_bytes, LARGE_PAYLOAD))


def pending_ids(
    connection: sqlite3.Connection, tenant: TenantId, wanted: Iterable[DocumentName], pending: PendingFilter
) -> list[RowId]:
    """The lowest ids over all wanted documents, ascending."""
    values = {
        "tenant": tenant,
        "held": json.dumps([key for key in pending.held if key is not None]),
        "known": json.dumps(list(pending.known)),
        "limit": pending.limit,
        "after": pending.after,
    }
    by_document: list[list[RowId]] = []
    for document in wanted:
        values["document"] = document
        if None not in pending.held:
            by_document.append(row_ids(connection, _WITHOUT_KEY, values))
        by_document.append(_keyed_ids(connection, values, pending))
    return list(islice(heapq.merge(*by_document), pending.limit))


def _keyed_ids(
    connection: sqlite3.Connection, values: dict[str, object], pending: PendingFilter
) -> list[RowId]:
    """By id while few rows must be skipped; lane by lane where a held lane has piled up; else by id again."""
    window = values | {"window": WINDOW + pending.limit}
    found = row_ids(connection, _KEYED, window)
    if len(found) >= pending.limit or connection.execute(_MORE_KEYED, window).fetchone() is None:
        return found
    lanes = rows(connection, _FREE_LANES, values | {"lanes": LANES + 1})
    if len(lanes) > LANES:
        return row_ids(connection, _KEYED, values | {"window": -1})
    free = [key for key, is_held in lanes if not is_held]
    by_document = [row_ids(connection, _IN_LANE, values | {"key": key}) for key in free]
    return list(islice(heapq.merge(*by_document), pending.limit))


def message(connection: sqlite3.Connection, row: RowId, max_bytes: int) -> Message | None:
    """The pending message in this row."""
    if connection.execute(_IS_PENDING, (row,)).fetchone() is None:
        return None
    return _read(connection, [row], max_bytes, max_bytes)[0]


def _read(
    connection: sqlite3.Connection, ids: Sequence[RowId], max_bytes: int, large: int
) -> Sequence[Message]:
    """Sizes first: what does not fit is not read at all. `large`: a payload beyond it stays unread."""
    sizes: dict[RowId, int] = {}
    payloads: dict[RowId, bytes] = {}
    room = max_bytes
    for row, size in rows(connection, _SIZES, (json.dumps(ids),)):
        if size > large:
            payloads[row] = b""
        elif size > room:
            break  # not the ones behind it either: their order would be lost
        else:
            room -= size
            if size > APART:
                (payloads[row],) = connection.execute(_PAYLOAD, (row,)).fetchone()
        sizes[row] = size
    values = {"ids": json.dumps(list(sizes)), "apart": json.dumps(list(payloads))}
    facts, together = connection.execute(_MESSAGES, values).fetchone()
    place = 0
    for row, size in sizes.items():
        if row not in payloads:
            payloads[row] = together[place : place + size]
            place += size
    flawed = _flaws(connection, sizes) if REPLACED in facts else {}
    return [
        _message(each, sizes[each[0]], payloads[each[0]], flawed.get(each[0])) for each in json.loads(facts)
    ]


def _flaws(connection: sqlite3.Connection, ids: Iterable[RowId]) -> Mapping[RowId, str]:
    """What is wrong with those whose text is not UTF-8: two message ids may have become one."""
    flaws: dict[RowId, str] = {}
    for row in ids:
        for name, raw in zip(_TEXTS, connection.execute(_RAW_TEXTS, (row,)).fetchone(), strict=True):
            if raw is not None and raw != str(raw, "utf-8", "replace").encode():
                flaws[row] = str(
                    Problem(name, "is not UTF-8", "enqueue the message again, with text in UTF-8")
                )
    return flaws


def _message(facts: Sequence[Any], size: int, payload: bytes, flaw: str | None) -> Message:
    row, tenant, document, message_id, to, key, parameters, attempts, holds_for, age = facts
    return Message(
        row=RowId(row),
        tenant_id=TenantId(tenant),
        document_name=DocumentName(document),
        message_id=MessageId(message_id),
        payload=payload,
        size=size,
        to_logical_id=LogicalId(to),
        ordering_key=None if key is None else OrderingKey(key),
        parameters=parameters,
        attempts=attempts,
        holds_for=holds_for,
        age=age,
        flaw=flaw,
    )
