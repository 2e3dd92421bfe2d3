"""This file is the judge: whether a client keeps to the sequence of the guide, request by request.

Pure: whoever asks says what time it is (monotonic seconds). The rules, a tenant at a time:

* A post needs a complete initialisation before it: ping, versions and acceptedDocuments, answered well in
  this order. After a post that was answered 412 it needs another one.
* After a post that failed in any other way that calls for a ping (everything but 2xx, 400 and 413; also a
  cut, and a client that went away) the next post needs a ping that was answered well and began after that.
* Posts that were on the wire when the failure was answered are no fault. They begin within `tolerance` of
  the answer and before the next ping, carry no id of a message that has failed since, and are at most two
  for each connection that posted since the last good ping, the failed one left out: a client that posts one
  at a time has no excuse.
* A hot loop: more than `hot_loop` failed rounds within a second without a delivery between. Every failed
  GET and token request is a round; a failed post is one if another call came since the last that counted.
* A post's document must stand in the last acceptedDocuments answer.
* A message id that was taken must not come again with another content.
"""

from collections import deque
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
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
"""How a call ended for the client. `unsure`: a 2xx whose body was spoilt, which it may read either way."""

_STEPS = ("ping", "versions", "acceptedDocuments")
_NO_PING_NEEDED = frozenset({400, 413})
_MOST_VIOLATIONS = 1000


@dataclass(frozen=True, slots=True)
class Violation:
    """What a client did against the guide. `request`: the number of the request in the record."""

    number: int
    tenant_id: str
    kind: Kind
    reason: str
    request: int
    message_id: str | None
    at: float

    def as_json(self) -> dict[str, object]:
        """All of it, for the control interface."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class Step:
    """A request, as the judge sees it. `peer`: its connection; `began`: monotonic, `at`: epoch seconds."""

    tenant_id: str
    call: str
    request: int
    began: float
    at: float
    peer: Hashable = None
    message_id: str | None = None
    document: str | None = None


@dataclass(slots=True)
class _Need:
    """What must come before the next post, since when and why; `messages` are those that failed since."""

    what: Literal["ping", "initialisation"]
    since: float
    kind: Kind
    because: str
    overtaking: int = 2
    """Posts a connection that may overtake the news: one under way, one launched before it was heard; more
    where the news is a cut, which takes a client longer to notice than an answer."""
    done: int = 0
    excused: int = 0
    pinged: bool = False
    messages: set[str | None] = field(default_factory=set[str | None])


def _at_first() -> _Need:
    return _Need(
        "initialisation", float("-inf"), "post-before-initialisation", "nothing was initialised before it"
    )


@dataclass(slots=True)
class _Standing:
    """Where a tenant's client stands."""

    need: _Need | None = field(default_factory=_at_first)
    peers: set[Hashable] = field(default_factory=set[Hashable])
    doubtful: set[str | None] = field(default_factory=set[str | None])
    ping_began: float = float("-inf")
    listed: frozenset[str] | None = None
    listed_before: frozenset[str] = frozenset()
    listed_at: float = float("-inf")
    failures: deque[float] = field(default_factory=deque[float])
    looping: bool = False
    asked_since_failed_post: bool = True


