"""This file is what workers write: messages handed over, what became of them, old ones deleted."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

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
from relay.core.ports import ConflictError, StoreError
from relay.outbox.payload_digest import fingerprint
from relay.outbox.postgres.connection import StoreConnection

HISTORY_KEPT = 100
"""Entries a message keeps; a message that waits for weeks must not fill the disk with its story."""

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

# $1 rows, $2 their fences (null: whichever this relay has now), $3 its token (null: no leases in use).
# A row is settled if its lease is still ours; the lock keeps it so until the commit.
_MINE = """
asked AS (SELECT * FROM unnest($1::bigint[], $2::bigint[]) AS pair (id, fence)),
mine AS MATERIALIZED (
    SELECT tenant_id, fence FROM relay_leases
    WHERE token = $3::text
      AND tenant_id IN (SELECT upper(tenant_id) FROM relay_outbox WHERE id = ANY ($1::bigint[]))
    ORDER BY tenant_id FOR SHARE),
free AS MATERIALIZED (
    SELECT asked.id FROM asked JOIN relay_outbox USING (id)
    WHERE $3::text IS NULL OR EXISTS (
        SELECT FROM mine WHERE mine.tenant_id = upper(relay_outbox.tenant_id)
            AND mine.fence = coalesce(asked.fence, mine.fence)))"""

# Only messages with a story get its end written.
_DELIVERED = f"""
WITH {_MINE}, done AS (
    UPDATE relay_outbox
    SET state = 'delivered', settled_at = clock_timestamp(), reason = NULL, not_before = NULL
    WHERE id IN (SELECT id FROM free) AND state <> 'delivered' RETURNING id)
INSERT INTO relay_history (message_row, what, detail)
SELECT id, 'delivered', '' FROM done
WHERE EXISTS (SELECT FROM relay_history WHERE message_row = done.id)
"""  # noqa: S608

# `octet_length` and `sha256` see the payload as it was: all of a SET is worked out before.
_SHEDDING = "payload_size = octet_length(payload), payload = sha256(payload)"

_DELIVERED_SHEDDING = _DELIVERED.replace("not_before = NULL", f"not_before = NULL, {_SHEDDING}")

_SETTLED = """
SELECT id, settled_at FROM relay_outbox
WHERE state IN ('delivered', 'dropped') AND settled_at >= $1 AND (settled_at, id) > ($1, $2)
  AND settled_at < now() - make_interval(secs => $3)
ORDER BY settled_at, id LIMIT $4
"""

_SHED = f"""
UPDATE relay_outbox SET {_SHEDDING}
WHERE id IN (SELECT id FROM relay_outbox
             WHERE id = ANY($1::bigint[]) AND state = 'delivered' AND payload_size IS NULL
             ORDER BY id FOR UPDATE SKIP LOCKED)
"""  # noqa: S608

_RELEASED = f"""
WITH {_MINE}, said AS (
    SELECT * FROM unnest($1::bigint[], $4::text[], $5::bool[], $6::float8[])
        AS said (id, reason, counted, wait)),
done AS (
    UPDATE relay_outbox
    SET reason = said.reason, attempts = attempts + said.counted::int,
        not_before = CASE WHEN said.wait > 0 THEN clock_timestamp() + make_interval(secs => said.wait) END
    FROM said
    WHERE relay_outbox.id = said.id AND state = 'pending' AND said.id IN (SELECT id FROM free)
    RETURNING said.*)
INSERT INTO relay_history (message_row, what, detail)
SELECT id, CASE WHEN counted THEN 'counted' ELSE 'released' END, reason FROM done ORDER BY id
"""  # noqa: S608

_PARKED = f"""
WITH {_MINE}, said AS (SELECT * FROM unnest($1::bigint[], $4::text[]) AS said (id, reason)),
done AS (
    UPDATE relay_outbox
    SET state = 'parked', settled_at = clock_timestamp(), reason = said.reason, not_before = NULL
    FROM said
    WHERE relay_outbox.id = said.id AND state = 'pending' AND said.id IN (SELECT id FROM free)
    RETURNING said.*)
INSERT INTO relay_history (message_row, what, detail) SELECT id, 'parked', reason FROM done ORDER BY id
"""  # noqa: S608

_FORGET = """
DELETE FROM relay_history WHERE id IN (
    SELECT old.id FROM unnest($1::bigint[]) AS story (message_row) CROSS JOIN LATERAL (
        SELECT id FROM relay_history WHERE message_row = story.message_row ORDER BY id DESC OFFSET $2) old)
"""

_PRUNE = """
DELETE FROM relay_outbox WHERE id IN (
    SELECT id FROM relay_outbox
    WHERE state IN ('delivered', 'dropped') AND settled_at < now() - make_interval(secs => $1)
    ORDER BY settled_at LIMIT $2 FOR UPDATE SKIP LOCKED)
"""

# Deltas become one row a tenant; two relays that fold at once take different ones.
_FOLD = """
WITH gone AS (
    DELETE FROM relay_counts WHERE ctid IN (
        SELECT ctid FROM relay_counts
        WHERE tenant_id IN (SELECT tenant_id FROM relay_counts GROUP BY tenant_id HAVING count(*) > 1)
        LIMIT $1 FOR UPDATE SKIP LOCKED)
    RETURNING *)
