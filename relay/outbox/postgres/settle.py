"""What is written to messages on PostgreSQL: new ones, and their settlements."""

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from relay.core.model import (
    Delivered,
    Draft,
    MessageId,
    MessageKey,
    Parked,
    Released,
    RowId,
    Settlement,
    classic_message_id,
)
from relay.core.ports import ConflictError, NotSettled, StoreError
from relay.outbox.payload_digest import fingerprint
from relay.outbox.postgres.connection import StoreConnection
from relay.outbox.values import HISTORY_KEPT, MAX_ATTEMPTS, SKIPPED, is_open

_STATEMENT_BYTES = 8 * 1024 * 1024  # of payload in one INSERT; a larger one stands alone

_ADD = """
INSERT INTO relay_outbox
    (tenant_id, document_name, message_id, to_logical_id, ordering_key, parameters, payload)
SELECT tenant_id, document_name, message_id, to_logical_id, ordering_key, parameters::json, payload
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::bytea[])
    WITH ORDINALITY
    AS draft (tenant_id, document_name, message_id, to_logical_id, ordering_key, parameters, payload, place)
ORDER BY place
ON CONFLICT (message_id, upper(tenant_id)) DO NOTHING
"""

_STORED = """
SELECT document_name, to_logical_id, ordering_key, payload, payload_size, parameters
FROM relay_outbox WHERE message_id = $1 AND upper(tenant_id) = $2
"""

# $1 rows, $2 message ids, $3 tenants, $4 fences of what was read (null: whichever this relay has now), $5 its
# token (null: no leases in use), and further columns. A row is settled if it holds that message still and its
# lease is ours; the lock keeps it so until the commit. `IS NOT DISTINCT FROM`: by the index of ids alone.
_FREE = """
WITH wanted AS (
    SELECT * FROM unnest($1::bigint[], $2::text[], $3::text[], $4::bigint[]{types})
        AS key (id, message_id, tenant_id, fence{names})),
mine AS MATERIALIZED (
    SELECT tenant_id, fence FROM relay_leases WHERE token = $5::text AND tenant_id = ANY ($3::text[])
    ORDER BY tenant_id FOR SHARE),
free AS MATERIALIZED (
    SELECT wanted.* FROM wanted JOIN relay_outbox USING (id)
    WHERE (relay_outbox.message_id, upper(relay_outbox.tenant_id))
          IS NOT DISTINCT FROM (wanted.message_id, wanted.tenant_id)
      AND ($5::text IS NULL OR EXISTS (
        SELECT FROM mine
        WHERE mine.tenant_id = wanted.tenant_id AND mine.fence = coalesce(wanted.fence, mine.fence))))"""

# Only messages with a history get its end written.
_DELIVERED = f"""
{_FREE.format(types="", names="")}, done AS (
    UPDATE relay_outbox
    SET state = 'delivered', settled_at = clock_timestamp(), reason = NULL, not_before = NULL
    WHERE id IN (SELECT id FROM free) AND state <> 'delivered' RETURNING id),
ended AS (
    INSERT INTO relay_history (message_row, what, detail)
    SELECT id, 'delivered', '' FROM done
    WHERE EXISTS (SELECT FROM relay_history WHERE message_row = done.id))
SELECT count(*) FROM done
"""  # noqa: S608

# `octet_length` and `sha256` see the payload as it was: all of a SET is worked out before.
PURGING = "payload_size = octet_length(payload), payload = sha256(payload)"

_DELIVERED_PURGING = _DELIVERED.replace("not_before = NULL", f"not_before = NULL, {PURGING}")

# A `settlement` that is in the history was written before, by a call whose answer was lost.
_IF_NEW = """
    FROM free
    WHERE relay_outbox.id = free.id AND state = 'pending' AND NOT EXISTS (
        SELECT FROM relay_history
        WHERE message_row = relay_outbox.id AND relay_history.settlement = free.settlement)
    RETURNING free.*)"""

_COUNT = f"attempts = attempts + (free.counted AND attempts < {MAX_ATTEMPTS})::int"

