"""The protocol: which state follows every answer of ION, and what becomes of the message.

The worker performs a state; one of the `after_` functions classifies the answer once, by the table in
`answers.py`; it returns the table's row, the answer in words, the next state and, for a post, the settlement.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, assert_never

from relay.core.answers import (
    BUSY,
    OK,
    TOKEN_FAILED,
    Fate,
    FaultOwner,
    Opening,
    Posting,
    Row,
    row_of,
    row_of_get,
)
from relay.core.model import Delivered, Parked, Released, Settlement
from relay.core.poison import CountedAttempts
from relay.core.replies import Accepted, Answer, Reply, TokenUnavailable, describe
from relay.core.states import Halt, Initialise, Pause, Ping, Send, State, Streak

_LONGEST_RETRY_AFTER = 3600.0
_REJECTED_IN_A_ROW = 10
_ALONE_SECONDS = 1800.0


@dataclass(frozen=True, slots=True)
class GetOutcome:
    """What an answer to a GET means: its row, the answer in words, and the state that follows."""

    row: Row
    detail: str
    state: State


@dataclass(frozen=True, slots=True)
class PostOutcome:
    """What an answer to a post means: as `GetOutcome`, and what becomes of the message.

    `only_this`: others are delivered, so that the answer says nothing about the tenant.
    """

    row: Row
    detail: str
    state: State
    settlement: Settlement
    only_this: bool = False


def after_initialise(state: Initialise, answer: Answer) -> GetOutcome:
    """`answer`: to acceptedDocuments, or to ping or versions where it is not fine."""
    row, detail = row_of_get(answer), describe(answer)
    if isinstance(answer, Accepted):
        return GetOutcome(row, detail, Send(answer.documents, state.streak))
    return GetOutcome(row, detail, _retry_get(state, answer, row, detail))


def after_ping(state: Ping, answer: Answer) -> GetOutcome:
    """`answer`: to versions, or to ping where it is not fine."""
    row, detail = row_of_get(answer), describe(answer)
    if row is OK:
        return GetOutcome(row, detail, Send(state.accepted, state.streak))
    return GetOutcome(row, detail, _retry_get(state, answer, row, detail))


def after_accepted(state: Send, answer: Answer) -> GetOutcome:
    """AcceptedDocuments polled while messages are sent: a failure stops them only where the table says so."""
    row, detail = row_of_get(answer), describe(answer)
    if isinstance(answer, Accepted):
        return GetOutcome(row, detail, replace(state, accepted=answer.documents))
    if row.opening in (Opening.HALT, Opening.START_OVER):
        return GetOutcome(row, detail, _retry_get(Ping(state.accepted, state.streak), answer, row, detail))
    return GetOutcome(row, detail, state)


def _retry_get(state: Initialise | Ping, answer: Answer, row: Row, detail: str) -> State:
    streak = _failed(state, row, detail)
    again = replace(state, streak=streak)
    match row.opening:
        case Opening.HALT:
            return Halt(row.name, detail, streak)
        case Opening.START_OVER:
            return Pause(Initialise(streak), row.name, detail, _retry_after(answer))
        case Opening.LONGEST:
            return Pause(again, row.name, detail, longest=True)
        case Opening.BACK_OFF | Opening.CONTINUE:  # CONTINUE: fine, but not the content that was asked for
            return Pause(again, row.name, detail, _retry_after(answer))
        case unknown:
            assert_never(unknown)


@dataclass(frozen=True, slots=True)
class Policy:
    """What the tenant's owner decided about messages that cannot be delivered."""

    on_rejected: Literal["park", "stop"]
    park_nothing: bool
    max_attempts: int


def after_post(
    state: Send, answer: Answer, policy: Policy, attempts: Callable[[Row], CountedAttempts]
) -> PostOutcome:
    """What follows from a post's answer for the tenant and for the message.

    `attempts`: what is known about the message, asked only where the message may be sent again.
    """
    row, detail = row_of(answer), describe(answer)
    if row.fate is Fate.DELIVERED:
        return PostOutcome(row, detail, Send(state.accepted), _DELIVERED)
    known = attempts(row)
    if _is_only_this(row, policy, known):
        wait = _retry_after(answer)
        settlement = _counted(f"{detail}; only this message, others are delivered", policy, known, wait)
        return PostOutcome(row, detail, state, settlement, only_this=True)
    settlement = _settle(row, detail, policy, known)
    detail = _holding(row, detail, known)
    after = _after_posting(state, answer, row, detail, settlement, policy)
    return PostOutcome(row, detail, after, settlement)


