"""This file is why a message or a tenant waits: by which rule, since when, until when.

Pure: what is known, and when "now" is, are arguments.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal, assert_never

from relay.core.admin import Record
from relay.core.model import DocumentName, Ordering, TenantId, TenantState
from relay.observability import error_codes
from relay.reports.times import ago, ahead, instant

Rule = Literal[
    "unconfigured", "paused", "no-relay", "halted", "backing-off", "opening", "not-accepted", "back-off",
    "lane", "next",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Around:
    """What is known about a tenant, and about a message's surroundings there.

    `ordering` None: the tenant is not configured here. `paused`: the reason, if a person paused it.
    `running`: whether a relay is. `head`: the message that the lane must carry first.
    """

    now: datetime
    ordering: Ordering | None
    state: TenantState | None
    paused: str | None
    running: bool
    head: Record | None = None
    not_accepted: frozenset[DocumentName] = frozenset()


@dataclass(frozen=True, slots=True)
class Wait:
    """One thing it waits for: by which rule, in words, since when, when it is tried next.

    `code`: the run book's, where what is known says exactly which.
    """

    rule: Rule
    text: str
    since: datetime | None = None
    next_try: datetime | None = None
    code: str | None = None

    def as_json(self) -> dict[str, Any]:
        """As in `waits_for`."""
        return {
            "rule": self.rule,
            "text": self.text,
            "since": instant(self.since),
            "next_try": instant(self.next_try),
            "code": self.code,
        }

    def sentence(self, now: datetime, who: str = "It waits for") -> str:
        """For a person."""
        since = f"; since {instant(self.since)}" if self.since else ""
        following = (
            f"; next try {ahead(self.next_try, now)} ({instant(self.next_try)})" if self.next_try else ""
        )
        page = f"; see: relay explain {self.code}" if self.code else ""
        return f"{who}: {self.text}{since}{following}{page}"


def waits(record: Record, around: Around) -> list[Wait]:
    """What a pending message waits for, the outermost first; empty for any other message."""
    if record.state != "pending":
        return []
    outer = holding(record.tenant_id, around)
    if outer is not None and outer.rule == "unconfigured":
        outer = replace(outer, since=record.queued_at)
    inner = list(_message(record, around))
    if outer is not None:
        return [outer, *inner]
    return inner or [Wait("next", "nothing: it is under way or goes next", record.queued_at)]


def holding(tenant: TenantId, around: Around) -> Wait | None:
    """What holds all of the tenant's messages back; None: nothing does."""
    state = around.state
    if around.ordering is None:
        text = f"no tenant {tenant} is configured here; set RELAY_TENANTS__{tenant}__LOGICAL_ID and the rest"
        return Wait("unconfigured", text, code=error_codes.UNCONFIGURED.code)
    if around.paused is not None:
        text = f"the tenant is paused: {around.paused}; end it with: relay tenants resume {tenant}"
        since = state.since if state and state.state == "paused" else None
        return Wait("paused", text, since, code=error_codes.PAUSED.code)
    if not around.running:
        return Wait(
            "no-relay", "no relay is running; start one with: relay run", code=error_codes.NO_RELAY.code
        )
    if state is None:
        text = (
            f"no relay that runs carries {tenant} so far; where several share the outbox, one takes it "
            "within seconds, or once the lease of one that died has ended; if it lasts, let them read "
            "their settings again"
        )
        return Wait("no-relay", text)
    return _live(state, around)


def _live(state: TenantState, around: Around) -> Wait | None:
    since, code = f"for {ago(state.since, around.now)}", error_codes.of_state(state.state, state.reason)
    match state.state:
        case "halted":
            text = f"the tenant is halted {since}: {state.reason}; correct it, or: relay tenants resume"
            return Wait("halted", f"{text} {state.tenant_id}", state.since, state.next_try, code)
        case "paused":
            text = (
                f"the tenant is paused: {state.reason}; end it with: relay tenants resume {state.tenant_id}"
            )
            return Wait("paused", text, state.since, code=code)
        case "backing-off":
            text = f"the tenant's ION is in trouble, and tried again after growing pauses: {state.reason}"
            return Wait("backing-off", text, state.since, state.next_try, code)
        case "initialising" | "pinging":
            return Wait("opening", "the tenant's ION is being asked whether it is ready", state.since)
        case "sending" | "idle":
            return None
        case _:
            assert_never(state.state)


def withheld(document: DocumentName, state: TenantState | None) -> Wait:
    """That ION does not accept the document."""
    text = (
        f"{document} is not accepted by ION; add it to the connection point in ION Desk "
        '("sent by application"); the relay asks again by itself'
    )
    since, next_try = (state.since, state.next_try) if state else (None, None)
    return Wait("not-accepted", text, since, next_try, error_codes.NOT_ACCEPTED.code)


def _message(record: Record, around: Around) -> Iterator[Wait]:
    if record.document_name in around.not_accepted:
        yield withheld(record.document_name, around.state)
    if record.not_before is not None and record.not_before > around.now:
        text = f"its own delay after {record.attempts} attempts"
        text = text if record.attempts else "its own delay"
        since = record.history[-1][0] if record.history else None
        yield Wait("back-off", f"{text}, the last: {record.reason}", since, record.not_before)
    if around.head is not None and around.ordering != "none":
        head = around.head
        lane = "" if around.ordering == "tenant" else _lane(record)
        text = f"message {head.message_id} is before it in its lane{lane}"
        yield Wait(
            "lane", text + (f" ({head.reason})" if head.reason else ""), record.queued_at, head.not_before
        )


def _lane(record: Record) -> str:
    return f", the key {record.ordering_key}" if record.ordering_key else ", the messages without a key"
