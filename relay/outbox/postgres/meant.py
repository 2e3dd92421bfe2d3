"""This file is which rows operators mean: from a filter to row ids, each way along an index.

PostgreSQL takes no orders about indexes, but an order of rows that only one index gives leaves it no choice.
A column that is made constant by `=` drops out of the order, and what is left, `id`, may be had by walking
the whole table: hence `a <= x AND (a, id) > (x, after)`, which also begins right behind `after`; and `id + 0`
where few rows are picked and then sorted. A condition that a null makes true is not planned.
"""

from collections.abc import Sequence

from relay.model import OrderingKey, RowId, TenantId
from relay.outbox.postgres.database import Session
from relay.ports import Filter, MessageState

HEADS = """
WITH RECURSIVE head(tenant, document) AS (
    (SELECT upper(tenant_id), document_name FROM relay_outbox
     WHERE state = 'pending' AND ($1::text IS NULL OR upper(tenant_id) = $1)
     ORDER BY upper(tenant_id), document_name LIMIT 1)
    UNION ALL
    SELECT later.tenant, later.document FROM head CROSS JOIN LATERAL (
        SELECT upper(tenant_id) AS tenant, document_name AS document FROM relay_outbox
        WHERE state = 'pending' AND ($1::text IS NULL OR upper(tenant_id) = $1)
          AND (upper(tenant_id), document_name) > (head.tenant, head.document)
        ORDER BY upper(tenant_id), document_name LIMIT 1) later
)
"""
"""`head`: the documents of tenant $1's pending rows (null: of all tenants'); one index step for each."""

IN_COMMON_LANE = """
state = 'pending' AND upper(tenant_id) = head.tenant AND document_name = head.document
AND ordering_key IS NULL
"""
"""A head's rows without a key; in the order of their ids by `ORDER BY ordering_key, id`."""

KEYED = """
state = 'pending' AND upper(tenant_id) = head.tenant AND ordering_key IS NOT NULL
AND document_name <= head.document AND (document_name, id) > (head.document, {after})
"""
"""A head's rows with a key behind `after`; in the order of their ids by `ORDER BY document_name, id`."""

_PENDING = f"""
{HEADS}
SELECT found.id FROM head CROSS JOIN LATERAL (
    (SELECT id FROM relay_outbox WHERE {IN_COMMON_LANE} AND id > $3 ORDER BY ordering_key, id LIMIT $4)
    UNION ALL
    (SELECT id FROM relay_outbox WHERE {KEYED.format(after="$3")} ORDER BY document_name, id LIMIT $4)
) found WHERE $2::text IS NULL OR head.document = $2 ORDER BY found.id LIMIT $4
"""  # noqa: S608

_ASIDE = """
WITH RECURSIVE head(tenant) AS (
    (SELECT upper(tenant_id) FROM relay_outbox
     WHERE state IN ('parked', 'dropped') AND state = $5 AND ($1::text IS NULL OR upper(tenant_id) = $1)
     ORDER BY upper(tenant_id) LIMIT 1)
    UNION ALL
    SELECT later.tenant FROM head CROSS JOIN LATERAL (
        SELECT upper(tenant_id) AS tenant FROM relay_outbox
        WHERE state IN ('parked', 'dropped') AND state = $5 AND ($1::text IS NULL OR upper(tenant_id) = $1)
          AND upper(tenant_id) > head.tenant
        ORDER BY upper(tenant_id) LIMIT 1) later
)
SELECT found.id FROM head CROSS JOIN LATERAL (
    SELECT id FROM relay_outbox
    WHERE state IN ('parked', 'dropped') AND state = $5 AND ($2::text IS NULL OR document_name = $2)
      AND upper(tenant_id) <= head.tenant AND (upper(tenant_id), id) > (head.tenant, $3)
    ORDER BY upper(tenant_id), id LIMIT $4
) found ORDER BY found.id LIMIT $4
"""

_BY_IDS = """
SELECT id FROM relay_outbox
WHERE message_id = ANY($6::text[]) AND ($1::text IS NULL OR upper(tenant_id) = $1)
  AND ($2::text IS NULL OR document_name = $2) AND state = ANY($5::text[]) AND id > $3
ORDER BY id + 0 LIMIT $4
"""

_OF_TENANT = """
SELECT id FROM relay_outbox
WHERE upper(tenant_id) <= $1 AND (upper(tenant_id), id) > ($1, $3)
  AND ($2::text IS NULL OR document_name = $2) AND state = ANY($5::text[])
ORDER BY upper(tenant_id), id LIMIT $4
"""

_OF_ALL = """
SELECT id FROM relay_outbox
WHERE $1::text IS NULL AND ($2::text IS NULL OR document_name = $2) AND state = ANY($5::text[]) AND id > $3
ORDER BY id LIMIT $4
"""

_AHEAD = f"""
{HEADS}
SELECT found.id FROM head CROSS JOIN LATERAL (
    SELECT id FROM relay_outbox
    WHERE state = 'pending' AND upper(tenant_id) = head.tenant AND document_name = head.document
      AND ordering_key {{lane}} AND id < $2
    ORDER BY ordering_key, id LIMIT 1
) found ORDER BY found.id LIMIT 1
"""  # noqa: S608

_AHEAD_IN_COMMON_LANE = _AHEAD.format(lane="IS NULL")
_AHEAD_KEYED = _AHEAD.format(lane="BETWEEN $3 AND $3")


async def select(
    session: Session, wanted: Filter, states: Sequence[MessageState], limit: int | None, after: int = 0
) -> list[RowId]:
    """The lowest ids behind `after` that are meant and in one of the states. `limit` None: all of them."""
    tenant = None if wanted.tenant is None else wanted.tenant.upper()
    values = (tenant, wanted.document, after, limit)
    if wanted.ids:
        return await _ids(session, _BY_IDS, *values, states, wanted.ids)
    if "delivered" in states:
        return await _ids(session, _OF_ALL if tenant is None else _OF_TENANT, *values, states)
    found = set[RowId]()
    for state in states:
        if state == "pending":
            found.update(await _ids(session, _PENDING, *values))
        else:
            found.update(await _ids(session, _ASIDE, *values, state))
    return sorted(found)[:limit]


async def ahead(session: Session, tenant: TenantId, key: OrderingKey | None, before: RowId) -> list[RowId]:
    """The lowest pending row of the tenant's lane, over all documents, if it is lower than `before`."""
    if key is None:
        return await _ids(session, _AHEAD_IN_COMMON_LANE, tenant, before)
    return await _ids(session, _AHEAD_KEYED, tenant, before, key)


async def _ids(session: Session, statement: str, *values: object) -> list[RowId]:
    return [RowId(row) for (row,) in await session.fetch(statement, *values)]
