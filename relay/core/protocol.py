"""The protocol: what every answer of ION means, for the tenant and for the message.

The worker performs a state; one of the `after_` functions classifies the answer once, and returns the table's
row, the answer in words, the next state and, for a post, the settlement. `ROWS` is the whole behaviour.

Sources: [G] ION Connect developer guide, "Application sends a message to ION"; [S] Infor's IMS v3 sample
code; [R] this relay's own rule where the sources are silent.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum
from typing import Literal, assert_never

from relay.core.model import Delivered, Parked, Released, Settlement
from relay.core.poison import CountedAttempts
from relay.core.replies import (
    Accepted,
    Answer,
    NoReply,
    Reply,
    TokenRefused,
    TokenUnavailable,
    Versions,
    describe,
)
from relay.core.states import Halt, Initialise, Pause, Ping, Send, State, Streak

# --- the table ------------------------------------------------------------------------------------


class Opening(Enum):
    """What an answer to ping, versions or acceptedDocuments does. The value is the text of the docs."""

    CONTINUE = "continue; a cycle's first post follows"
    BACK_OFF = "back off, try again"
    START_OVER = "back off, initialise again"
    LONGEST = "back off at the longest delay"
    HALT = "stop sending until corrected"


class Posting(Enum):
    """What an answer to a post does."""

    NEXT = "the next message, no new ping"
    POLICY = "by policy: park it and continue, or stop the tenant"
    PING_SOON = "ping; the first time at once, then after growing pauses"
    PING = "ping after a pause"
    START_OVER = "initialise; the first time at once, then after growing pauses"
    HALT = "stop sending until corrected"
    NEVER = "does not happen"


class Fate(Enum):
    """What becomes of the message that was posted."""

    DELIVERED = "delivered"
    RELEASED = "waits"
    COUNTED = "waits; sent again under the same id (it may have arrived), counted as an attempt"
    PARKED = "parked"
    POLICY = "parked, or waits while the tenant is stopped"
    NONE = "none"


class FaultOwner(Enum):
    """Whose fault it is: decides how it is reported, never what is done."""

    NOBODY = "nobody's"
    MESSAGE = "the message's"
    CREDENTIALS = "the credentials'"
    CONFIGURATION = "the configuration's"
    ION = "ION's or the network's"
    OUTBOX = "the outbox's"
    COLLECTOR = "the collector's"
    CALLER = "the caller's"


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the behaviour: an answer, and what it does."""

    name: str
    answer: str
    opening: Opening
    posting: Posting
    fate: Fate
    fault: FaultOwner
    hint: str
    source: str


# fmt: off
OK            = Row("ok", "2xx", Opening.CONTINUE, Posting.NEXT, Fate.DELIVERED, FaultOwner.NOBODY, "nothing to do", "[G] any 2xx; 202 means ION took custody")
INVALID       = Row("invalid", "400", Opening.BACK_OFF, Posting.POLICY, Fate.POLICY, FaultOwner.MESSAGE, "correct the document and enqueue it again, or retry it", "[G] administrator, then stop or skip")
UNAUTHORISED  = Row("unauthorised", "401", Opening.HALT, Posting.PING_SOON, Fate.RELEASED, FaultOwner.CREDENTIALS, "check the credentials and the authorised app in ION API", "[G] back to ping; on ping: stop until corrected")
FORBIDDEN     = Row("forbidden", "403", Opening.HALT, Posting.PING, Fate.RELEASED, FaultOwner.CREDENTIALS, "enter the client id on the connection point; check that the logical id belongs to this client", "[G] back to ping; on ping: stop until corrected")
UNEXPECTED    = Row("unexpected", "3xx, 404, 405, 406, 415, any other", Opening.BACK_OFF, Posting.PING, Fate.RELEASED, FaultOwner.CONFIGURATION, "check the ION URL", "[S] wrong URL, verb or media type: keep the message")
MISCONFIGURED = Row("misconfigured", "400 with IMS code 418, 419, 448 or 458", Opening.BACK_OFF, Posting.PING, Fate.RELEASED, FaultOwner.CONFIGURATION, "check the tenant id and the logical id", "[S] tenant or sender missing or wrong")
NOT_READY     = Row("not-ready", "412", Opening.START_OVER, Posting.START_OVER, Fate.RELEASED, FaultOwner.CONFIGURATION, "activate the connection point; add the document to it in ION Desk", "[G] back to the initialisation phase")
TOO_LARGE     = Row("too-large", "413", Opening.BACK_OFF, Posting.NEXT, Fate.PARKED, FaultOwner.MESSAGE, "send a smaller document, or raise ION's limit and retry it", "[R] in no source: attributed to the message")
BUSY          = Row("busy", "429, 503", Opening.BACK_OFF, Posting.PING, Fate.RELEASED, FaultOwner.ION, "wait; if it lasts, check the gateway's quota and ION's status", "[G] back to ping; Retry-After honoured")
BROKEN        = Row("broken", "408, other 5xx", Opening.BACK_OFF, Posting.PING, Fate.COUNTED, FaultOwner.ION, "wait; if only this message fails, check the document", "[G][S] back to ping; may have been accepted")
SILENT        = Row("silent", "no answer, an incomplete one, a time-out, one that cannot be read", Opening.BACK_OFF, Posting.PING, Fate.COUNTED, FaultOwner.ION, "wait; if it lasts, check the network and the ION URL", "[G][S] back to ping; may have been accepted")
TOKEN_REFUSED = Row("token-refused", "credentials that cannot be read; token service: 400, 401, 403", Opening.HALT, Posting.HALT, Fate.RELEASED, FaultOwner.CREDENTIALS, "fix the credential files (download the .ionapi file again); the relay reads them when they change", "[R] never fetched in a loop: quotas are small")
TOKEN_FAILED  = Row("token-unavailable", "token service: anything else", Opening.BACK_OFF, Posting.PING, Fate.RELEASED, FaultOwner.ION, "wait; if it lasts, check the .ionapi file's pu and ot", "[R]")
NO_V3         = Row("no-v3", "versions without v3 or later", Opening.LONGEST, Posting.NEVER, Fate.NONE, FaultOwner.CONFIGURATION, "upgrade ION, or check the ION URL: it may lead to something else", "[G] versions >= v3 before anything is sent")
# fmt: on

