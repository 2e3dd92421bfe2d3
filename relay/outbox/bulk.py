"""The rules of bulk actions, and how one is written into the audit, whatever the store."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Any, Literal

from relay.core.admin import Action, Admin, BulkAction, Filter, MessageState, Moment
from relay.core.model import AuditId, DocumentName, MessageId, RowId, TenantId
from relay.core.ports import StoreError

ABANDONED_SECONDS = 3600.0
"""A bulk action without progress for so long has failed."""

_IDS_NAMED = 5


@dataclass(frozen=True, slots=True)
class ActionRule:
    """Which messages an action applies to, and what has happened to them when it is done."""

    done: Literal["retried", "parked", "dropped"]
    states: tuple[MessageState, ...]


ACTIONS: Mapping[Action, ActionRule] = MappingProxyType(
    {
        "retry": ActionRule("retried", ("pending", "parked", "dropped")),
        "park": ActionRule("parked", ("pending",)),
        "drop": ActionRule("dropped", ("pending", "parked")),
    }
)


_ACTION_NAMES: Mapping[str, Action] = {name: name for name in ACTIONS}


@dataclass(frozen=True, slots=True)
class ChunkResult:
    """How many rows a chunk changed, and the last row that it examined; None: there are no more."""

    rows: int
    last: RowId | None


def action_mark(audit_id: AuditId) -> str:
    """What the history's entries of a bulk action have in the place of a settlement's id."""
    return f"action-{audit_id}"


def states_of(what: Action, wanted: Filter) -> tuple[MessageState, ...]:
    """The states in which the action applies to the selected messages."""
    return tuple(state for state in ACTIONS[what].states if wanted.state in (None, state))


async def run_to_end(admin: Admin, order: BulkAction) -> int:
    """Begin the action and advance it until it is over; how many messages it changed."""
    audit_id = await admin.begin(order)
    while (entry := await admin.advance(audit_id)).outcome == "running":
        pass
    return entry.messages


def no_such_action(audit_id: AuditId) -> StoreError:
    """It was never begun, or its entry was pruned."""
    return StoreError(f"there is no bulk action {audit_id} in the audit; it may have been pruned")


# --- in the audit -------------------------------------------------------------------------------------------


def summary(wanted: Filter) -> str:
    """Which messages of the tenant, for people."""
    facts = [wanted.state or "", wanted.document or "", *map(str, wanted.ids[:_IDS_NAMED])]
    if len(wanted.ids) > _IDS_NAMED:
        facts.append(f"and {len(wanted.ids) - _IDS_NAMED} more")
    if wanted.reason is not None:
        facts.append(f"reason contains {wanted.reason!r}")
    return ", ".join(filter(None, facts)) or "all"


def filter_json(wanted: Filter) -> str:
    """For the next chunks. The filter has its moment."""
    assert wanted.moment is not None
    return json.dumps(
        {
            "tenant": wanted.tenant,
            "document": wanted.document,
            "state": wanted.state,
            "ids": wanted.ids,
            "reason": wanted.reason,
            "upto": wanted.moment.upto,
            "at": wanted.moment.at.isoformat(),
        }
    )


def stored_order(audit_id: AuditId, what: str, wanted: str | None, who: str, reason: str) -> BulkAction:
    """The action of an entry in the audit. Raises StoreError for one that no relay wrote."""
    try:
        action = _ACTION_NAMES[what]
        return BulkAction(action, _parse_filter(wanted or ""), who, reason)
    except (LookupError, OverflowError, RecursionError, TypeError, ValueError):
        raise StoreError(
            f"entry {audit_id} of the audit does not say which messages it is about; "
            "cancel it, and select them again"
        ) from None


def _parse_filter(text: str) -> Filter:
    """The other way."""
    given: dict[str, Any] = json.loads(text)
    return Filter(
        None if given["tenant"] is None else TenantId(given["tenant"]),
        None if given["document"] is None else DocumentName(given["document"]),
        given["state"],
        tuple(map(MessageId, given["ids"])),
        given["reason"],
        Moment(RowId(given["upto"]), datetime.fromisoformat(given["at"])),
    )
