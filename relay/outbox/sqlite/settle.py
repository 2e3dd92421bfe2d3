"""This file is what workers write: messages handed over, what became of them, old ones deleted."""

import json
import os
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import assert_never

from relay.core.model import (
    Delivered,
    Draft,
    MessageId,
    Parked,
    Released,
    RowId,
    Settlement,
    classic_message_id,
)
from relay.core.ports import ConflictError
from relay.outbox.payload_digest import fingerprint
from relay.outbox.sqlite.json_rows import in_one_step, rows

HISTORY_KEPT = 100
"""Entries a message keeps; a message that waits for weeks must not fill the disk with its story."""

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

# Only messages with a story get its end written: a plain delivery costs one UPDATE.
_TELL_DELIVERED = """
INSERT INTO relay_history (row, what, detail)
SELECT id, 'delivered', '' FROM relay_outbox
WHERE id IN (SELECT value FROM json_each(?1) WHERE value IN (SELECT row FROM relay_history))
  AND state <> 'delivered'
"""

_DELIVERED = """
UPDATE relay_outbox
SET state = 'delivered', settled_at = strftime('%Y-%m-%dT%H:%M:%fZ', 'now'), reason = NULL, not_before = NULL
WHERE id IN (SELECT value FROM json_each(?1)) AND state <> 'delivered'
"""

_SHED = """
UPDATE relay_outbox
SET payload_size = length(CAST(payload AS BLOB)), payload = sha256(CAST(payload AS BLOB))
WHERE id IN (SELECT value FROM json_each(?1)) AND state = 'delivered' AND payload_size IS NULL
"""

_SETTLED = in_one_step(
    2,
    """
SELECT id, settled_at FROM relay_outbox INDEXED BY relay_outbox_settled
WHERE (state = 'delivered' OR state = 'dropped') AND (settled_at, id) > (?, ?)
  AND settled_at < strftime('%Y-%m-%dT%H:%M:%fZ', 'now', printf('-%.3f seconds', ?))
ORDER BY settled_at, id LIMIT ?
""",
)

_RELEASED = """
UPDATE relay_outbox
SET reason = :reason, attempts = attempts + :counted,
    not_before = CASE WHEN :wait > 0
        THEN strftime('%Y-%m-%dT%H:%M:%fZ', 'now', printf('+%.3f seconds', :wait)) END
WHERE id = :row AND state = 'pending'
"""

_PARKED = """
UPDATE relay_outbox
SET state = 'parked', settled_at = strftime('%Y-%m-%dT%H:%M:%fZ', 'now'), reason = :reason, not_before = NULL
WHERE id = :row AND state = 'pending'
"""

_TELL = "INSERT INTO relay_history (row, what, detail) VALUES (?, ?, ?)"

_FORGET = """
DELETE FROM relay_history WHERE id IN (
    SELECT id FROM relay_history WHERE row = ? ORDER BY id DESC LIMIT -1 OFFSET ?)
"""

_PRUNE = """
DELETE FROM relay_outbox WHERE id IN (
    SELECT id FROM relay_outbox INDEXED BY relay_outbox_settled
    WHERE (state = 'delivered' OR state = 'dropped')
      AND settled_at < strftime('%Y-%m-%dT%H:%M:%fZ', 'now', printf('-%.3f seconds', ?))
    ORDER BY settled_at LIMIT ?)
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


def settle(
    connection: sqlite3.Connection, settlements: Sequence[tuple[RowId, Settlement]], *, purging: bool = False
) -> None:
    """Deliveries first, in one statement: they win over whatever else is said of the same message.

    `shedding`: their payloads go at once.
    """
    delivered = json.dumps([row for row, settlement in settlements if isinstance(settlement, Delivered)])
    if delivered != "[]":
        connection.execute(_TELL_DELIVERED, (delivered,))
        connection.execute(_DELIVERED, (delivered,))
        if purging:
            connection.execute(_SHED, (delivered,))
    for row, settlement in settlements:
        match settlement:
            case Delivered():
                pass
            case Released(reason, counted, wait):
                values = {"row": row, "reason": reason, "counted": int(counted), "wait": wait}
                if connection.execute(_RELEASED, values).rowcount:
                    tell(connection, row, "counted" if counted else "released", reason)
            case Parked(reason):
                if connection.execute(_PARKED, {"row": row, "reason": reason}).rowcount:
                    tell(connection, row, "parked", reason)
            case _:
                assert_never(settlement)


def tell(connection: sqlite3.Connection, row: RowId, what: str, detail: str) -> None:
    """Write into the message's story, and forget its oldest part where it grows too long."""
    connection.execute(_TELL, (row, what, detail))
    connection.execute(_FORGET, (row, HISTORY_KEPT))


def prune(connection: sqlite3.Connection, older_than: float, limit: int) -> int:
    """Delete the longest settled ones, delivered and dropped; their stories go with them."""
    return connection.execute(_PRUNE, (older_than, limit)).rowcount


@dataclass(frozen=True, slots=True)
class PayloadPurge:
    """How far the payloads are gone: up to this row, in the order of settling. `looked_at`: in this batch."""

    settled_at: str = ""
    row: int = 0
    looked_at: int = 0


def purge_payloads(
    connection: sqlite3.Connection, before: PayloadPurge, older_than: float, limit: int
) -> PayloadPurge:
    """Let go of the payloads of the next messages that were delivered so long ago."""
    found = rows(connection, _SETTLED, (before.settled_at, before.row, older_than, limit))
    if not found:
        return PayloadPurge(before.settled_at, before.row)
    connection.execute(_SHED, (json.dumps([row for row, _ in found]),))
    last, settled_at = found[-1]
    return PayloadPurge(settled_at, last, len(found))
