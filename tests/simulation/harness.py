"""This file is a whole relay in virtual time: supervisor, workers and ledger on an outbox in memory.

The far side is scripted: `answer(call, message id or None, now)` says what ION answers. Everything that was
asked is recorded, and a judge of its own reads the record against the guide's sequence.
"""

import asyncio
import itertools
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from relay.core import protocol
from relay.core.fair_share import FairShare
from relay.core.model import DocumentName, Draft, Message, OrderingKey, RowId, Settlement, TenantId
from relay.core.ports import Control
from relay.core.protocol import Opening, Posting
from relay.core.replies import Accepted, Answer, Reply, Versions
from relay.core.retry import Schedule
from relay.daemon.supervisor import Supervisor
from relay.daemon.workers import Assignment, Workers
from relay.delivery.context import TenantContext, TenantRules
from relay.delivery.prefetch import OutboxRetry
from relay.delivery.settler import Settler
from relay.delivery.worker import Worker
from relay.observability.liveness import Liveness
from relay.observability.logs import Incidents, Tally, logger
from relay.observability.metrics import Meters
from relay.observability.tracing import Traces
from tests.support.memory import MemoryOutbox
from tests.support.scripted import Call, ScriptedEndpoint

ACME = TenantId("ACME_PRD")
ORDER, SHIPMENT = DocumentName("Sync.SalesOrder"), DocumentName("Sync.Shipment")
FINE: dict[str, Answer] = {
    "ping": Reply(200),
    "versions": Versions(("v1", "v2", "v3")),
    "accepted_documents": Accepted(frozenset({ORDER, SHIPMENT})),
    "post": Reply(202),
}
"""What ION answers in normal operation."""

EPOCH = 1_700_000_000.0

Answerer = Callable[[str, str | None, float], Answer]


@dataclass(frozen=True)
class ProcessSignals:
    """One request: its beginning and end in the order of all events, when it began, what it was answered."""

    began: int
    ended: int
    at: float
    call: str
    message_id: str | None
    answer: Answer


class _Recorded(ScriptedEndpoint):
    """The scripted ION, with the ends of its calls in the record too."""

    def record_in(self, asked: list[ProcessSignals], order: Iterator[int]) -> None:
        self._record, self._order = asked, order

    async def _ask(self, call: Call, message: Message | None, fine: Answer) -> Answer:
        began, at = next(self._order), asyncio.get_running_loop().time()
        answer = await super()._ask(call, message, fine)
        message_id = None if message is None else message.message_id
        self._record.append(ProcessSignals(began, next(self._order), at, call, message_id, answer))
        return answer


class _Lagging(MemoryOutbox):
    """An outbox that takes its time: for commits, for reading messages, for the names of what waits."""

    lag = reading_lag = naming_lag = 0.0

    async def settle(self, settlements: Sequence[tuple[RowId, Settlement]]) -> None:
        await asyncio.sleep(self.lag)
        await super().settle(settlements)

    async def due(self, *asked: Any) -> Sequence[Message]:
        await asyncio.sleep(self.reading_lag)
        return await super().due(*asked)

    async def documents(self, tenant: TenantId) -> frozenset[DocumentName]:
        await asyncio.sleep(self.naming_lag)
        return await super().documents(tenant)


