"""This file is the outbox on PostgreSQL as operators see it: count, look through, show, and decide."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, get_args

from relay.model import DocumentName, LogicalId, MessageId, OrderingKey, RowId, TenantId
from relay.outbox import decisions
from relay.outbox.postgres import decide, meant
from relay.outbox.postgres.database import Database, Session
from relay.ports import Count, Filter, MessageState, Record

_OLDEST_LOOKED_AT = 20
"""Rows a document and lane kind; a retried one is queued anew at its old place and may hide older ones."""

_COUNTS = """
SELECT tenant_id, greatest(sum(pending), 0)::bigint, greatest(sum(delivered), 0)::bigint,
       greatest(sum(parked), 0)::bigint, greatest(sum(dropped), 0)::bigint
FROM relay_counts GROUP BY tenant_id ORDER BY tenant_id
"""

_OLDEST = f"""
{meant.HEADS}
SELECT head.tenant, greatest(0, extract(epoch FROM clock_timestamp() - min(oldest.queued_at)))::float8
FROM head CROSS JOIN LATERAL (
    (SELECT queued_at FROM relay_outbox
     WHERE {meant.IN_COMMON_LANE} AND (not_before IS NULL OR not_before <= clock_timestamp())
     ORDER BY ordering_key, id LIMIT $3)
    UNION ALL
    (SELECT queued_at FROM relay_outbox
     WHERE {meant.KEYED.format(after=0)} AND (not_before IS NULL OR not_before <= clock_timestamp())
     ORDER BY document_name, id LIMIT $3)
) oldest GROUP BY head.tenant
"""  # noqa: S608

_RECORDS = """
SELECT id, upper(tenant_id), document_name, message_id, to_logical_id, ordering_key, parameters::text,
       octet_length(payload), state, reason, attempts, not_before, created_at, queued_at, settled_at
FROM relay_outbox WHERE id = ANY($1::bigint[]) ORDER BY id
"""

_HISTORY = """
SELECT message_row, at, what, detail FROM relay_history
WHERE message_row = ANY($1::bigint[]) ORDER BY message_row, id
"""

_NEWEST = "SELECT coalesce(max(id), 0) FROM relay_outbox"

_STATES: tuple[MessageState, ...] = get_args(MessageState)

History = tuple[tuple[datetime, str, str], ...]


class PostgresDesk:
    """`ports.Desk`, but for what the store keeps of tenants and relays."""

    _database: Database

    async def counts(self) -> Mapping[TenantId, Count]:
        """See ports.Desk."""
        return await self._database.read(_counts)

    async def find(self, wanted: Filter, limit: int) -> Sequence[Record]:
        """See ports.Desk."""
        return await self._database.read(partial(_find, wanted=wanted, limit=limit))

    async def show(self, message_id: MessageId, tenant: TenantId | None) -> Sequence[Record]:
        """See ports.Desk."""
        return await self._database.read(partial(_show, wanted=Filter(tenant=tenant, ids=(message_id,))))

    async def ahead(self, record: Record) -> Record | None:
        """See ports.Desk."""
        return await self._database.read(partial(_ahead, record=record))

    async def retry(self, wanted: Filter) -> int:
        """See ports.Desk."""
        return await self._decide(wanted, decisions.retry())

    async def park(self, wanted: Filter, reason: str) -> int:
        """See ports.Desk."""
        return await self._decide(wanted, decisions.park(reason))

    async def drop(self, wanted: Filter, reason: str) -> int:
        """See ports.Desk."""
        return await self._decide(wanted, decisions.drop(reason))

    async def _decide(self, wanted: Filter, decision: decisions.Decision) -> int:
        """What is meant is what is there now; rows that arrive meanwhile are not."""
        upto = await self._database.read(_newest_row)
        after, rows = RowId(0), 0
        while True:
            done = await self._database.write(
                partial(decide.chunk, wanted=wanted, decision=decision, after=after, upto=upto)
            )
            rows += done.rows
            if done.last is None:
                return rows
            after = done.last


async def _counts(session: Session) -> Mapping[TenantId, Count]:
    """From the sums that triggers keep; the oldest from the heads of the pending rows."""
    rows = [tuple(row) for row in await session.fetch(_COUNTS)]
    oldest: dict[str, float] = {}
    if any(row[1] for row in rows):
        oldest = dict(
            tuple(row) for row in await session.fetch(_OLDEST, *meant.EVERY_TENANT, _OLDEST_LOOKED_AT)
        )
    return {
        TenantId(tenant): Count(pending, delivered, parked, dropped, oldest.get(tenant))
        for tenant, pending, delivered, parked, dropped in rows
        if pending or delivered or parked or dropped
    }


async def _find(session: Session, wanted: Filter, limit: int) -> Sequence[Record]:
    states = _STATES if wanted.state is None else (wanted.state,)
    return await _records(session, await meant.select(session, wanted, states, limit))


async def _show(session: Session, wanted: Filter) -> Sequence[Record]:
    ids = await meant.select(session, wanted, _STATES, limit=None)
    histories: dict[int, History] = {}
    for row, at, what, detail in await session.fetch(_HISTORY, ids):
        histories[row] = (*histories.get(row, ()), (at.astimezone(UTC), what, detail))
    return await _records(session, ids, histories)


async def _ahead(session: Session, record: Record) -> Record | None:
    head = await meant.ahead(session, record.tenant_id, record.ordering_key, record.row)
    found = await _records(session, head)
    return found[0] if found else None


async def _newest_row(session: Session) -> RowId:
    return RowId(await session.fetchval(_NEWEST))


async def _records(
    session: Session, ids: Sequence[RowId], histories: Mapping[int, History] | None = None
) -> Sequence[Record]:
    rows = await session.fetch(_RECORDS, list(ids))
    return [_record(tuple(row), (histories or {}).get(row[0], ())) for row in rows]


def _record(row: tuple[Any, ...], history: History) -> Record:
    return Record(
        row=RowId(row[0]),
        tenant_id=TenantId(row[1]),
        document_name=DocumentName(row[2]),
        message_id=MessageId(row[3]),
        to_logical_id=LogicalId(row[4]),
        ordering_key=None if row[5] is None else OrderingKey(row[5]),
        parameters=json.loads(row[6]),
        size=row[7],
        state=row[8],
        reason=row[9],
        attempts=row[10],
        not_before=_utc(row[11]),
        created_at=row[12].astimezone(UTC),
        queued_at=row[13].astimezone(UTC),
        settled_at=_utc(row[14]),
        history=history,
    )


def _utc(when: datetime | None) -> datetime | None:
    return None if when is None else when.astimezone(UTC)
