"""Why a message or a tenant waits: by which rule, since when, until when, and in words for people.

Pure: what is known, and the current time, are arguments. Wait reasons are data everywhere else; only this
module words them.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal, assert_never

from relay.core.admin import Record
from relay.core.model import BACK_OFF, NOT_ACCEPTED, DocumentName, Ordering, TenantId, TenantState
from relay.observability import error_codes
from relay.reports.delays import waits_for_time
from relay.reports.times import instant, time_since, time_until

Rule = Literal[
    "unconfigured", "paused", "no-relay", "halted", "backing-off", "opening", "not-accepted", "back-off",
    "lane", "next",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class WaitContext:
    """What is known about a tenant, and about the lane of one of its messages.

    `ordering` None: the tenant is not configured here. `paused`: the reason, if an operator paused it.
    `running`: whether a relay is running. `ahead`: the message before it in its lane that it waits for.
    """

    now: datetime
    ordering: Ordering | None
    state: TenantState | None
    paused: str | None
    running: bool
    ahead: Record | None = None

    @property
    def not_accepted(self) -> Collection[DocumentName]:
        """The documents that have messages and are not accepted by ION."""
        return self.state.documents if self.state else ()


@dataclass(frozen=True, slots=True)
class WaitReason:
    """One thing that a message waits for: the rule, the text, since when, and when it is tried next.

    `code`: the run book's, where what is known says exactly which. `command`: what ends it, on the command
    line; the page has a button instead.
    """

    rule: Rule
    text: str
    since: datetime | None = None
    next_try: datetime | None = None
    code: str | None = None
    command: str | None = None

    @property
    def with_command(self) -> str:
        """The text for the command line."""
        return f"{self.text}; {self.command}" if self.command else self.text

    def as_json(self) -> dict[str, Any]:
        """As in `waits_for`."""
        return {
            "rule": self.rule,
            "text": self.with_command,
            "since": instant(self.since),
            "next_try": instant(self.next_try),
            "code": self.code,
        }

    def sentence(self, now: datetime, subject: str = "It waits for") -> str:
        """The whole wait reason as one line of text."""
        since = f"; since {instant(self.since)}" if self.since else ""
        following = (
            f"; next try {time_until(self.next_try, now)} ({instant(self.next_try)})" if self.next_try else ""
        )
        page = f"; see: relay explain {self.code}" if self.code else ""
        return f"{subject}: {self.with_command}{since}{following}{page}"


_MAX_NAMED = 10
"""Documents that a reason names; an application may invent thousands."""


def state_reason(kind: str, reason: str, documents: Collection[DocumentName]) -> str:
    """The reason that a tenant's live state carries, in words; empty where there is none."""
    if documents and kind in ("", NOT_ACCEPTED, BACK_OFF):
        names, more = ", ".join(list(documents)[:_MAX_NAMED]), len(documents) - _MAX_NAMED
        rest = f" and {more:,} more" if more > 0 else ""
        return f"waiting to be accepted by ION: {names}{rest}" + (f"; {reason}" if reason else "")
    return "a message waits for its back-off" if kind == BACK_OFF else reason


def state_code(state: TenantState) -> str | None:
    """The run book's code of a tenant's live state; None where nothing fails."""
    match state.state:
        case "paused":
            return error_codes.PAUSED.code
        case "backing-off" | "halted" | "initialising" | "pinging":
            return error_codes.of_kind(state.kind)
        case "sending" if state.kind not in ("", NOT_ACCEPTED, BACK_OFF):
            return error_codes.of_kind(state.kind)
        case _:
            return error_codes.NOT_ACCEPTED.code if state.documents else None


def message_wait_reasons(record: Record, context: WaitContext) -> list[WaitReason]:
    """What a pending message waits for, its tenant's reason first; empty for any other message."""
    if record.state != "pending":
        return []
    outer = tenant_wait_reason(record.tenant_id, context)
    if outer is not None and outer.rule == "unconfigured":
        outer = replace(outer, since=record.queued_at)
    inner = list(_own_reasons(record, context))
    if outer is not None:
        return [outer, *inner]
    return inner or [WaitReason("next", "nothing: it is in flight or next", record.queued_at)]


