"""This file is what operators can decide about messages, and how it is written down, whatever the store."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Any, Literal

from relay.core.admin import Action, Admin, BulkAction, Filter, MessageState, Moment
from relay.core.model import DocumentName, MessageId, RowId, TenantId

ABANDONED_SECONDS = 3600.0
"""A decision that nobody went on with for so long has failed."""

_IDS_NAMED = 5


@dataclass(frozen=True, slots=True)
class Decision:
    """What has happened to messages of one of the `states` when it is done."""

    done: Literal["retried", "parked", "dropped"]
    states: tuple[MessageState, ...]


DECISIONS: Mapping[Action, Decision] = MappingProxyType(
    {
        "retry": Decision("retried", ("pending", "parked", "dropped")),
        "park": Decision("parked", ("pending",)),
        "drop": Decision("dropped", ("pending", "parked")),
    }
)
"""Whatever is not delivered goes again; out of the queue; for good."""


@dataclass(frozen=True, slots=True)
class Done:
    """How many rows a chunk changed, and the last that it looked at; None: no more are meant."""

    rows: int
    last: RowId | None


def states_of(what: Action, wanted: Filter) -> tuple[MessageState, ...]:
    """The states in which the wanted messages can be decided about."""
    return tuple(state for state in DECISIONS[what].states if wanted.state in (None, state))


async def to_the_end(desk: Admin, order: BulkAction) -> int:
    """Begin the decision and go on until it is over; how many messages it changed."""
    audit = await desk.begin(order)
    while (entry := await desk.go_on(audit)).outcome == "running":
        pass
    return entry.messages


# --- in the audit -------------------------------------------------------------------------------------------


def described(wanted: Filter) -> str:
    """Which messages of the tenant, in words."""
    parts = [wanted.state or "", wanted.document or "", *map(str, wanted.ids[:_IDS_NAMED])]
    if len(wanted.ids) > _IDS_NAMED:
        parts.append(f"and {len(wanted.ids) - _IDS_NAMED} more")
    if wanted.reason is not None:
        parts.append(f"reason contains {wanted.reason!r}")
    return ", ".join(filter(None, parts)) or "all"


def packed(wanted: Filter) -> str:
    """As JSON, to go on with later. It has its moment."""
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


def unpacked(text: str) -> Filter:
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
