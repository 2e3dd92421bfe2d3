"""What the queries of both stores take and return, and how a stored row becomes a value of the domain."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, cast, get_args

from relay.core.activity import Activity, Durations, TenantActivity, combined
from relay.core.admin import FIRST, AuditAction, AuditEntry, Filter, Moment, Outcome, Record, RelayBeat
from relay.core.model import (
    AuditId,
    Delivered,
    DocumentName,
    LogicalId,
    MessageId,
    OrderingKey,
    RowId,
    Settlement,
    StateName,
    TenantId,
    TenantState,
)
from relay.core.parameters import shown_parameters
from relay.core.validation import MAX_PARAMETERS, is_nested_too_deep

ALIVE_SECONDS = 15.0
"""A relay whose heartbeat is older than this counts as gone; it beats at least three times in that time."""

HISTORY_KEPT = 100
"""Entries a message keeps; a message that waits for weeks must not fill the disk with its history."""

MAX_ATTEMPTS = 2**31 - 1
"""The most that PostgreSQL's column holds; beyond it attempts are not counted any more."""

SKIPPED = "the row did not change; a trigger of the application skipped the change"
"""Why a settlement counts as refused although the store reported no error."""

WINDOW = 4096
"""Rows with a key that are examined by id before going lane by lane: about a millisecond's worth."""

LANES = 2048
"""Lanes that are visited one by one, at most; more of them are scanned in the order of the ids."""

EXAMINED = 5_000
"""Rows that are examined at a time where all selected ones are wanted."""

READ_PARAMETERS = MAX_PARAMETERS + 1
"""Characters that are read of a message's parameters: one more than there may be, so that it is noticed."""

MAX_TEXT = 4_000
"""Characters that are read of a text without a limit of its own, such as a reason."""

EARLIEST = datetime.min.replace(tzinfo=UTC)
LATEST = datetime.max.replace(microsecond=999_000, tzinfo=UTC)
"""Stand for instants that Python cannot hold: PostgreSQL's infinity, its years up to 294276, nonsense."""

History = tuple[tuple[datetime, str, str], ...]
"""When, what, detail."""

Instant = Callable[[Any], datetime]
"""Makes a UTC instant of what the driver returns for one."""


@dataclass(frozen=True, slots=True)
class PendingFilter:
    """Which pending rows of a document: not those of `held` lanes, not the `known`, behind `after`."""

    held: frozenset[OrderingKey | None]
    known: frozenset[RowId]
    limit: int
    after: int = FIRST


@dataclass(frozen=True, slots=True)
class RowPage:
    """Selected rows, and the last row that was examined; None: there are no more."""

    ids: list[RowId]
    last: RowId | None


@dataclass(frozen=True, slots=True)
class HeartbeatRow:
    """`again`: not this process' first. `found_unclean`: an earlier one of the same name did not leave."""

    again: bool
    found_unclean: bool = False


def is_open(settlement: Settlement, state: str) -> bool:
    """Whether a message in this state is still to be changed by the settlement."""
    return state != "delivered" if isinstance(settlement, Delivered) else state == "pending"


def storable(wanted: Filter) -> Filter:
    """The same filter with texts that a store can be asked for; what no store holds selects nothing."""
    return replace(
        wanted,
        tenant=None if wanted.tenant is None else TenantId(_storable(wanted.tenant)),
        document=None if wanted.document is None else DocumentName(_storable(wanted.document)),
        ids=tuple(MessageId(_storable(given)) for given in wanted.ids),
        reason=None if wanted.reason is None else _storable(wanted.reason),
    )


def _storable(text: str) -> str:
    """No store's texts hold NUL, or halves of surrogate pairs as an argument that is not UTF-8 has them."""
    return text.encode("utf-8", "replace").decode().replace("\x00", "\ufffd")


def page_of(ids: list[RowId], size: int, moment: Moment | None) -> RowPage:
    """What was found where `size` rows were asked for: there are more only if all of them were found."""
    is_full = len(ids) == size and (moment is None or ids[-1] < moment.upto)
    return RowPage(ids, ids[-1] if is_full else None)


