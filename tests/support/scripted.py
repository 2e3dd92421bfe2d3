"""This file is an ION made of words: the port `Ion`, answered by a script, for tests in virtual time.

What it answers by itself is normal operation. `queue` puts answers ahead of everything, `answer` is asked next.
The contract suite (`tests/contract/test_ion_client.py`) holds it to what the real endpoint does.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal

from relay.core.model import DocumentName, Message
from relay.core.ports import EncodedPost
from relay.core.replies import Accepted, Answer, Reply, Versions

Call = Literal["ping", "versions", "accepted_documents", "post"]
Script = Callable[[Call, Message | None, float], Answer | None]
"""Call, message of a post, loop time → the answer, or None for what normal operation answers."""


@dataclass(frozen=True, slots=True)
class ProcessSignals:
    """A call that reached ION, when it began (loop time), and the message of a post."""

    call: Call
    at: float
    message: Message | None = None


@dataclass(frozen=True, slots=True)
class ScriptedPost(EncodedPost):
    """The message, as it is: the script needs no bytes."""

    message: Message


@dataclass(slots=True)
class ScriptedEndpoint:
    """`delay`: seconds before each answer, a number or by call and loop time.

    `asked`: every call, in order. `taken`: the messages that were answered with a 2xx, in order.
    `traceparents`: of the posts, in order. `changed`:
    what `credentials_changed` says. `closed`: how often it was closed.
    """

    documents: Iterable[str] = ("Sync.Shipment",)
    answer: Script | None = None
    delay: float | Callable[[Call, float], float] = 0.0
    changed: bool = False
    closed: int = 0
    asked: list[ProcessSignals] = field(default_factory=list)
    taken: list[Message] = field(default_factory=list)
    traceparents: list[str | None] = field(default_factory=list)
    under_way: int = 0
    most_under_way: int = 0
    _queues: dict[Call, deque[Answer]] = field(default_factory=dict)

    def queue(self, call: Call, *answers: Answer) -> None:
        """The next answers to this call, ahead of `answer`."""
        self._queues.setdefault(call, deque()).extend(answers)

    def calls(self, call: Call) -> list[ProcessSignals]:
        """Those of one kind."""
        return [asked for asked in self.asked if asked.call == call]

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
        if isinstance(answer, Reply) and 200 <= answer.status < 300:
            self.taken.append(encoded.message)
        return answer

    def credentials_changed(self) -> bool:
        return self.changed

    async def close(self) -> None:
        self.closed += 1

    async def _ask(self, call: Call, message: Message | None, fine: Answer) -> Answer:
        now = asyncio.get_running_loop().time()
        self.asked.append(ProcessSignals(call, now, message))
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            answer = self._next(call, message, now) or fine  # decided when it arrives, as the far side would
            await asyncio.sleep(self.delay(call, now) if callable(self.delay) else self.delay)
        finally:
            self.under_way -= 1
        return answer

    def _next(self, call: Call, message: Message | None, now: float) -> Answer | None:
        queued = self._queues.get(call)
        if queued:
            return queued.popleft()
        return self.answer(call, message, now) if self.answer is not None else None
