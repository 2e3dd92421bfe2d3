"""What is written to messages on SQLite: new ones, and their settlements."""

import json
import os
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence

from relay.core.model import (
    Delivered,
    Draft,
    MessageId,
    MessageKey,
    Parked,
    Released,
    RowId,
    Settlement,
    TenantId,
    classic_message_id,
)
from relay.core.ports import ConflictError, NotSettled
from relay.outbox.payload_digest import fingerprint
from relay.outbox.sqlite.json_rows import in_one_step, rows
from relay.outbox.values import HISTORY_KEPT, MAX_ATTEMPTS, SKIPPED, is_open

_ADD = """
INSERT INTO relay_outbox
    (tenant_id, document_name, message_id, to_logical_id, ordering_key, parameters, payload)
VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (message_id, tenant_id) DO NOTHING
"""

_STORED = """
SELECT document_name, to_logical_id, ordering_key, CAST(payload AS BLOB), payload_size, parameters
FROM relay_outbox WHERE message_id = ? AND tenant_id = ?
"""

# A message's key is one text, its row id first, so that the row is looked up by that. A bare row id stands
# for whatever message the row holds.
_SAME = "key IN (id || char(10) || message_id || char(10) || upper(tenant_id), CAST(id AS TEXT))"

# Only messages with a history get its end written: a plain delivery costs one UPDATE.
_ADD_DELIVERED = f"""
INSERT INTO relay_history (row, what, detail)
SELECT id, 'delivered', ''
FROM (SELECT value AS key FROM json_each(?1) WHERE CAST(value AS INTEGER) IN (SELECT row FROM relay_history))
CROSS JOIN relay_outbox
WHERE id = CAST(key AS INTEGER) AND {_SAME} AND state <> 'delivered'
"""  # noqa: S608

_DELIVERED = f"""
UPDATE relay_outbox
SET state = 'delivered', settled_at = strftime('%Y-%m-%dT%H:%M:%fZ', 'now'), reason = NULL, not_before = NULL
FROM (SELECT value AS key FROM json_each(?1))
WHERE id = CAST(key AS INTEGER) AND {_SAME} AND state <> 'delivered'
"""  # noqa: S608

# `length` and `sha256` see the payload as it was: all of a SET is worked out before.
PURGING = "payload_size = length(CAST(payload AS BLOB)), payload = sha256(CAST(payload AS BLOB))"

_DELIVERED_PURGING = _DELIVERED.replace("not_before = NULL", f"not_before = NULL, {PURGING}")

# A `settlement` that is in the history was written before, by a call whose answer was lost.
_IF_NEW = f"""
WHERE id = CAST(:key AS INTEGER) AND {_SAME.replace("key", ":key", 1)} AND state = 'pending'
  AND NOT EXISTS (SELECT 1 FROM relay_history
                  WHERE row = CAST(:key AS INTEGER) AND settlement = :settlement)
"""  # noqa: S608

_COUNT = f"attempts = attempts + (:counted AND attempts < {MAX_ATTEMPTS})"

_RELEASED = f"""
UPDATE relay_outbox
SET reason = :reason, {_COUNT},
    not_before = CASE WHEN :wait > 0
        THEN strftime('%Y-%m-%dT%H:%M:%fZ', 'now', printf('+%.3f seconds', :wait)) END
{_IF_NEW}"""  # noqa: S608

_PARKED = f"""
UPDATE relay_outbox
SET state = 'parked', settled_at = strftime('%Y-%m-%dT%H:%M:%fZ', 'now'), reason = :reason, not_before = NULL,
    {_COUNT}
{_IF_NEW}"""  # noqa: S608

_HELD = in_one_step(
    4,
    """
SELECT id, message_id, upper(tenant_id), state FROM relay_outbox
WHERE id IN (SELECT value FROM json_each(?))
""",
)

_IS_WRITTEN = "SELECT 1 FROM relay_history WHERE row = ? AND settlement = ?"

_ADD_HISTORY = "INSERT INTO relay_history (row, what, detail, settlement) VALUES (?, ?, ?, ?)"

_TRIM_HISTORY = """
DELETE FROM relay_history WHERE id IN (
    SELECT id FROM relay_history WHERE row = ? ORDER BY id DESC LIMIT -1 OFFSET ?)
"""


def add(connection: sqlite3.Connection, drafts: Sequence[Draft]) -> Sequence[MessageId]:
    """Store them; those that are there already with the same content stay as they are."""
    return [_add(connection, draft) for draft in drafts]


