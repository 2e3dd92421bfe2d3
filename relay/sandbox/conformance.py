"""The conformance checker: whether a client keeps to the call sequence of ION's developer guide.

Pure: callers pass the time (monotonic seconds). The rules, for each tenant separately:

* A post needs a complete initialisation before it: ping, versions and acceptedDocuments, answered well in
  this order. After a post that was answered 412 it needs another one.
* After a post that failed in any other way that calls for a ping (everything but 2xx, 400 and 413; also a
  broken connection, and a client that went away) the next post needs a ping that was answered well and began
  after that.
* Posts that were already in flight when the failure was answered are allowed. They begin within `tolerance`
  of the answer and before the next ping, do not have the id of a message that has failed since, and are at
  most two for each connection that posted since the last good ping, the failed one excluded: a client that
  posts one at a time is allowed none.
* A hot loop: more than `hot_loop` failed rounds within a second without a delivery between. Every failed
  GET and token request is a round; a failed post is one if another call came since the last that counted.
* A post's document must be in the last acceptedDocuments answer.
* A message id that was taken must not come again with another content.
"""

from collections import deque
from collections.abc import Hashable, Iterable
from dataclasses import asdict, dataclass, field
from typing import Literal

Kind = Literal[
    "post-before-initialisation",
    "post-without-initialisation",
    "post-without-ping",
    "document-not-listed",
    "message-id-reused",
    "hot-loop",
]
Outcome = Literal["fine", "failed", "unsure"]
"""How a call ended for the client. `unsure`: a 2xx with a spoilt body, which it may read either way."""

_STEPS = ("ping", "versions", "acceptedDocuments")
_NO_PING_NEEDED = frozenset({400, 413})
_MAX_VIOLATIONS = 1000
_MAX_FAILING = 1000
"""Messages that failed, and are remembered for each tenant."""


@dataclass(frozen=True, slots=True)
class Violation:
    """A rule that a client broke. `request`: the number of the request in the record."""

    number: int
    tenant_id: str
    kind: Kind
    reason: str
    request: int
    message_id: str | None
    at: float

    def as_json(self) -> dict[str, object]:
        """All fields, for the control interface."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Step:
    """A request, as the checker sees it. `peer`: its connection; `began`: monotonic, `at`: epoch seconds."""

    tenant_id: str
    call: str
    request: int
    began: float
    at: float
    peer: Hashable = None
    message_id: str | None = None
    document: str | None = None


@dataclass(slots=True)
class _Requirement:
    """What must come before the next post, since when and why; `messages` are those that failed since."""

    what: Literal["ping", "initialisation"]
    since: float
    kind: Kind
    because: str
    allowance: int = 2
    """Posts that each other connection may still begin: one in flight, one begun before the client read of
    the failure; more after a broken connection, which a client notices later than an answer."""
    steps_done: int = 0
    late_posts: int = 0
    pinged: bool = False
    messages: set[str | None] = field(default_factory=set[str | None])


def _require_initialisation() -> _Requirement:
    return _Requirement(
        "initialisation", float("-inf"), "post-before-initialisation", "nothing was initialised before it"
    )


@dataclass(slots=True)
class _ClientState:
    """What is known of a tenant's client. `unsure`: messages whose answer was spoilt since the last ping."""

    required: _Requirement | None = field(default_factory=_require_initialisation)
    peers: set[Hashable] = field(default_factory=set[Hashable])
    unsure: set[str | None] = field(default_factory=set[str | None])
    ping_began: float = float("-inf")
    listed: frozenset[str] | None = None
    listed_before: frozenset[str] = frozenset()
    listed_at: float = float("-inf")
    failing: dict[str | None, bool] = field(default_factory=dict[str | None, bool])
    """Messages that failed, and whether another one was taken since the first time."""
    failures: deque[float] = field(default_factory=deque[float])
    is_looping: bool = False
    called_since_failed_post: bool = True