def _is_only_this(row: Row, policy: Policy, known: CountedAttempts) -> bool:
    """The message meets a failure again, though others were delivered meanwhile: the fault is its own [R].

    A busy server says that it refuses whatever comes: that is the message's only where no other meets it.
    What is parked or stops the tenant at once needs no proof.
    """
    if row.posting in (Posting.HALT, Posting.NEVER) or row is TOKEN_FAILED:
        return False
    if row.posting in (Posting.NEXT, Posting.POLICY) and not policy.park_nothing:
        return False
    if row.posting is Posting.POLICY and policy.on_rejected == "stop":
        return False
    return known.delivered_elsewhere and not (row is BUSY and known.failed_elsewhere)


def _holding(row: Row, detail: str, known: CountedAttempts) -> str:
    """Where nothing else can show whose fault it is, an operator may know."""
    if not (known.again and known.alone) or row.fault in (FaultOwner.ION, FaultOwner.MESSAGE):
        return detail
    return f"{detail}; pings succeed, and message {known.message_id} is refused again: {_PARK_IT}"


_PARK_IT = "all others wait behind it, park it if only this one is refused"
_DELIVERED = Delivered()


def _settle(row: Row, detail: str, policy: Policy, known: CountedAttempts) -> Released | Parked:
    match row.fate:
        case Fate.COUNTED:
            return _counted(detail, policy, known)
        case Fate.POLICY if policy.on_rejected == "stop":
            return Released(detail)
        case Fate.POLICY | Fate.PARKED if policy.park_nothing:
            return Released(detail, counted=True)
        case Fate.POLICY | Fate.PARKED:
            return Parked(detail)
        case _:
            return Released(detail)


def _counted(detail: str, policy: Policy, known: CountedAttempts, wait: float = 0.0) -> Released | Parked:
    """Only a message that fails while others pass is poison; where there is no other, time decides."""
    attempts = known.attempts + 1
    is_poison = known.delivered_elsewhere or (known.alone and known.seconds >= _ALONE_SECONDS)
    if policy.park_nothing or attempts < policy.max_attempts or not is_poison:
        return Released(detail, counted=True, wait=wait)
    return Parked(f"{attempts} attempts, the last: {detail}")


def _after_posting(
    state: Send, answer: Answer, row: Row, detail: str, settlement: Released | Parked, policy: Policy
) -> State:
    match row.posting:
        case Posting.POLICY if policy.on_rejected == "stop":
            reason = f"a message was refused and on_rejected is stop: {detail}"
            return Halt(row.name, reason, _failed(state, row, detail), until_resumed=True)
        case Posting.NEXT | Posting.POLICY:
            return _next(state, row, detail, settlement)
        case Posting.PING_SOON if state.streak.failures == 0:
            return Ping(state.accepted, _failed(state, row, detail))
        case Posting.START_OVER if state.streak.failures == 0:
            return Initialise(_failed(state, row, detail))
        case Posting.START_OVER:
            return Pause(Initialise(_failed(state, row, detail)), row.name, detail, _retry_after(answer))
        case Posting.PING | Posting.PING_SOON | Posting.NEVER:
            again = Ping(state.accepted, _failed(state, row, detail))
            return Pause(again, row.name, detail, _retry_after(answer))
        case Posting.HALT:
            return Halt(row.name, detail, _failed(state, row, detail))
        case _:
            assert_never(row.posting)


def _next(state: Send, row: Row, detail: str, settlement: Released | Parked) -> State:
    match settlement:
        case Parked():
            rejected = state.streak.rejected + 1
            streak = replace(state.streak, rejected=rejected)
            if rejected >= _REJECTED_IN_A_ROW:
                reason = f"{rejected} messages in a row were refused, the last: {detail}"
                return Halt(row.name, reason, streak, until_resumed=True)
            return Send(state.accepted, streak)
        case Released():  # nothing is parked: a post is repeated after a ping, and never in a hot loop
            return Pause(Ping(state.accepted, _failed(state, row, detail)), row.name, detail)
        case _:
            assert_never(settlement)


def _failed(state: Send | Initialise | Ping, row: Row, detail: str) -> Streak:
    return replace(state.streak, failures=state.streak.failures + 1, kind=row.name, reason=detail)


def _retry_after(answer: Answer) -> float:
    """Seconds of `Retry-After`, capped; it only ever lengthens a pause."""
    match answer:
        case Reply(retry_after=seconds) | TokenUnavailable(retry_after=seconds) if seconds is not None:
            return min(max(0.0, seconds), _LONGEST_RETRY_AFTER)  # in this order "not a number" counts as none
        case _:
            return 0.0
