"""From an operator's filter to row ids on SQLite, each way along an index."""

import json
import sqlite3
import time
from collections.abc import Sequence
from datetime import datetime

from relay.core.admin import FIRST, Filter, MessageState, Moment
from relay.core.model import RowId
from relay.outbox.sqlite import due, tenants
from relay.outbox.sqlite.instants import format_instant, parse_instant
from relay.outbox.sqlite.json_rows import REPLACED, in_one_step, row_ids
from relay.outbox.values import EXAMINED, PendingFilter, RowPage, page_of, storable

_BY_IDS = in_one_step(
    1,
    """
SELECT id FROM relay_outbox
WHERE message_id IN (SELECT value FROM json_each(:ids)) AND id > :after
  AND (:tenant IS NULL OR tenant_id = :tenant) AND (:document IS NULL OR document_name = :document)
  AND state IN (SELECT value FROM json_each(:states))
ORDER BY id LIMIT :limit
""",
)

# An id that is not UTF-8 is known by what is read of it: all rows are examined.
_BY_IDS_AS_READ = _BY_IDS.replace("message_id IN", "as_read(CAST(message_id AS BLOB)) IN")

_ASIDE = in_one_step(
    1,
    """
SELECT id FROM relay_outbox INDEXED BY relay_outbox_aside
WHERE (state = 'parked' OR state = 'dropped') AND state = :state AND id > :after
  AND (:tenant IS NULL OR tenant_id = :tenant) AND (:document IS NULL OR document_name = :document)
ORDER BY id LIMIT :limit
""",
)

_OF_TENANT = in_one_step(
    1,
    """
SELECT id FROM relay_outbox INDEXED BY relay_outbox_tenant
WHERE tenant_id = :tenant AND id > :after AND (:document IS NULL OR document_name = :document)
  AND state IN (SELECT value FROM json_each(:states))
ORDER BY id LIMIT :limit
""",
)

_OF_ALL = in_one_step(
    1,
    """
SELECT id FROM relay_outbox NOT INDEXED
WHERE id > :after AND (:document IS NULL OR document_name = :document)
  AND state IN (SELECT value FROM json_each(:states))
ORDER BY id LIMIT :limit
""",
)

# What lies ahead was not written by a relay since the moment: an application gave it.
_MATCHING = in_one_step(
    1,
    """
SELECT id FROM (
    SELECT id, reason,
           CASE state WHEN 'pending' THEN queued_at ELSE coalesce(settled_at, queued_at) END AS since
    FROM relay_outbox WHERE id IN (SELECT value FROM json_each(:ids)))
WHERE (:upto IS NULL OR id <= :upto AND (since <= :at OR since > strftime('%Y-%m-%dT%H:%M:%fZ', 'now')))
  AND (:reason IS NULL OR instr(reason, :reason) > 0)
ORDER BY id
""",
)

_CLOCK = "SELECT strftime('%Y-%m-%dT%H:%M:%fZ', 'now')"

_NEWEST = "SELECT coalesce(max(id), 0) FROM relay_outbox"


def clock(connection: sqlite3.Connection) -> datetime:
    """The host's time of day, as the rows have it."""
    return parse_instant(*connection.execute(_CLOCK).fetchone())


def moment(connection: sqlite3.Connection) -> Moment:
    """Now. What happened before has this instant or an earlier one; whatever comes later, a later one.

    The clock has milliseconds, so the next one is waited for before a row is read.
    """
    (at,) = connection.execute(_CLOCK).fetchone()
    while connection.execute(_CLOCK).fetchone() == (at,):
        time.sleep(0.0002)
    (upto,) = connection.execute(_NEWEST).fetchone()
    return Moment(RowId(upto), parse_instant(at))


def first(
    connection: sqlite3.Connection,
    wanted: Filter,
    states: Sequence[MessageState],
    limit: int,
    after: RowId = FIRST,
) -> list[RowId]:
    """The lowest ids behind `after` that are selected and in one of the states. `limit` -1: all of them."""
    found: list[RowId] = []
    last: RowId | None = after
    while last is not None and len(found) != limit:
        left = limit - len(found) if limit >= 0 else EXAMINED
        size = left if wanted.moment is None and wanted.reason is None else max(left, EXAMINED)
        each = page(connection, wanted, states, size, last)
        found += each.ids[:left]
        last = each.last
    return found


def page(
    connection: sqlite3.Connection, wanted: Filter, states: Sequence[MessageState], size: int, after: RowId
) -> RowPage:
    """Those of the next `size` rows behind `after` that are selected and in one of the states."""
    wanted = storable(wanted)
    ids = select(connection, wanted, states, size, after) if states else []
    found = page_of(ids, size, wanted.moment)
    if wanted.moment is None and wanted.reason is None:
        return found
    values = {
        "ids": json.dumps(ids),
        "upto": None if wanted.moment is None else wanted.moment.upto,
        "at": None if wanted.moment is None else format_instant(wanted.moment.at),
        "reason": wanted.reason,
    }
    return RowPage(row_ids(connection, _MATCHING, values), found.last)


def select(
    connection: sqlite3.Connection,
    wanted: Filter,
    states: Sequence[MessageState],
    limit: int,
    after: int = FIRST,
) -> list[RowId]:
    """The lowest ids behind `after` that are selected and in one of the states; each way along an index."""
    values = {
        "ids": json.dumps(wanted.ids),
        "tenant": wanted.tenant,
        "document": wanted.document,
        "states": json.dumps(states),
        "limit": limit,
        "after": after,
    }
    if wanted.ids:
        is_plain = not any(REPLACED in given for given in wanted.ids)
        return row_ids(connection, _BY_IDS if is_plain else _BY_IDS_AS_READ, values)
    if "delivered" in states:
        return row_ids(connection, _OF_ALL if wanted.tenant is None else _OF_TENANT, values)
    found = set[RowId]()
    for state in states:
        if state == "pending":
            found.update(_pending(connection, wanted, limit, after))
        else:
            found.update(row_ids(connection, _ASIDE, values | {"state": state}))
    return sorted(found)[:limit]


def _pending(connection: sqlite3.Connection, wanted: Filter, limit: int, after: int) -> list[RowId]:
    pending = PendingFilter(frozenset(), frozenset(), limit, after)
    of = tenants.pending(connection) if wanted.tenant is None else [wanted.tenant]
    found: list[RowId] = []
    for tenant, documents in due.documents_of(connection, of).items():
        names = [name for name in documents if wanted.document in (None, name)]
        found += due.pending_ids(connection, tenant, names, pending)
    return found
