"""This file is one message's story in plain sentences: what happened, and what it waits for now.

Pure: what is known, and when "now" is, are arguments.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, assert_never

from relay.cli.say import ago, instant
from relay.cli.say import ahead as until
from relay.desk import Record
from relay.model import Ordering, TenantState

Rule = Literal[
    "unconfigured", "paused", "no-relay", "halted", "backing-off", "opening", "not-accepted", "own-delay",
    "lane", "next",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Around:
    """What is known about the message's surroundings.

    `ordering` None: its tenant is not configured here. `paused`: the reason, if a person paused the tenant.
    `running`: whether a relay is. `head`: the message its lane must carry first.
    """

    now: datetime
    ordering: Ordering | None
    state: TenantState | None
    paused: str | None
    running: bool
    head: Record | None
    not_accepted: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Wait:
    """One thing it waits for: by which rule, in words, since when, when it is tried next."""

    rule: Rule
    text: str
    since: datetime | None = None
    next_try: datetime | None = None


def happened(record: Record) -> list[str]:
    """What happened so far, a sentence each."""
    lines = [f"{instant(record.created_at)}  handed over, {record.size} bytes"]
    lines += [f"{instant(at)}  {_happening(what, detail)}" for at, what, detail in record.history]
    told = {what for _, what, _ in record.history}
    if record.state != "pending" and record.state not in told:
        reason = f": {record.reason}" if record.reason else ""
        lines.append(f"{instant(record.settled_at) or ''}  {record.state}{reason}")
    return lines


def _happening(what: str, detail: str) -> str:
    words = {
        "released": "not delivered, back to waiting",
        "blamed": "not delivered, counted as an attempt; it may have arrived all the same",
        "parked": "parked",
        "delivered": "delivered",
        "retried": "back in the queue by hand",
        "dropped": "dropped by hand",
    }
    return f"{words.get(what, what)}: {detail}" if detail else words.get(what, what)


def now_is(record: Record) -> str:
    """How it stands, in one sentence."""
    match record.state:
        case "pending":
            return "It waits to be delivered."
        case "delivered":
            return "It was delivered: ION took custody."
        case "parked":
            return (
                f"It is parked: {record.reason}. Mend the cause, then: relay messages retry "
                f"{record.message_id}; or give it up: relay messages drop {record.message_id}"
            )
        case "dropped":
            again = f"It comes back with: relay messages retry {record.message_id}"
            return f"It was dropped: {record.reason}. {again}"
        case _:
            assert_never(record.state)


def waits(record: Record, around: Around) -> list[Wait]:
    """What a pending message waits for, the outermost first; empty for any other message."""
    if record.state != "pending":
        return []
    outer = _tenant(record, around)
    inner = list(_message(record, around))
    if outer is not None:
        return [outer, *inner]
    return inner or [Wait("next", "nothing: it is under way or goes next", record.queued_at)]


def _tenant(record: Record, around: Around) -> Wait | None:
    tenant, state = record.tenant_id, around.state
    if around.ordering is None:
        text = f"no tenant {tenant} is configured here; set RELAY_TENANTS__{tenant}__LOGICAL_ID and the rest"
        return Wait("unconfigured", text, record.queued_at)
    if around.paused is not None:
        text = f"the tenant is paused: {around.paused}; end it with: relay tenants resume {tenant}"
        return Wait("paused", text, state.since if state and state.state == "paused" else None)
    if not around.running:
        return Wait("no-relay", "no relay is running; start one with: relay run")
    if state is None:
        return Wait("no-relay", f"the relay that runs does not carry {tenant}; reload or restart it")
    return _live(state, around)


def _live(state: TenantState, around: Around) -> Wait | None:
    since = f"for {ago(state.since, around.now)}"
    match state.state:
        case "halted":
            text = f"the tenant is halted {since}: {state.reason}; correct it, or: relay tenants resume"
            return Wait("halted", f"{text} {state.tenant_id}", state.since, state.next_try)
        case "paused":
            text = (
                f"the tenant is paused: {state.reason}; end it with: relay tenants resume {state.tenant_id}"
            )
            return Wait("paused", text, state.since)
        case "backing-off":
            text = f"the tenant's ION is in trouble, and tried again after growing pauses: {state.reason}"
            return Wait("backing-off", text, state.since, state.next_try)
        case "initialising" | "pinging":
            return Wait("opening", "the tenant's ION is being asked whether it is ready", state.since)
        case "sending" | "idle":
            return None
        case _:
            assert_never(state.state)


def _message(record: Record, around: Around) -> Iterator[Wait]:
    if record.document_name in around.not_accepted:
        text = (
            f"{record.document_name} is not accepted by ION; add it to the connection point in ION Desk "
            '("sent by application"); the relay asks again by itself'
        )
        since, next_try = (around.state.since, around.state.next_try) if around.state else (None, None)
        yield Wait("not-accepted", text, since, next_try)
    if record.not_before is not None and record.not_before > around.now:
        text = f"its own delay after {record.attempts} attempts"
        text = text if record.attempts else "its own delay"
        since = record.history[-1][0] if record.history else None
        yield Wait("own-delay", f"{text}, the last: {record.reason}", since, record.not_before)
    if around.head is not None and around.ordering != "none":
        head = around.head
        lane = "" if around.ordering == "tenant" else _lane(record)
        text = f"message {head.message_id} is before it in its lane{lane}"
        yield Wait(
            "lane", text + (f" ({head.reason})" if head.reason else ""), record.queued_at, head.not_before
        )


def _lane(record: Record) -> str:
    return f", the key {record.ordering_key}" if record.ordering_key else ", the messages without a key"


def sentence(wait: Wait, now: datetime) -> str:
    """One wait for a person."""
    since = f"; since {instant(wait.since)}" if wait.since else ""
    following = f"; next try {until(wait.next_try, now)} ({instant(wait.next_try)})" if wait.next_try else ""
    return f"It waits for: {wait.text}{since}{following}"