INSERT INTO relay_counts (tenant_id, pending, delivered, parked, dropped)
SELECT tenant_id, sum(pending), sum(delivered), sum(parked), sum(dropped) FROM gone GROUP BY tenant_id
"""

_FOLDED_AT_ONCE = 100_000

_NEVER = datetime.min.replace(tzinfo=UTC)

Fences = Mapping[RowId, int]
"""The fence of the lease under which a row was read."""


# --- handing over ---------------------------------------------------------------------------------


async def add(session: StoreConnection, drafts: Sequence[tuple[Draft, MessageId]]) -> Sequence[MessageId]:
    """Store them; those that are there already with the same content stay as they are."""
    for part in _parts(drafts):
        columns = zip(*(_values(draft, message_id) for draft, message_id in part), strict=True)
        if await session.execute(_ADD, *map(list, columns)) < len(part):
            for draft, message_id in part:
                await _require_same(session, draft, message_id)
    return [message_id for _, message_id in drafts]


def named(drafts: Sequence[Draft]) -> Sequence[tuple[Draft, MessageId]]:
    """With the ids that they are stored under: minted once, whatever the transaction meets."""
    return [(draft, draft.message_id or classic_message_id(os.urandom(16))) for draft in drafts]


def _parts(drafts: Sequence[tuple[Draft, MessageId]]) -> Iterator[Sequence[tuple[Draft, MessageId]]]:
    part: list[tuple[Draft, MessageId]] = []
    size = 0
    for draft, message_id in drafts:
        if part and size + len(draft.payload) > _STATEMENT_BYTES:
            yield part
            part, size = [], 0
        part.append((draft, message_id))
        size += len(draft.payload)
    if part:
        yield part


def _values(draft: Draft, message_id: MessageId) -> tuple[Any, ...]:
    parameters = json.dumps(dict(draft.parameters))
    tenant, to = draft.tenant_id.upper(), draft.to_logical_id
    return tenant, draft.document_name, message_id, to, draft.ordering_key, parameters, draft.payload


async def _require_same(session: StoreConnection, draft: Draft, message_id: MessageId) -> None:
    stored = await session.fetchrow(_STORED, message_id, draft.tenant_id.upper())
    if stored is None:
        raise StoreError(f"message {message_id!r} was deleted at this very moment; hand it over again")
    *content, payload, size, parameters = stored
    given = [draft.document_name, draft.to_logical_id, draft.ordering_key]
    is_same = content == given and json.loads(parameters) == dict(draft.parameters)
    if not is_same or fingerprint(payload, size) != fingerprint(draft.payload, None):
        raise ConflictError(draft.tenant_id, message_id)


# --- what became of them --------------------------------------------------------------------------


def needs_transaction(settlements: Sequence[tuple[RowId, Settlement]]) -> bool:
    """More than one statement."""
    return not all(isinstance(settlement, Delivered) for _, settlement in settlements)


async def settle(
    session: StoreConnection,
    settlements: Sequence[tuple[RowId, Settlement]],
    token: str | None,
    fences: Fences,
    *,
    purging: bool = False,
) -> None:
    """Deliveries first, in one statement: they win over whatever else is said of the same message.

    `shedding`: their payloads go at once.
    """
    delivered = sorted({row for row, settlement in settlements if isinstance(settlement, Delivered)})
    if delivered:
        statement = _DELIVERED_SHEDDING if purging else _DELIVERED
        await session.execute(statement, delivered, [fences.get(row) for row in delivered], token)
    for each in _rounds(settlements):
        released = [(row, said) for row, said in each.items() if isinstance(said, Released)]
        parked = [(row, said) for row, said in each.items() if isinstance(said, Parked)]
        if released:
            rows = [row for row, _ in released]
            what = (
                [said.reason for _, said in released],
                [said.counted for _, said in released],
                [said.wait for _, said in released],
            )
            await session.execute(_RELEASED, rows, [fences.get(row) for row in rows], token, *what)
            await forget(session, rows)
        if parked:
            rows = [row for row, _ in parked]
            reasons = [said.reason for _, said in parked]
            await session.execute(_PARKED, rows, [fences.get(row) for row in rows], token, reasons)
            await forget(session, rows)


def _rounds(settlements: Sequence[tuple[RowId, Settlement]]) -> Iterator[dict[RowId, Released | Parked]]:
    """In the order of the rows, each row once a round: a statement touches a row once only."""
    rounds: list[dict[RowId, Released | Parked]] = []
    for row, settlement in sorted(settlements, key=lambda pair: pair[0]):
        if not isinstance(settlement, Delivered):
            free = next((each for each in rounds if row not in each), None)
            if free is None:
                rounds.append(free := {})
            free[row] = settlement
    yield from rounds


async def forget(session: StoreConnection, rows: Sequence[RowId]) -> None:
    """Drop the oldest part of stories that grow too long."""
    await session.execute(_FORGET, rows, HISTORY_KEPT)


# --- housekeeping ---------------------------------------------------------------------------------


async def prune(session: StoreConnection, older_than: float, limit: int) -> int:
    """Delete the longest settled ones, delivered and dropped; their stories go with them."""
    return await session.execute(_PRUNE, older_than, limit)


@dataclass(frozen=True, slots=True)
class PayloadPurge:
    """How far the payloads are gone: up to this row, in the order of settling. `looked_at`: in this batch."""

    settled_at: datetime = _NEVER
    row: int = 0
    looked_at: int = 0


async def purge_payloads(
    session: StoreConnection, before: PayloadPurge, older_than: float, limit: int
) -> PayloadPurge:
    """Let go of the payloads of the next messages that were delivered so long ago."""
    rows = await session.fetch(_SETTLED, before.settled_at, before.row, older_than, limit)
    if not rows:
        return PayloadPurge(before.settled_at, before.row)
    await session.execute(_SHED, [row["id"] for row in rows])
    return PayloadPurge(rows[-1]["settled_at"], rows[-1]["id"], len(rows))


async def fold(session: StoreConnection) -> None:
    """Make the counters few again."""
    await session.execute(_FOLD, _FOLDED_AT_ONCE)
