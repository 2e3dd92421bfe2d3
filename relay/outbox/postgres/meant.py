"""This file is which rows operators mean: from a filter to row ids, each way along an index.

PostgreSQL takes no orders about indexes, but an order of rows that only one index gives leaves it no choice:
hence `BETWEEN $1 AND $1` (a column that is made constant by `=` drops out of the order, and what is left may
be had by walking the whole table by id), and `id + 0` where few rows are picked and then sorted.
"""

from collections.abc import Sequence
from typing import Any

from relay.model import RowId
from relay.outbox.postgres.database import Session
from relay.ports import Filter, MessageState

_HEADS = """
WITH RECURSIVE head(tenant, document) AS (
    (SELECT upper(tenant_id), document_name FROM relay_outbox
     WHERE state = 'pending'{tenant} ORDER BY upper(tenant_id), document_name LIMIT 1)
    UNION ALL
    SELECT later.tenant, later.document FROM head CROSS JOIN LATERAL (
        SELECT upper(tenant_id) AS tenant, document_name AS document FROM relay_outbox
        WHERE state = 'pending'{tenant} AND (upper(tenant_id), document_name) > (head.tenant, head.document)
        ORDER BY upper(tenant_id), document_name LIMIT 1) later
)
"""

HEADS = _HEADS.format(tenant="")
"""`head`: the documents of each tenant's pending rows; one step along the index for each of them."""

HEADS_OF_TENANT = _HEADS.format(tenant=" AND upper(tenant_id) = $1")
"""The same for the tenant $1."""

IN_COMMON_LANE = """
state = 'pending' AND upper(tenant_id) = head.tenant AND ordering_key IS NULL
AND document_name = head.document
"""
"""A head's rows without a key; in the order of their ids by `ORDER BY ordering_key, id`."""

KEYED = """
state = 'pending' AND upper(tenant_id) = head.tenant AND ordering_key IS NOT NULL
AND document_name BETWEEN head.document AND head.document
"""
"""A head's rows with a key; in the order of their ids by `ORDER BY document_name, id`."""

_PENDING = f"""
SELECT found.id FROM head CROSS JOIN LATERAL (
    (SELECT id FROM relay_outbox WHERE {IN_COMMON_LANE} AND id > {{after}}
     ORDER BY ordering_key, id LIMIT {{limit}})
    UNION ALL
    (SELECT id FROM relay_outbox WHERE {KEYED} AND id > {{after}}
     ORDER BY document_name, id LIMIT {{limit}})
) found {{where}} ORDER BY found.id LIMIT {{limit}}
"""  # noqa: S608

_AHEAD = f"""
{HEADS_OF_TENANT}
SELECT found.id FROM head CROSS JOIN LATERAL (
    SELECT id FROM relay_outbox
    WHERE state = 'pending' AND upper(tenant_id) = head.tenant AND document_name = head.document
      AND ordering_key {{lane}} AND id < $2
    ORDER BY ordering_key, id LIMIT 1
) found ORDER BY found.id LIMIT 1
"""  # noqa: S608


async def select(
    session: Session, wanted: Filter, states: Sequence[MessageState], limit: int | None, after: int = 0
) -> list[RowId]:
    """The lowest ids behind `after` that are meant and in one of the states. `limit` None: all of them."""
    if wanted.ids:
        return await _stored(session, wanted, states, limit, after)
    if "delivered" in states:
        return await _stored(session, wanted, states, limit, after)
    found = set[RowId]()
    for state in states:
        if state == "pending":
            found.update(await _pending(session, wanted, limit, after))
        else:
            found.update(await _aside(session, wanted, state, limit, after))
    return sorted(found)[:limit]


async def ahead(session: Session, wanted: Filter, key: str | None, before: int) -> list[RowId]:
    """The lowest pending row of the tenant's lane, over all documents, if it is lower than `before`."""
    values = [wanted.tenant, before] + ([] if key is None else [key])
    lane = "IS NULL" if key is None else "BETWEEN $3 AND $3"
    return [RowId(row) for (row,) in await session.fetch(_AHEAD.format(lane=lane), *values)]


class _Where:
    """Conditions and their values, numbered as PostgreSQL wants them."""

    def __init__(self, *values: object) -> None:
        self.values: list[Any] = list(values)
        self._conditions: list[str] = []

    def value(self, value: object) -> str:
        """Its placeholder."""
        self.values.append(value)
        return f"${len(self.values)}"

    def add(self, condition: str, value: object) -> None:
        """`condition` has `{}` for the value's placeholder."""
        self._conditions.append(condition.replace("{}", self.value(value)))

    def __str__(self) -> str:
        return "WHERE " + " AND ".join(self._conditions) if self._conditions else ""


async def _stored(
    session: Session, wanted: Filter, states: Sequence[MessageState], limit: int | None, after: int
) -> list[RowId]:
    """By message ids, else along the tenant's rows, else along all."""
    where = _Where()
    where.add("id > {}", after)
    where.add("state = ANY({}::text[])", list(states))
    _narrow(where, wanted)
    if wanted.ids:
        where.add("message_id = ANY({}::text[])", list(wanted.ids))
        return await _ids(session, where, "id + 0", limit)
    return await _ids(session, where, "id" if wanted.tenant is None else "upper(tenant_id), id", limit)


async def _aside(
    session: Session, wanted: Filter, state: MessageState, limit: int | None, after: int
) -> list[RowId]:
    where = _Where()
    where.add("state IN ('parked', 'dropped') AND state = {}", state)
    where.add("id > {}", after)
    _narrow(where, wanted)
    return await _ids(session, where, "id + 0" if wanted.tenant is None else "upper(tenant_id), id", limit)


def _narrow(where: _Where, wanted: Filter) -> None:
    if wanted.tenant is not None:
        where.add("upper(tenant_id) BETWEEN {} AND {}", wanted.tenant.upper())
    if wanted.document is not None:
        where.add("document_name = {}", wanted.document)


async def _ids(session: Session, where: _Where, order: str, limit: int | None) -> list[RowId]:
    sql = f"SELECT id FROM relay_outbox {where} ORDER BY {order} LIMIT {where.value(limit)}"  # noqa: S608
    return [RowId(row) for (row,) in await session.fetch(sql, *where.values)]


async def _pending(session: Session, wanted: Filter, limit: int | None, after: int) -> list[RowId]:
    where = _Where() if wanted.tenant is None else _Where(wanted.tenant.upper())
    if wanted.document is not None:
        where.add("head.document = {}", wanted.document)
    heads = HEADS if wanted.tenant is None else HEADS_OF_TENANT
    sql = _PENDING.format(where=where, after=where.value(after), limit=where.value(limit))
    return [RowId(row) for (row,) in await session.fetch(heads + sql, *where.values)]