@dataclass
class World:
    """One tenant's relay and its ION."""

    answer: Answerer
    rules: TenantRules = field(default_factory=lambda: TenantRules(ACME))
    latency: float = 0.01
    seed: int = 0
    traces: Traces | None = None
    asked: list[ProcessSignals] = field(default_factory=list)
    states: list[tuple[float, str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Build the parts; call inside the running loop."""
        loop = asyncio.get_running_loop()
        self.now = loop.time
        self.chance = random.Random(self.seed).random
        self.outbox = _Lagging(lambda: EPOCH + loop.time())
        self.ion = _Recorded(answer=self._answer, delay=lambda *_: self.latency)
        self.ion.record_in(self.asked, itertools.count())
        self.log = logger()
        schedule = self.rules.schedule
        self.incidents = Incidents(self.log, None, loop.time, 60.0, loop.call_later)
        self.tally = Tally(self.log, 60.0, loop.call_later)
        self.meters = Meters()
        self.settler = Settler(self.outbox, self.incidents, schedule, self.chance, self.meters)
        self.supervisor = Supervisor(self.log, self.incidents, schedule, self.chance, Liveness())
        self.workers = Workers(self.outbox, self.settler, self.supervisor, self.log, Liveness())

    def _answer(self, call: Call, message: Message | None, now: float) -> Answer:
        return self.answer(call, None if message is None else message.message_id, now)

    def _worker(self, control: Control) -> Worker:
        loop, stopping = asyncio.get_running_loop(), asyncio.Event()
        context = TenantContext(
            outbox=self.outbox,
            ion=self.ion,
            settler=self.settler,
            shares=FairShare(256),
            outbox_retry=OutboxRetry(self.incidents, self.rules.schedule, self.chance, stopping),
            incidents=Incidents(self.log, ACME, loop.time, 60.0, loop.call_later),
            tally=self.tally,
            meter=self.meters.of(ACME),
            log=self.log,
            chance=self.chance,
            holds=lambda: self.workers.holds(ACME),
            report=lambda state, reason, _: self.states.append((self.now(), state, reason)),
            stopping=stopping,
            traces=self.traces,
        )
        return Worker(self.rules, context, control)

    async def start(self) -> None:
        """Carry ACME's messages."""
        self.supervisor.supervise("settler", self.settler.run)
        self.supervisor.supervise("arrivals", self.workers.listen)
        await self.workers.assign({ACME: Assignment("acme", self._worker)})

    async def stop(self) -> None:
        """Land and end."""
        assert await self.workers.stop(25.0) == 0

    # --- the application --------------------------------------------------------------------------

    def insert(self, *keys: str | None, document: DocumentName = ORDER) -> list[str]:
        """One message for each ordering key; their ids."""
        return [self._insert(key, document) for key in keys]

    def _insert(self, key: str | None, document: DocumentName) -> str:
        ordering = OrderingKey(key) if key is not None else None
        row = self.outbox.insert(Draft(ACME, document, b"<doc/>", ordering_key=ordering))
        return next(one.message_id for one in self.outbox.rows if one.row == row)

    # --- what became of it ------------------------------------------------------------------------

    def rows(self, state: str) -> list[str]:
        """The ids of the messages in this state, in order."""
        return [row.message_id for row in self.outbox.rows if row.state == state]

    async def until(self, fact: Callable[[], bool], within: float = 86400.0) -> None:
        """Wait, in virtual time, until it is so."""
        began = self.now()
        end = began + within
        while not fact():
            assert self.now() < end, (
                f"not within {within} s; asked {self.asked[-5:]}, states {self.states[-5:]}"
            )
            await asyncio.sleep(max(0.05, (self.now() - began) / 50))

    @property
    def state(self) -> tuple[str, str]:
        """The live state last reported, and its reason."""
        return self.states[-1][1:] if self.states else ("", "")

    async def all_settled(self, within: float = 86400.0) -> None:
        """Wait until nothing is pending."""
        await self.until(lambda: not self.rows("pending"), within)

    def calls(self, *kinds: str, since: float = 0.0) -> list[ProcessSignals]:
        """What was asked, of these kinds (all), in the order of beginning."""
        wanted = [one for one in self.asked if one.at >= since and (not kinds or one.call in kinds)]
        return sorted(wanted, key=lambda one: one.began)

    def arrived(self) -> list[str]:
        """The ids that ION took, each once, in order of their first arrival."""
        taken = [one.message_id for one in self.calls("post") if protocol.is_fine(one.answer)]
        return list(dict.fromkeys(str(message_id) for message_id in taken))


# --- the judge --------------------------------------------------------------------------------------


def violations(asked: list[ProcessSignals]) -> list[str]:
    """Posts that the guide's sequence does not allow.

    Each needs ping and versions after the last trouble that had been answered when it began, and
    acceptedDocuments after the last "not ready".
    """
    found: list[str] = []
    opened, initialised = 0, False  # ping, versions; acceptedDocuments
    events = sorted(
        [(one.ended, one, True) for one in asked] + [(one.began, one, False) for one in asked], key=_when
    )
    for _, one, is_end in events:
        row = protocol.row_of(one.answer)
        if one.call == "post" and not is_end:
            if opened < 2 or not initialised:
                found.append(
                    f"post of {one.message_id} at {one.at}: opened {opened}, initialised {initialised}"
                )
        elif one.call == "post":
            if row.posting not in (Posting.NEXT, Posting.POLICY):
                opened = 0
                initialised = initialised and row.posting is not Posting.START_OVER
        elif is_end and row.opening is not Opening.GO_ON:
            if one.call != "accepted_documents" or row.opening in (Opening.HALT, Opening.START_OVER):
                opened = 0
                initialised = initialised and row.opening is not Opening.START_OVER
        elif is_end:
            match one.call:
                case "ping":
                    opened = 1
                case "versions":
                    opened = 2 if opened else 0
                case _:
                    initialised = True
    return found


def _when(event: tuple[int, ProcessSignals, bool]) -> int:
    return event[0]


def constant(**answers: Answer) -> Answerer:
    """Fine, but for these calls."""
    return lambda call, _, __: answers.get(call, FINE[call])


def world(answer: Answerer | None = None, **rules: object) -> World:
    """A world with retry delays of 1 to 300 s; `rules` replace those of the tenant."""
    base = TenantRules(ACME, schedule=Schedule(1.0, 300.0))
    return World(answer or constant(), replace(base, **rules))  # type: ignore[arg-type]


__all__ = ["ACME", "FINE", "ORDER", "SHIPMENT", "World", "constant", "violations", "world"]