ROWS = (
    OK, INVALID, UNAUTHORISED, FORBIDDEN, UNEXPECTED, MISCONFIGURED, NOT_READY,
    TOO_LARGE, BUSY, BROKEN, SILENT, TOKEN_REFUSED, TOKEN_FAILED, NO_V3,
)  # fmt: skip

_BY_STATUS = {
    400: INVALID,
    401: UNAUTHORISED,
    403: FORBIDDEN,
    408: BROKEN,
    412: NOT_READY,
    413: TOO_LARGE,
    429: BUSY,
    503: BUSY,
}
_CONFIGURATION_CODES = frozenset({418, 419, 448, 458})
_TOKEN_REFUSALS = frozenset({400, 401, 403})
_VERSION = re.compile(r"v(\d{1,4})", re.ASCII)
_OLDEST_VERSION = 3
_LONGEST_RETRY_AFTER = 3600.0
_REJECTED_IN_A_ROW = 10
_ALONE_SECONDS = 1800.0


def row_of(answer: Answer) -> Row:
    """The row of the table that an answer belongs to."""
    match answer:
        case Reply():
            return _row_of_status(answer.status, answer.code)
        case Versions(supported):
            return OK if any(_is_new_enough(version) for version in supported) else NO_V3
        case Accepted():
            return OK
        case NoReply():
            return SILENT
        case TokenRefused():
            return TOKEN_REFUSED
        case TokenUnavailable():
            return TOKEN_FAILED
        case _:
            assert_never(answer)


def _row_of_status(status: int, code: int | None) -> Row:
    if 200 <= status < 300:
        return OK
    if status == 400 and code in _CONFIGURATION_CODES:
        return MISCONFIGURED
    return _BY_STATUS.get(status, BROKEN if 500 <= status < 600 else UNEXPECTED)


def _is_new_enough(version: str) -> bool:
    match = _VERSION.fullmatch(version)
    return match is not None and int(match[1]) >= _OLDEST_VERSION


def token_answer(status: int, detail: str, retry_after: float | None) -> TokenRefused | TokenUnavailable:
    """What the token service's answer means, when it is not a token."""
    if status in _TOKEN_REFUSALS:
        return TokenRefused(f"the token service answers {detail}")
    return TokenUnavailable(detail, retry_after)


def is_fine(answer: Answer) -> bool:
    """Whether the answer is a success: 2xx, or the content that was asked for."""
    return row_of(answer) is OK


def asks_for_fresh_token(answer: Answer) -> bool:
    """Whether a GET so answered is worth one more try with a new token (where tokens exist)."""
    return row_of(answer) is UNAUTHORISED


# --- transitions ----------------------------------------------------------------------------------


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
    row, detail = row_of(answer), describe(answer)
    if isinstance(answer, Accepted):
        return GetOutcome(row, detail, Send(answer.documents, state.streak))
    return GetOutcome(row, detail, _retry_get(state, answer, row, detail))


def after_ping(state: Ping, answer: Answer) -> GetOutcome:
    """`answer`: to versions, or to ping where it is not fine."""
    row, detail = row_of(answer), describe(answer)
    if row is OK:
        return GetOutcome(row, detail, Send(state.accepted, state.streak))
    return GetOutcome(row, detail, _retry_get(state, answer, row, detail))


def after_accepted(state: Send, answer: Answer) -> GetOutcome:
    """AcceptedDocuments polled while messages are sent: a failure stops them only where the table says so."""
    row, detail = row_of(answer), describe(answer)
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
        case Fate.RELEASED | Fate.DELIVERED | Fate.NONE:  # delivered: see `after_post`
            return Released(detail)
        case Fate.COUNTED:
            return _counted(detail, policy, known)
        case Fate.POLICY if policy.on_rejected == "stop":
            return Released(detail)
        case Fate.POLICY | Fate.PARKED if policy.park_nothing:
            return Released(detail, counted=True)
        case Fate.POLICY | Fate.PARKED:
            return Parked(detail)
        case _:
            assert_never(row.fate)


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