def tenant_wait_reason(tenant: TenantId, context: WaitContext) -> WaitReason | None:
    """What keeps all of the tenant's messages waiting; None: nothing does."""
    state = context.state
    if context.ordering is None:
        name = f"RELAY_TENANTS__{tenant}__LOGICAL_ID"
        text = f"tenant {tenant} is not configured here; set {name} and its credentials"
        return WaitReason("unconfigured", text, code=error_codes.UNCONFIGURED.code)
    if context.paused is not None:
        since = state.since if state and state.state == "paused" else None
        return _paused(tenant, context.paused, since)
    if not context.running:
        text, command = "no relay is running", "start one with: relay run"
        return WaitReason("no-relay", text, code=error_codes.NO_RELAY.code, command=command)
    if state is None:
        text = (
            f"no running relay owns {tenant} yet; where several share the outbox, one acquires it within "
            "seconds, or when the lease of a crashed one expires; if it lasts, reload their settings"
        )
        return WaitReason("no-relay", text)
    return _live_reason(state, context.now)


def _paused(tenant: TenantId, reason: str, since: datetime | None) -> WaitReason:
    text, command = f"the tenant is paused: {reason}", f"end it with: relay tenants resume {tenant}"
    return WaitReason("paused", text, since, code=error_codes.PAUSED.code, command=command)


def _live_reason(state: TenantState, now: datetime) -> WaitReason | None:
    reason, code = state_reason(state.kind, state.reason, state.documents), state_code(state)
    match state.state:
        case "halted":
            text = f"the tenant is halted for {time_since(state.since, now)}: {reason}; correct it"
            command = f"or: relay tenants resume {state.tenant_id}"
            return WaitReason("halted", text, state.since, state.next_try, code, command)
        case "paused":
            return _paused(state.tenant_id, reason, state.since)
        case "backing-off":
            text = f"ION fails for this tenant, and is tried again after growing pauses: {reason}"
            return WaitReason("backing-off", text, state.since, state.next_try, code)
        case "initialising" | "pinging":
            last = f", after: {reason}" if reason else ""
            text = f"the relay is checking whether ION is ready{last}"
            return WaitReason("opening", text, state.since, code=code)
        case "sending" if code is not None and code != error_codes.NOT_ACCEPTED.code:
            text = f"the relay is trying ION again with one message, after: {reason}"
            return WaitReason("opening", text, state.since, code=code)
        case "sending" | "idle":
            return None
        case _:
            assert_never(state.state)


def not_accepted(document: DocumentName, state: TenantState | None) -> WaitReason:
    """The wait reason of a document that ION does not accept."""
    meant = _meant(document, state.reason) if state else ""
    text = (
        f"{document} is not accepted by ION; {meant}add it to the connection point in ION Desk "
        '("sent by application"); the relay checks again automatically'
    )
    since, next_try = (state.since, state.next_try) if state else (None, None)
    return WaitReason("not-accepted", text, since, next_try, error_codes.NOT_ACCEPTED.code)


def _meant(document: DocumentName, suggestions: str) -> str:
    """The suggestion for this document, of those in the reason of a tenant's state."""
    before, found, _ = suggestions.partition(f" instead of {document}?")
    return f"{before[before.rfind('did you mean') :]}? Else " if found else ""


def _own_reasons(record: Record, context: WaitContext) -> Iterator[WaitReason]:
    if record.document_name in context.not_accepted:
        yield not_accepted(record.document_name, context.state)
    if waits_for_time(record, context.now):
        since = record.history[-1][0] if record.history else None
        yield WaitReason("back-off", _own_time(record), since, record.not_before)
    ahead = context.ahead
    if ahead is not None:
        lane = "" if context.ordering == "tenant" else _lane(record)
        next_try = ahead.not_before if waits_for_time(ahead, context.now) else None
        cause = f" ({ahead.reason or _own_time(ahead)})" if ahead.reason or next_try else ""
        text = f"message {ahead.message_id} is before it in its lane{lane}{cause}"
        yield WaitReason("lane", text, record.queued_at, next_try)


def _own_time(record: Record) -> str:
    if not record.attempts and record.reason is None:
        return "its own time: it was enqueued to be sent later"
    attempts = f" after {record.attempts} attempts" if record.attempts else ""
    return f"its own back-off{attempts}, the last: {record.reason}"


def _lane(record: Record) -> str:
    return f", the key {record.ordering_key}" if record.ordering_key else ", the messages without a key"