def _add(connection: sqlite3.Connection, draft: Draft) -> MessageId:
    message_id = draft.message_id or classic_message_id(os.urandom(16))
    tenant = draft.tenant_id.upper()
    content = (draft.document_name, draft.to_logical_id, draft.ordering_key)
    name, to, key = content
    values = (tenant, name, message_id, to, key, json.dumps(dict(draft.parameters)), draft.payload)
    if connection.execute(_ADD, values).rowcount == 0:
        *stored, payload, size, parameters = connection.execute(_STORED, (message_id, tenant)).fetchone()
        is_same = tuple(stored) == content and json.loads(parameters) == dict(draft.parameters)
        if not is_same or fingerprint(payload, size) != fingerprint(draft.payload, None):
            raise ConflictError(draft.tenant_id, message_id)
    return message_id


# --- what became of them --------------------------------------------------------------------------

Pair = tuple[MessageKey, Settlement]


def settle(
    connection: sqlite3.Connection, settlements: Sequence[Pair], *, purging: bool = False
) -> NotSettled:
    """Deliveries first, in one statement: they win over whatever else is settled for the same message.

    `purging`: their payloads go at once.
    """
    left = _write(connection, settlements, _key_text, purging=purging)
    return _explain(connection, left, purging=purging) if left else NotSettled()


def _key_text(key: MessageKey) -> str:
    return f"{key.row}\n{key.message_id}\n{key.tenant_id.upper()}"


def _write(
    connection: sqlite3.Connection,
    settlements: Iterable[Pair],
    text_of: Callable[[MessageKey], str],
    *,
    purging: bool,
) -> list[Pair]:
    """Those that changed nothing; where a delivery did not, all deliveries."""
    left: list[Pair] = []
    delivered = [pair for pair in settlements if isinstance(pair[1], Delivered)]
    if delivered:
        keys = json.dumps([text_of(key) for key, _ in delivered])
        connection.execute(_ADD_DELIVERED, (keys,))
        statement = _DELIVERED_PURGING if purging else _DELIVERED
        if connection.execute(statement, (keys,)).rowcount < len(delivered):
            left += delivered
    for key, settlement in settlements:
        if not isinstance(settlement, Delivered) and not _set_back(
            connection, text_of(key), key.row, settlement
        ):
            left.append((key, settlement))
    return left


def _set_back(connection: sqlite3.Connection, key: str, row: RowId, settlement: Released | Parked) -> bool:
    values: dict[str, object] = {"key": key, "reason": settlement.reason, "settlement": settlement.id}
    values["counted"] = int(settlement.counted)
    if isinstance(settlement, Released):
        what = "counted" if settlement.counted else "released"
        changed = connection.execute(_RELEASED, values | {"wait": settlement.wait}).rowcount
    else:
        what = "parked"
        changed = connection.execute(_PARKED, values).rowcount
    if changed:
        connection.execute(_ADD_HISTORY, (row, what, settlement.reason, settlement.id))
        connection.execute(_TRIM_HISTORY, (row, HISTORY_KEPT))
    return bool(changed)


def _explain(connection: sqlite3.Connection, left: Sequence[Pair], *, purging: bool) -> NotSettled:
    """Which of them should have changed their rows.

    The keys are compared here once more, as the driver reads them: a message id that is not UTF-8 is equal
    here alone.
    """
    held = _held(connection, left)
    there = [(key, settlement) for key, settlement in left if key.row in held]
    replaced = {key for key, _ in there if held[key.row][:2] != (key.message_id, key.tenant_id.upper())}
    due = [pair for pair in there if pair[0] not in replaced and _is_due(connection, pair, held)]
    again = _write(connection, due, lambda key: str(key.row), purging=purging)
    held = _held(connection, again)
    skipped = {key: SKIPPED for key, settlement in again if is_open(settlement, held[key.row][2])}
    return NotSettled(frozenset(replaced), skipped)


_Held = Mapping[RowId, tuple[MessageId, TenantId, str]]
"""By row: message id, tenant, state."""


def _held(connection: sqlite3.Connection, pairs: Sequence[Pair]) -> _Held:
    ids = json.dumps(sorted({key.row for key, _ in pairs}))
    return {
        row: (message_id, tenant, state) for row, message_id, tenant, state in rows(connection, _HELD, (ids,))
    }


def _is_due(connection: sqlite3.Connection, pair: Pair, held: _Held) -> bool:
    """Whether the settlement should have changed its row: it was not written earlier."""
    key, settlement = pair
    if not is_open(settlement, held[key.row][2]):
        return False
    if isinstance(settlement, Delivered) or settlement.id is None:
        return True
    return connection.execute(_IS_WRITTEN, (key.row, settlement.id)).fetchone() is None