class ConformanceChecker:
    """Watches all tenants' clients and keeps what they did wrong."""

    def __init__(self, tolerance: float = 0.25, hot_loop: int = 10) -> None:
        self.tolerance = tolerance
        self.hot_loop = hot_loop
        self.violations: list[Violation] = []
        self.count = 0
        self._standings: dict[str, _Standing] = {}

    def forget(self) -> None:
        """Strike the violations from the list; where the clients stand remains."""
        self.violations.clear()
        self.count = 0

    # --- a post begins ---------------------------------------------------------------------------

    def post(self, step: Step) -> None:
        """Judge a post by what its client knew when it began."""
        standing = self._standing(step.tenant_id)
        need = standing.need
        standing.peers.add(step.peer)
        if need is not None and step.began > need.since and self._knew(standing, need, step):
            self._violated(step, need.kind, f"a post, though {need.because}")
        elif need is None and step.message_id is not None and step.message_id in standing.doubtful:
            self._violated(
                step,
                "post-without-ping",
                "a post of the same message, though its answer was spoilt, without a ping",
            )
        elif not self._is_listed(standing, step):
            self._violated(
                step, "document-not-listed", f"the last acceptedDocuments did not list {step.document}"
            )

    def _knew(self, standing: _Standing, need: _Need, step: Step) -> bool:
        if need.pinged or step.began > need.since + self.tolerance:
            return True
        if step.message_id is not None and step.message_id in need.messages:
            return True
        need.excused += 1
        return need.excused > need.overtaking * (len(standing.peers) - 1)

    def _is_listed(self, standing: _Standing, step: Step) -> bool:
        if standing.listed is None or step.document is None or step.document in standing.listed:
            return True
        recent = step.began <= standing.listed_at + self.tolerance
        return recent and step.document in standing.listed_before

    def reused(self, step: Step) -> None:
        """The message's id was taken before with another content."""
        self._violated(step, "message-id-reused", f"{step.message_id} was taken before with another content")

    # --- a call ends -----------------------------------------------------------------------------

    def ended(
        self, step: Step, outcome: Outcome, status: int, now: float, listed: Iterable[str] | None = None
    ) -> None:
        """A call has ended. `status` 0: without an answer. `listed`: what acceptedDocuments answered."""
        standing = self._standing(step.tenant_id)
        if step.call == "ping" and standing.need is not None and step.began > standing.need.since:
            standing.need.pinged = True  # who pings has heard
        if step.call == "post":
            self._post_ended(standing, step, outcome, status, now)
        elif outcome == "fine":
            self._asked(standing, step, now, listed)
        if step.call != "post":
            standing.asked_since_failed_post = True
            if outcome == "failed":
                self._count_failure(standing, step, now)

    def _post_ended(self, standing: _Standing, step: Step, outcome: Outcome, status: int, now: float) -> None:
        if outcome == "fine":
            standing.failures.clear()
            standing.looping = False
        elif outcome == "unsure":
            standing.doubtful.add(step.message_id)
        elif status not in _NO_PING_NEEDED:
            self._post_failed(standing, step, status, now)

    def _post_failed(self, standing: _Standing, step: Step, status: int, now: float) -> None:
        if standing.asked_since_failed_post:
            standing.asked_since_failed_post = False
            self._count_failure(standing, step, now)
        if status == 0 and standing.ping_began > step.began and standing.ping_began >= now - self.tolerance:
            return  # its client gave up and has pinged since, before word of the broken connection got here
        how = f"answered {status}" if status else "left without an answer"
        need = standing.need
        if status == 412 and (need is None or need.what == "ping"):
            because = "a post was answered 412 and nothing was initialised since"
            fresh = _Need("initialisation", now, "post-without-initialisation", because)
            if need is not None:
                fresh.messages = need.messages
            need = standing.need = fresh
        elif need is None:
            because = f"a post was {how} and no ping went well since"
            need = standing.need = _Need("ping", now, "post-without-ping", because)
            need.overtaking = 4 if status == 0 else need.overtaking
        need.messages.add(step.message_id)

    def _asked(self, standing: _Standing, step: Step, now: float, listed: Iterable[str] | None) -> None:
        if step.call == "ping":
            standing.ping_began = step.began
            standing.doubtful.clear()
        if listed is not None:
            standing.listed_before = standing.listed or frozenset()
            standing.listed, standing.listed_at = frozenset(listed), now
        need = standing.need
        if need is None or step.began < need.since - self.tolerance or step.call not in _STEPS:
            return
        place = _STEPS.index(step.call)
        if place <= need.done:
            need.done = max(need.done, place + 1)
        if need.done >= (1 if need.what == "ping" else len(_STEPS)):
            standing.need = None
            standing.peers.clear()

    def _count_failure(self, standing: _Standing, step: Step, now: float) -> None:
        failures = standing.failures
        failures.append(now)
        while failures[0] <= now - 1.0:
            failures.popleft()
        if len(failures) <= self.hot_loop // 2:
            standing.looping = False
        elif len(failures) > self.hot_loop and not standing.looping:
            standing.looping = True
            self._violated(
                step, "hot-loop", f"{len(failures)} failed rounds within a second, the last a {step.call}"
            )

    # --- keeping ---------------------------------------------------------------------------------

    def _standing(self, tenant_id: str) -> _Standing:
        found = self._standings.get(tenant_id)
        if found is None:
            found = self._standings[tenant_id] = _Standing()
        return found

    def _violated(self, step: Step, kind: Kind, reason: str) -> None:
        self.count += 1
        if len(self.violations) < _MOST_VIOLATIONS:
            self.violations.append(
                Violation(self.count, step.tenant_id, kind, reason, step.request, step.message_id, step.at)
            )