def message_record(row: Sequence[Any], instant: Instant, history: History = ()) -> Record:
    """From the columns of `Record`, in their order."""
    not_before, created_at, queued_at, settled_at = row[11:15]
    return Record(
        row=RowId(row[0]),
        tenant_id=TenantId(row[1]),
        document_name=DocumentName(row[2]),
        message_id=MessageId(row[3]),
        to_logical_id=LogicalId(row[4]),
        ordering_key=None if row[5] is None else OrderingKey(row[5]),
        parameters=shown_parameters(row[6]),
        size=row[7],
        state=row[8],
        reason=row[9],
        attempts=row[10],
        not_before=None if not_before is None else instant(not_before),
        created_at=instant(created_at),
        queued_at=instant(queued_at),
        settled_at=None if settled_at is None else instant(settled_at),
        history=history,
    )


_OUTCOMES: dict[str, Outcome] = {name: name for name in get_args(Outcome)}


def audit_entry(row: Sequence[Any], instant: Instant) -> AuditEntry:
    """From the columns of `AuditEntry`, in their order."""
    number, at, who, what, tenant, selection, reason, messages, outcome, ended_at = row
    return AuditEntry(
        AuditId(number),
        instant(at),
        who,
        cast("AuditAction", what),  # the table admits others: what a later version writes is shown as it is
        None if tenant is None else TenantId(tenant),
        selection,
        reason,
        messages,
        _OUTCOMES[outcome],
        None if ended_at is None else instant(ended_at),
    )


_STATE_NAMES: dict[str, StateName] = {name: name for name in get_args(StateName)}


def tenant_states(rows: Iterable[Sequence[Any]], instant: Instant) -> Mapping[TenantId, TenantState]:
    """From tenant, state, reason, since, next try, relay, kind, documents; not those of unknown states."""
    return {
        TenantId(tenant): TenantState(
            TenantId(tenant),
            _STATE_NAMES[state],
            reason or "",
            EARLIEST if since is None else instant(since),
            None if next_try is None else instant(next_try),
            relay,
            kind or "",
            tuple(map(DocumentName, _texts(documents))),
        )
        for tenant, state, reason, since, next_try, relay, kind, documents in rows
        if state in _STATE_NAMES
    }


def relay_beats(rows: Iterable[Sequence[Any]], instant: Instant) -> Sequence[RelayBeat]:
    """From the columns of `RelayBeat`, in their order."""
    return [
        RelayBeat(relay, _details(details), instant(started), instant(beaten), bool(alive))
        for relay, details, started, beaten, alive in rows
    ]


# --- JSON in columns whose constraints admit any, or any text ----------------------------------------------


def _texts(text: str | None) -> list[str]:
    found = _json(text)
    return [_plain(one) for one in found if isinstance(one, str)] if isinstance(found, list) else []


def _details(text: str | None) -> dict[str, str]:
    found = _json(text)
    return {_plain(name): _plain(str(found[name])) for name in found} if isinstance(found, dict) else {}


def _json(text: str | None) -> object:
    if text is None or is_nested_too_deep(text):
        return None
    try:
        return json.loads(text)
    except ValueError:
        return None


def _plain(text: str) -> str:
    r"""Without halves of surrogate pairs, which JSON can hold (`"\ud800"`) and neither HTTP nor a store."""
    return text.encode("utf-8", "replace").decode()[:MAX_TEXT]


def tenant_activities(found: Iterable[tuple[Any, ...]]) -> Sequence[TenantActivity]:
    """The rows of all processes, which are together for each start and tenant, as one for each."""
    activities: dict[tuple[int, TenantId], list[Activity]] = {}
    for start, tenant, delivered, failed, parked, waiting, queued, answered in found:
        one = Activity(delivered, failed, parked, waiting, _durations(queued), _durations(answered))
        activities.setdefault((start, TenantId(tenant)), []).append(one)
    return [
        TenantActivity(start, tenant, ones[0] if len(ones) == 1 else combined(ones))
        for (start, tenant), ones in activities.items()
    ]


def _durations(text: str) -> Durations:
    return {} if text == "{}" else {int(bucket): count for bucket, count in json.loads(text).items()}


def deliveries_by_tenant(found: Iterable[tuple[Any, ...]]) -> Mapping[TenantId, Mapping[int, int]]:
    """From (tenant, start, how many)."""
    delivered: dict[TenantId, dict[int, int]] = {}
    for tenant, start, count in found:
        delivered.setdefault(TenantId(tenant), {})[start] = count
    return delivered