_RELEASED = f"""
{
    _FREE.format(
        types=", $6::text[], $7::text[], $8::bool[], $9::float8[]",
        names=", settlement, reason, counted, wait",
    )
},
done AS (
    UPDATE relay_outbox
    SET reason = free.reason, {_COUNT},
        not_before = CASE WHEN free.wait > 0 THEN clock_timestamp() + make_interval(secs => free.wait) END
    {_IF_NEW},
noted AS (
    INSERT INTO relay_history (message_row, what, detail, settlement)
    SELECT id, CASE WHEN counted THEN 'counted' ELSE 'released' END, reason, settlement FROM done ORDER BY id)
SELECT id FROM done
"""  # noqa: S608

_PARKED = f"""
{_FREE.format(types=", $6::text[], $7::text[], $8::bool[]", names=", settlement, reason, counted")},
done AS (
    UPDATE relay_outbox
    SET state = 'parked', settled_at = clock_timestamp(), reason = free.reason, not_before = NULL, {_COUNT}
    {_IF_NEW},
noted AS (
    INSERT INTO relay_history (message_row, what, detail, settlement)
    SELECT id, 'parked', reason, settlement FROM done ORDER BY id)
SELECT id FROM done
"""  # noqa: S608

# Which of the keys have a row, whether it holds another message, and whether the settlement could be written.
_HELD = f"""
{_FREE.format(types=", $6::text[], $7::int[]", names=", settlement, place")}
SELECT wanted.place, state,
       (relay_outbox.message_id, upper(relay_outbox.tenant_id))
           IS DISTINCT FROM (wanted.message_id, wanted.tenant_id) AS is_replaced,
       place IN (SELECT place FROM free) AND NOT EXISTS (
           SELECT FROM relay_history
           WHERE message_row = wanted.id AND relay_history.settlement = wanted.settlement) AS is_due
FROM wanted JOIN relay_outbox USING (id)
"""  # noqa: S608

_TRIM_HISTORY = """
DELETE FROM relay_history WHERE id IN (
    SELECT old.id FROM unnest($1::bigint[]) AS given (message_row) CROSS JOIN LATERAL (
        SELECT id FROM relay_history WHERE message_row = given.message_row ORDER BY id DESC OFFSET $2) old)
"""

Fences = Mapping[RowId, int]
"""The fence of the lease under which a row was read."""


# --- adding ---------------------------------------------------------------------------------------


async def add(session: StoreConnection, drafts: Sequence[tuple[Draft, MessageId]]) -> Sequence[MessageId]:
    """Store them; those that are there already with the same content stay as they are."""
    for batch in _batches(drafts):
        columns = zip(*(_values(draft, message_id) for draft, message_id in batch), strict=True)
        if await session.execute(_ADD, *map(list, columns)) < len(batch):
            for draft, message_id in batch:
                await _require_same(session, draft, message_id)
    return [message_id for _, message_id in drafts]


def with_message_ids(drafts: Sequence[Draft]) -> Sequence[tuple[Draft, MessageId]]:
    """With the ids that they are stored under: minted once, even if the transaction is retried."""
    return [(draft, draft.message_id or classic_message_id(os.urandom(16))) for draft in drafts]


def _batches(drafts: Sequence[tuple[Draft, MessageId]]) -> Iterator[Sequence[tuple[Draft, MessageId]]]:
    batch: list[tuple[Draft, MessageId]] = []
    size = 0
    for draft, message_id in drafts:
        if batch and size + len(draft.payload) > _STATEMENT_BYTES:
            yield batch
            batch, size = [], 0
        batch.append((draft, message_id))
        size += len(draft.payload)
    if batch:
        yield batch


def _values(draft: Draft, message_id: MessageId) -> tuple[Any, ...]:
    parameters = json.dumps(dict(draft.parameters))
    tenant, to = draft.tenant_id.upper(), draft.to_logical_id
    return tenant, draft.document_name, message_id, to, draft.ordering_key, parameters, draft.payload


async def _require_same(session: StoreConnection, draft: Draft, message_id: MessageId) -> None:
    stored = await session.fetchrow(_STORED, message_id, draft.tenant_id.upper())
    if stored is None:
        raise StoreError(f"message {message_id!r} was deleted at this very moment; enqueue it again")
    *content, payload, size, parameters = stored
    given = [draft.document_name, draft.to_logical_id, draft.ordering_key]
    is_same = content == given and json.loads(parameters) == dict(draft.parameters)
    if not is_same or fingerprint(payload, size) != fingerprint(draft.payload, None):
        raise ConflictError(draft.tenant_id, message_id)