class ConformanceChecker:
    """Checks the clients of all tenants and keeps their violations."""

    def __init__(self, tolerance: float, hot_loop: int) -> None:
        self.tolerance = tolerance
        self.hot_loop = hot_loop
        self.violations: list[Violation] = []
        self.count = 0
        self._clients: dict[str, _ClientState] = {}

    def clear(self) -> None:
        """Empty the list of violations; what is known of the clients remains."""
        self.violations.clear()
        self.count = 0

    # --- a post begins ---------------------------------------------------------------------------

    def post_began(self, step: Step) -> None:
        """Check a post by what its client could know when it began."""
        client = self._client(step.tenant_id)
        required = client.required
        client.peers.add(step.peer)
        if required is not None and step.began > required.since and self._knew(client, required, step):
            self._add(step, required.kind, f"a post, though {required.because}")
        elif (
            required is None and step.message_id in client.unsure and not client.failing.get(step.message_id)
        ):
            reason = "a post of the same message, though its answer was spoilt, without a ping"
            self._add(step, "post-without-ping", reason)
        elif not self._is_listed(client, step):
            reason = f"the last acceptedDocuments did not list {step.document}"
            self._add(step, "document-not-listed", reason)

    def _knew(self, client: _ClientState, required: _Requirement, step: Step) -> bool:
        """Whether the client knew of the failure, as far as the tolerance allows a doubt."""
        if required.pinged or step.began > required.since + self.tolerance:
            return True
        if step.message_id is not None and step.message_id in required.messages:
            return True
        required.late_posts += 1
        return required.late_posts > required.allowance * (len(client.peers) - 1)

    def _is_listed(self, client: _ClientState, step: Step) -> bool:
        if client.listed is None or step.document is None or step.document in client.listed:
            return True
        recent = step.began <= client.listed_at + self.tolerance
        return recent and step.document in client.listed_before

    def message_id_reused(self, step: Step) -> None:
        """Record that the message's id was taken before with another content."""
        self._add(step, "message-id-reused", f"{step.message_id} was taken before with another content")

    # --- a call ends -----------------------------------------------------------------------------

    def call_ended(
        self, step: Step, outcome: Outcome, status: int, now: float, listed: Iterable[str] | None = None
    ) -> None:
        """A call has ended. `status` 0: no answer. `listed`: what acceptedDocuments answered."""
        client = self._client(step.tenant_id)
        if step.call == "post":
            self._post_ended(client, step, outcome, status, now)
            return
        if step.call == "ping" and client.required is not None and step.began > client.required.since:
            client.required.pinged = True  # a client that pings knows of the failure
        if outcome == "fine":
            self._get_succeeded(client, step, now, listed)
        client.called_since_failed_post = True
        if outcome == "failed":
            self._count_failure(client, step, now)

    def _post_ended(
        self, client: _ClientState, step: Step, outcome: Outcome, status: int, now: float
    ) -> None:
        message = step.message_id
        if outcome == "fine":
            client.failures.clear()
            client.is_looping = False
            client.failing.pop(message, None)
            client.failing |= dict.fromkeys(client.failing, True)
            return
        is_its_own = client.failing.get(message, False)
        if len(client.failing) < _MAX_FAILING:
            client.failing.setdefault(message, False)
        if outcome == "unsure":
            client.unsure.add(message)
        elif is_its_own:
            return  # only this message fails, others are taken: the client need not start over for it
        elif status not in _NO_PING_NEEDED:
            self._post_failed(client, step, status, now)

    def _post_failed(self, client: _ClientState, step: Step, status: int, now: float) -> None:
        if client.called_since_failed_post:
            client.called_since_failed_post = False
            self._count_failure(client, step, now)
        if status == 0 and client.ping_began > step.began and client.ping_began >= now - self.tolerance:
            return  # the client gave up and pinged before the broken connection was noticed here
        required = client.required
        if status == 412 and (required is None or required.what == "ping"):
            because = "a post was answered 412 and nothing was initialised since"
            messages = set[str | None]() if required is None else required.messages
            required = _Requirement("initialisation", now, "post-without-initialisation", because)
            required.messages = messages
        elif required is None:
            how = f"answered {status}" if status else "left without an answer"
            because = f"a post was {how} and no ping went well since"
            required = _Requirement("ping", now, "post-without-ping", because, 2 if status else 4)
        required.messages.add(step.message_id)
        client.required = required

    def _get_succeeded(
        self, client: _ClientState, step: Step, now: float, listed: Iterable[str] | None
    ) -> None:
        if step.call == "ping":
            client.ping_began = step.began
            client.unsure.clear()
        if listed is not None:
            client.listed_before = client.listed or frozenset()
            client.listed, client.listed_at = frozenset(listed), now
        required = client.required
        if required is None or step.began < required.since - self.tolerance or step.call not in _STEPS:
            return
        place = _STEPS.index(step.call)
        if place <= required.steps_done:
            required.steps_done = max(required.steps_done, place + 1)
        if required.steps_done >= (1 if required.what == "ping" else len(_STEPS)):
            client.required = None
            client.peers.clear()

    def _count_failure(self, client: _ClientState, step: Step, now: float) -> None:
        failures = client.failures
        failures.append(now)
        while failures[0] <= now - 1.0:
            failures.popleft()
        if len(failures) <= self.hot_loop // 2:
            client.is_looping = False
        elif len(failures) > self.hot_loop and not client.is_looping:
            client.is_looping = True
            reason = f"{len(failures)} failed rounds within a second, the last a {step.call}"
            self._add(step, "hot-loop", reason)

    # --- state -----------------------------------------------------------------------------------

    def _client(self, tenant_id: str) -> _ClientState:
        found = self._clients.get(tenant_id)
        if found is None:
            found = self._clients[tenant_id] = _ClientState()
        return found

    def _add(self, step: Step, kind: Kind, reason: str) -> None:
        self.count += 1
        if len(self.violations) < _MAX_VIOLATIONS:
            self.violations.append(
                Violation(self.count, step.tenant_id, kind, reason, step.request, step.message_id, step.at)
            )
