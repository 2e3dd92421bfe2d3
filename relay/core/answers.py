"""The table: what every answer of ION means for the tenant and for the message. `ROWS` is the whole behaviour.

What follows from it is in `protocol.py`. Sources: [G] ION Connect developer guide, "Application sends a message
to ION"; [S] Infor's IMS v3 sample code; [R] this relay's own rule where the sources are silent.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import assert_never

from relay.core.replies import (
    Accepted,
    Answer,
    IonCall,
    NoReply,
    Reply,
    TokenRefused,
    TokenUnavailable,
    Versions,
)

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
INVALID       = Row("invalid", "400 in IMS's form or empty; 400 and 412 with IMS code 450, 453, 470 or 477", Opening.BACK_OFF, Posting.POLICY, Fate.POLICY, FaultOwner.MESSAGE, "correct the document and enqueue it again, or retry it", "[G] administrator, then stop or skip")
UNAUTHORISED  = Row("unauthorised", "401", Opening.HALT, Posting.PING_SOON, Fate.RELEASED, FaultOwner.CREDENTIALS, "check the credentials: the authorised app in ION API, or the OAuth 1 key and its secret", "[G] back to ping; on ping: stop until corrected")
CLOCK         = Row("clock", "401 to an OAuth 1 signature, with a Date that is 5 minutes or more from this machine's time", Opening.BACK_OFF, Posting.PING, Fate.RELEASED, FaultOwner.CONFIGURATION, "set this machine's clock (NTP): signatures carry the time, and ION refuses others", "[R] the answer's Date shows it; the credentials may be right")
FORBIDDEN     = Row("forbidden", "403", Opening.HALT, Posting.PING, Fate.RELEASED, FaultOwner.CREDENTIALS, "enter the client id on the connection point; check that the logical id belongs to this client", "[G] back to ping; on ping: stop until corrected")
FOREIGN       = Row("foreign", "2xx with an HTML page", Opening.BACK_OFF, Posting.PING, Fate.COUNTED, FaultOwner.CONFIGURATION, "a firewall or gateway answered, not ION: check what stands between, and the ION URL", "[R] ION answers JSON or nothing; a page is no delivery")
GATEWAY       = Row("gateway", "400 in another form", Opening.BACK_OFF, Posting.PING, Fate.RELEASED, FaultOwner.CONFIGURATION, "a gateway refused the call, not ION: read its words; check the ION URL and the gateway's policies", "[R] seen for a wrong path: its words are shown")
UNEXPECTED    = Row("unexpected", "3xx, 404, 405, 406, 415, any other", Opening.BACK_OFF, Posting.PING, Fate.RELEASED, FaultOwner.CONFIGURATION, "check the ION URL", "[S] wrong URL, verb or media type: keep the message")
MISCONFIGURED = Row("misconfigured", "400 with IMS code 418, 419, 448, 456, 458 or 471", Opening.BACK_OFF, Posting.PING, Fate.RELEASED, FaultOwner.CONFIGURATION, "check the tenant id, the logical id and the client id", "[S] tenant, sender or client missing or wrong")
NOT_READY     = Row("not-ready", "412", Opening.START_OVER, Posting.START_OVER, Fate.RELEASED, FaultOwner.CONFIGURATION, "activate the connection point; add the document to it in ION Desk", "[G] back to the initialisation phase")
TOO_LARGE     = Row("too-large", "413", Opening.BACK_OFF, Posting.NEXT, Fate.PARKED, FaultOwner.MESSAGE, "send a smaller document, or raise ION's limit and retry it", "[R] in no source: attributed to the message")
BUSY          = Row("busy", "429, 503", Opening.BACK_OFF, Posting.PING, Fate.RELEASED, FaultOwner.ION, "wait; if it lasts, check the gateway's quota and ION's status", "[G] back to ping; Retry-After honoured")
BROKEN        = Row("broken", "408, other 5xx", Opening.BACK_OFF, Posting.PING, Fate.COUNTED, FaultOwner.ION, "wait; if it lasts, check ION's status", "[G][S] back to ping; may have been accepted")
SILENT        = Row("silent", "no answer, an incomplete one, a time-out, one that cannot be read", Opening.BACK_OFF, Posting.PING, Fate.COUNTED, FaultOwner.ION, "wait; if it lasts, check the network and the ION URL", "[G][S] back to ping; may have been accepted")
TOKEN_REFUSED = Row("token-refused", "credentials that cannot be read; token service: 400, 401, 403", Opening.HALT, Posting.HALT, Fate.RELEASED, FaultOwner.CREDENTIALS, "fix the credential files (download the .ionapi file again); the relay reads them when they change", "[R] never fetched in a loop: quotas are small")
TOKEN_FAILED  = Row("token-unavailable", "token service: anything else", Opening.BACK_OFF, Posting.PING, Fate.RELEASED, FaultOwner.ION, "wait; if it lasts, check the .ionapi file's pu and ot", "[R]")
NO_V3         = Row("no-v3", "versions without v3 or later", Opening.LONGEST, Posting.NEVER, Fate.NONE, FaultOwner.CONFIGURATION, "upgrade ION, or check the ION URL: it may lead to something else", "[G] versions >= v3 before anything is sent")
# fmt: on

ROWS = (
    OK, FOREIGN, INVALID, GATEWAY, UNAUTHORISED, CLOCK, FORBIDDEN, UNEXPECTED, MISCONFIGURED, NOT_READY,
    TOO_LARGE, BUSY, BROKEN, SILENT, TOKEN_REFUSED, TOKEN_FAILED, NO_V3,
)  # fmt: skip

# fmt: off
HINTS_BY_CALL: Mapping[tuple[str, IonCall], str] = {
    ("forbidden", "ping"): "permit this client to use ION's messaging service: enter its client id on the connection point",
    ("forbidden", "versions"): "permit this client to use ION's messaging service: enter its client id on the connection point",
    ("unexpected", "ping"): "ping is refused, no message is the cause: check the ION URL and the tenant id",
    ("unexpected", "versions"): "versions is refused, no message is the cause: check the ION URL, and what the gateway forwards",
    ("unexpected", "acceptedDocuments"): "acceptedDocuments is refused, no message is the cause: check the logical id, the ION URL, and what the gateway forwards",
    ("unexpected", "post"): "multipartMessage is refused: check what the gateway forwards, its policies, and the ION URL",
    ("not-ready", "acceptedDocuments"): "activate the connection point in ION Desk; check that the logical id is its own, and the client id on it",
    ("busy", "ping"): "wait; a 503 to ping may mean that the document flow is not active in ION Desk; if it lasts, check the gateway's quota and ION's status",
}
# fmt: on
"""What to do where it depends on the call: by the name of the row, and the call."""

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
_CONFIGURATION_CODES = frozenset({418, 419, 448, 456, 458, 471})
_MESSAGE_CODES = frozenset({450, 453, 470, 477})
_TOKEN_REFUSALS = frozenset({400, 401, 403})
_TOKEN_ERRORS = frozenset({
    "access_denied", "invalid_client", "invalid_grant", "invalid_request", "invalid_scope",
    "unauthorized_client", "unsupported_grant_type",
})  # fmt: skip
_VERSION = re.compile(r"v(\d{1,4})", re.ASCII)
_OLDEST_VERSION = 3


def row_of(answer: Answer) -> Row:
    """The row of the table that an answer belongs to."""
    match answer:
        case Reply():
            return _row_of_reply(answer)
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


def row_of_get(answer: Answer) -> Row:
    """The row of an answer to ping, versions or acceptedDocuments, which no message can be the cause of."""
    row = row_of(answer)
    return UNEXPECTED if row.fault is FaultOwner.MESSAGE else row


def hint_for(row: Row, call: IonCall) -> str:
    """What a person can do about this answer to this call."""
    return HINTS_BY_CALL.get((row.name, call), row.hint)


def _row_of_reply(reply: Reply) -> Row:
    status, code = reply.status, reply.code
    if 200 <= status < 300:
        if reply.failed:
            return BROKEN if code is None else _row_of_code(code)
        return FOREIGN if reply.form == "html" else OK
    if status == 401 and reply.clock_off:
        return CLOCK
    if status == 400 and code in _CONFIGURATION_CODES:
        return MISCONFIGURED
    if status == 400 and reply.form in ("html", "other"):
        return GATEWAY
    if status == 412 and code in _MESSAGE_CODES:
        return INVALID
    return _BY_STATUS.get(status, BROKEN if 500 <= status < 600 else UNEXPECTED)


def _row_of_code(code: int) -> Row:
    """Of an answer that says FAIL in spite of its 2xx: that of the status which the code stands for [R]."""
    if code in _CONFIGURATION_CODES:
        return MISCONFIGURED
    if code in _MESSAGE_CODES:
        return INVALID
    return _BY_STATUS.get(code, UNEXPECTED if code // 100 == 4 else BROKEN)


def _is_new_enough(version: str) -> bool:
    match = _VERSION.fullmatch(version)
    return match is not None and int(match[1]) >= _OLDEST_VERSION


def token_answer(
    status: int, detail: str, retry_after: float | None, error: str = ""
) -> TokenRefused | TokenUnavailable:
    """What the token service's answer means, when it is not a token. `error`: the code of OAuth's error.

    Some services report a refusal with a 2xx.
    """
    if status in _TOKEN_REFUSALS or (200 <= status < 300 and error in _TOKEN_ERRORS):
        return TokenRefused(f"the token service answers {detail}")
    return TokenUnavailable(detail, retry_after)


def is_fine(answer: Answer) -> bool:
    """Whether the answer is a success: 2xx, or the content that was asked for."""
    return row_of(answer) is OK


def asks_for_fresh_token(answer: Answer) -> bool:
    """Whether a GET so answered is worth one more try with a new token (where tokens exist)."""
    return row_of(answer) is UNAUTHORISED
