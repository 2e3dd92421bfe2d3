"""A scripted ION: the port `Ion` with answers from a script, for tests in virtual time.

Without a script it answers as in normal operation. `queue` sets the next answers, `answer` follows them.
The contract suite (`tests/contract/test_ion_client.py`) checks that it behaves as the real client does.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal

from relay.core.answers import is_fine
from relay.core.model import DocumentName, Message
from relay.core.ports import EncodedPost
from relay.core.replies import Accepted, Answer, Reply, Versions

Call = Literal["ping", "versions", "accepted_documents", "post"]
Script = Callable[[Call, Message | None, float], Answer | None]
"""Call, message of a post, loop time → the answer, or None for what normal operation answers."""


@dataclass(frozen=True, slots=True)
class Request:
    """A call that reached ION, when it began (loop time), and the message of a post."""

    call: Call
    at: float
    message: Message | None = None


@dataclass(frozen=True, slots=True)
class ScriptedPost(EncodedPost):
    """The message, as it is: the script needs no bytes."""

    message: Message


@dataclass(slots=True)
class ScriptedIon:
    """`delay`: seconds before each answer, a number or by call, loop time and message.

    `requests`: every call, in order. `taken`: the messages that were answered with a 2xx, in order.
    `traceparents`: of the posts, in order. `changed`: the result of `credentials_changed`. `acted`: how
    often an operator acted. `closed`: how often it was closed. `begin`: called when a request starts, as by the real client.
    """

    documents: Iterable[str] = ("Sync.Shipment",)
    answer: Script | None = None
    delay: float | Callable[[Call, float, Message | None], float] = 0.0
    changed: bool = False
    acted: int = 0
    closed: int = 0
    begin: Callable[[], None] | None = None
    requests: list[Request] = field(default_factory=list)
    taken: list[Message] = field(default_factory=list)
    traceparents: list[str | None] = field(default_factory=list)
    in_flight: int = 0
    max_in_flight: int = 0
    _queues: dict[Call, deque[Answer]] = field(default_factory=dict)

    def queue(self, call: Call, *answers: Answer) -> None:
        """The next answers to this call, before `answer` is asked."""
        self._queues.setdefault(call, deque()).extend(answers)

    def calls(self, call: Call) -> list[Request]:
        """The calls of one kind."""
        return [request for request in self.requests if request.call == call]

    # --- the port -----------------------------------------------------------------------------------

    async def ping(self) -> Answer:
        return await self._ask("ping", None, Reply(200))

    async def versions(self) -> Versions | Answer:
        return await self._ask("versions", None, Versions(("v1", "v2", "v3")))

    async def accepted_documents(self) -> Accepted | Answer:
        fine = Accepted(frozenset(DocumentName(name) for name in self.documents))
        return await self._ask("accepted_documents", None, fine)

    async def encode(self, message: Message) -> EncodedPost:
        return ScriptedPost("", b"", message)

    async def post(self, encoded: EncodedPost, traceparent: str | None = None) -> Answer:
        assert isinstance(encoded, ScriptedPost), "a post comes from this client's own encode"
        self.traceparents.append(traceparent)
        answer = await self._ask("post", encoded.message, Reply(202))
        if is_fine(answer):
            self.taken.append(encoded.message)
        return answer

    def credentials_changed(self) -> bool:
        return self.changed

    def drop_refused_token(self) -> None:
        self.acted += 1

    async def close(self) -> None:
        self.closed += 1

    async def _ask(self, call: Call, message: Message | None, fine: Answer) -> Answer:
        now = asyncio.get_running_loop().time()
        self.requests.append(Request(call, now, message))
        if self.begin is not None:
            self.begin()
        self.in_flight += 1
        self.max_in_flight = max(self.max_in_flight, self.in_flight)
        try:
            answer = self._script(call, message, now) or fine  # decided when it arrives, as ION does
            await asyncio.sleep(self.delay(call, now, message) if callable(self.delay) else self.delay)
        finally:
            self.in_flight -= 1
        return answer

    def _script(self, call: Call, message: Message | None, now: float) -> Answer | None:
        queued = self._queues.get(call)
        if queued:
            return queued.popleft()
        return self.answer(call, message, now) if self.answer is not None else None