# --- what became of them --------------------------------------------------------------------------


Pair = tuple[MessageKey, Settlement]


def needs_transaction(settlements: Sequence[Pair]) -> bool:
    """More than one statement that writes."""
    return not all(isinstance(settlement, Delivered) for _, settlement in settlements)


async def settle(
    session: StoreConnection,
    settlements: Sequence[Pair],
    token: str | None,
    fences: Fences,
    *,
    purging: bool = False,
) -> NotSettled:
    """Deliveries first, in one statement: they win over whatever else is settled for the same message.

    `purging`: their payloads go at once.
    """
    left: list[Pair] = []
    delivered = {key: one for key, one in _ordered(settlements) if isinstance(one, Delivered)}
    if delivered:
        statement = _DELIVERED_PURGING if purging else _DELIVERED
        done = await session.fetchval(statement, *_columns(delivered, fences), token)
        left += delivered.items() if done < len(delivered) else ()
    for each in _rounds(settlements):
        released = {key: one for key, one in each if isinstance(one, Released)}
        parked = {key: one for key, one in each if isinstance(one, Parked)}
        if released:
            counted, waits = zip(*((one.counted, one.wait) for one in released.values()), strict=True)
            left += await _set_back(session, _RELEASED, released, token, fences, list(counted), list(waits))
        if parked:
            counted = tuple(one.counted for one in parked.values())
            left += await _set_back(session, _PARKED, parked, token, fences, list(counted))
    return await _explain(session, left, token, fences) if left else NotSettled()


def _ordered(settlements: Sequence[Pair]) -> list[Pair]:
    return sorted(settlements, key=lambda pair: pair[0].row)


def _columns(keys: Iterable[MessageKey], fences: Fences) -> Sequence[list[Any]]:
    """Rows, message ids, tenants, fences."""
    columns = zip(
        *((key.row, key.message_id, key.tenant_id.upper(), fences.get(key.row)) for key in keys), strict=True
    )
    return [list(column) for column in columns]


async def _set_back(
    session: StoreConnection,
    statement: str,
    settled: Mapping[MessageKey, Released | Parked],
    token: str | None,
    fences: Fences,
    *values: object,
) -> list[Pair]:
    """Those that changed nothing."""
    ids, reasons = zip(*((one.id, one.reason) for one in settled.values()), strict=True)
    given = (*_columns(settled, fences), token, list(ids), list(reasons), *values)
    done = {row["id"] for row in await session.fetch(statement, *given)}
    await trim_history(session, list(done))
    return [(key, one) for key, one in settled.items() if key.row not in done]


def _rounds(settlements: Sequence[Pair]) -> Iterator[Iterable[Pair]]:
    """In the order of the rows, each row once a round: a statement touches a row once only."""
    rounds: list[dict[RowId, Pair]] = []
    for pair in _ordered(settlements):
        if not isinstance(pair[1], Delivered):
            free = next((each for each in rounds if pair[0].row not in each), None)
            if free is None:
                rounds.append(free := {})
            free[pair[0].row] = pair
    return (each.values() for each in rounds)


async def trim_history(session: StoreConnection, rows: Sequence[RowId]) -> None:
    """Delete the oldest entries of histories that grow too long."""
    await session.execute(_TRIM_HISTORY, rows, HISTORY_KEPT)


async def _explain(
    session: StoreConnection, left: Sequence[Pair], token: str | None, fences: Fences
) -> NotSettled:
    """Which of them should have changed their rows. What this relay lost the lease of should not have."""
    keys = [key for key, _ in left]
    ids = [None if isinstance(one, Delivered) else one.id for _, one in left]
    held = await session.fetch(_HELD, *_columns(keys, fences), token, ids, list(range(len(left))))
    replaced = frozenset(keys[row["place"]] for row in held if row["is_replaced"])
    due = [
        left[row["place"]] for row in held if row["is_due"] and is_open(left[row["place"]][1], row["state"])
    ]
    return NotSettled(replaced, {key: SKIPPED for key, _ in due})
