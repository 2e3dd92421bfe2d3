"""A whole relay in virtual time: supervisor, workers and settler on an outbox in memory.

ION is scripted: `answer(call, message id or None, now)` returns what it answers. Every request is recorded,
and `violations` checks the record against the guide's sequence, independently of the relay.
"""

import asyncio
import itertools
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from relay.core import answers
from relay.core.answers import Opening, Posting
from relay.core.byte_budget import ByteBudget
from relay.core.fair_share import FairShare
from relay.core.model import (
    DocumentName,
    Draft,
    Message,
    MessageKey,
    OrderingKey,
    Settlement,
    StateName,
    TenantId,
)
from relay.core.ports import Control, NotSettled
from relay.core.protocol import Policy
from relay.core.replies import Accepted, Answer, Reply, Versions
from relay.core.retry import Schedule
from relay.daemon.lease_loop import LeaseLoop
from relay.daemon.leases import LeaseHolder
from relay.daemon.supervisor import Supervisor
from relay.daemon.workers import Assignment, Workers
from relay.delivery.context import StateReport, Telemetry, TenantContext, TenantRules
from relay.delivery.outbox_retry import OutboxRetry
from relay.delivery.settlement_reports import SettlementReports
from relay.delivery.settler import Settler
from relay.delivery.worker import Worker
from relay.observability.incidents import Incidents, Tally
from relay.observability.liveness import Liveness
from relay.observability.logs import logger
from relay.observability.metrics import Meters
from relay.observability.tracing import Traces
from relay.reports.wait_reasons import state_reason
from tests.support.memory import MemoryOutbox
from tests.support.scripted import Call, ScriptedIon

ACME = TenantId("ACME_PRD")
ORDER, SHIPMENT = DocumentName("Sync.SalesOrder"), DocumentName("Sync.Shipment")
FINE: dict[str, Answer] = {
    "ping": Reply(200),
    "versions": Versions(("v1", "v2", "v3")),
    "accepted_documents": Accepted(frozenset({ORDER, SHIPMENT})),
    "post": Reply(202),
}
"""What ION answers in normal operation."""

PARK = Policy("park", park_nothing=False, max_attempts=10)

EPOCH = 1_700_000_000.0

Answerer = Callable[[str, str | None, float], Answer]


@dataclass(frozen=True)
class Request:
    """One request: its beginning and end in the order of all events, when it began, what it was answered."""

    began: int
    ended: int
    at: float
    call: str
    message_id: str | None
    answer: Answer


class _RecordedIon(ScriptedIon):
    """The scripted ION, with the ends of its calls in the record too."""

    def record_in(self, requests: list[Request], order: Iterator[int]) -> None:
        self._record, self._order = requests, order

    async def _ask(self, call: Call, message: Message | None, fine: Answer) -> Answer:
        began, at = next(self._order), asyncio.get_running_loop().time()
        answer = await super()._ask(call, message, fine)
        message_id = None if message is None else message.message_id
        self._record.append(Request(began, next(self._order), at, call, message_id, answer))
        return answer


class _SlowOutbox(MemoryOutbox):
    """An outbox that is slow: for commits, for reading messages, for the names of waiting documents."""

    lag = reading_lag = naming_lag = 0.0

    async def settle(self, settlements: Sequence[tuple[MessageKey, Settlement]]) -> NotSettled:
        await asyncio.sleep(self.lag)
        return await super().settle(settlements)

    async def due(self, *arguments: Any) -> Sequence[Message]:
        await asyncio.sleep(self.reading_lag)
        return await super().due(*arguments)

    async def documents(self, tenant: TenantId) -> frozenset[DocumentName]:
        await asyncio.sleep(self.naming_lag)
        return await super().documents(tenant)


STEP_SECONDS = 60.0
"""A call to ION may take so long, as by default."""


class Process:
    """The components that all tenants of a relay process share; call inside the running loop."""

    def __init__(
        self,
        outbox: MemoryOutbox,
        schedule: Schedule,
        chance: Callable[[], float],
        lease_holder: LeaseHolder | None = None,
        memory: ByteBudget | None = None,
    ) -> None:
        loop = asyncio.get_running_loop()
        self.memory = memory or ByteBudget(192 * 2**20)
        self.outbox, self.schedule, self.chance = outbox, schedule, chance
        self.log, self.liveness, self.meters = logger(), Liveness(loop.time), Meters()
        self.incidents = Incidents(self.log, None, loop.time, 60.0, loop.call_later)
        self.row_incidents = Incidents(self.log, None, loop.time, 60.0, loop.call_later)
        reports = SettlementReports(self.log, self.incidents, self.row_incidents)
        self.settler = Settler(outbox, reports, schedule, chance, self.meters, self.liveness)
        self.supervisor = Supervisor(self.log, self.incidents, schedule, chance, self.liveness)
        self.workers = Workers(outbox, self.settler, self.supervisor, self.log, self.liveness, lease_holder)
        self._lease_holder = lease_holder
        outbox.when_changed(lambda _: self.workers.begin_anew())

    def context(
        self,
        tenant: TenantId,
        ion: ScriptedIon,
        fair_share: FairShare | None = None,
        report: StateReport = lambda *_, **__: None,
        traces: Traces | None = None,
    ) -> TenantContext:
        """What a worker of this tenant is given."""
        loop, stopping = asyncio.get_running_loop(), asyncio.Event()
        telemetry = Telemetry(
            log=self.log,
            incidents=Incidents(self.log, tenant, loop.time, 60.0, loop.call_later),
            tally=Tally(self.log, 60.0, loop.call_later),
            meter=self.meters.of(tenant),
            liveness=self.liveness.component(tenant, STEP_SECONDS),
            report=report,
            traces=traces,
        )
        return TenantContext(
            outbox=self.outbox,
            outbox_retry=OutboxRetry(self.incidents, self.schedule, self.chance, stopping),
            settler=self.settler,
            ion=ion,
            fair_share=fair_share or FairShare(256),
            memory=self.memory,
            holds=lambda: self.workers.holds(tenant),
            chance=self.chance,
            stopping=stopping,
            telemetry=telemetry,
        )

    async def start(self, workers: Mapping[TenantId, Callable[[Control], Worker]]) -> None:
        """Deliver these tenants' messages."""
        self.supervisor.supervise("settler", self.settler.run)
        if self._lease_holder is not None:
            loop = LeaseLoop(
                self._lease_holder,
                self.workers,
                self.supervisor,
                self.log,
                self.incidents,
                self.chance,
                self.liveness,
            )
            self.supervisor.supervise("leases", loop.run)
        self.supervisor.supervise("arrivals", self.workers.listen)
        await self.workers.assign({tenant: Assignment(tenant, build) for tenant, build in workers.items()})


@dataclass
class World:
    """One tenant's relay and its ION."""

    answer: Answerer
    rules: TenantRules = field(default_factory=lambda: rules_of(ACME))
    latency: float = 0.01
    traces: Traces | None = None
    slow: dict[str, float] = field(default_factory=dict)
    """How long ION takes for the posts of some messages."""
    requests: list[Request] = field(default_factory=list)
    states: list[tuple[float, str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Build the components; call inside the running loop."""
        loop, self.random = asyncio.get_running_loop(), random.Random(0)
        self.now = loop.time
        self.shift = 0.0
        """Seconds by which the store's clock was set forward since the start."""
        self.outbox = _SlowOutbox(lambda: EPOCH + loop.time() + self.shift)
        self.ion = _RecordedIon(answer=self._answer, delay=self._delay)
        self.ion.record_in(self.requests, itertools.count())
        self._process = Process(self.outbox, self.rules.schedule, self.random.random)
        self.supervisor, self.workers = self._process.supervisor, self._process.workers
        self.liveness = self._process.liveness
        self.meters, self.incidents = self._process.meters, self._process.incidents

    def _delay(self, call: Call, now: float, message: Message | None) -> float:
        return self.slow.get(message.message_id, self.latency) if message is not None else self.latency

    def _answer(self, call: Call, message: Message | None, now: float) -> Answer:
        return self.answer(call, None if message is None else message.message_id, now)

    def _worker(self, control: Control) -> Worker:
        context = self._process.context(ACME, self.ion, report=self._report, traces=self.traces)
        self.ion.begin = context.telemetry.liveness.begin
        return Worker(self.rules, context, control)

    def _report(
        self,
        state: StateName,
        reason: str,
        next_try: float | None,
        *,
        kind: str = "",
        documents: tuple[DocumentName, ...] = (),
    ) -> None:
        self.states.append((self.now(), state, state_reason(kind, reason, documents)))

    async def start(self) -> None:
        """Deliver ACME's messages."""
        await self._process.start({ACME: self._worker})

    async def stop(self) -> None:
        """Drain and end."""
        assert await self.workers.stop(25.0) == 0

    # --- the application --------------------------------------------------------------------------

    def insert(self, *keys: str | None, document: DocumentName = ORDER) -> list[str]:
        """One message for each ordering key; their ids."""
        return [self._insert(key, document) for key in keys]

    def _insert(self, key: str | None, document: DocumentName) -> str:
        ordering = OrderingKey(key) if key is not None else None
        row = self.outbox.insert(Draft(ACME, document, b"<doc/>", ordering_key=ordering))
        return next(one.message_id for one in self.outbox.rows if one.row == row)

    def send_later(self, waits: Mapping[str, float]) -> None:
        """These messages, which the relay has not read yet, may not be sent for so many seconds."""
        for row in self.outbox.rows:
            if row.message_id in waits:
                row.not_before = EPOCH + self.now() + waits[row.message_id]

    # --- results ------------------------------------------------------------------------

    def rows(self, state: str) -> list[str]:
        """The ids of the messages in this state, in order."""
        return [row.message_id for row in self.outbox.rows if row.state == state]

    async def until(self, fact: Callable[[], bool], within: float = 86400.0) -> None:
        """Wait, in virtual time, until the fact holds."""
        began = self.now()
        end = began + within
        while not fact():
            assert self.now() < end, (
                f"not within {within} s; requests {self.requests[-5:]}, states {self.states[-5:]}"
            )
            await asyncio.sleep(max(0.05, (self.now() - began) / 50))

    @property
    def state(self) -> tuple[str, str]:
        """The live state last reported, and its reason."""
        return self.states[-1][1:] if self.states else ("", "")

    async def all_settled(self, within: float = 86400.0) -> None:
        """Wait until nothing is pending."""
        await self.until(lambda: not self.rows("pending"), within)

    def calls(self, *kinds: str, since: float = 0.0) -> list[Request]:
        """The requests of these kinds (none given: all), in the order of their beginning."""
        wanted = [one for one in self.requests if one.at >= since and (not kinds or one.call in kinds)]
        return sorted(wanted, key=lambda one: one.began)

    def arrived(self) -> list[str]:
        """The ids that ION accepted, each once, in order of their first arrival."""
        taken = [one.message_id for one in self.calls("post") if answers.is_fine(one.answer)]
        return list(dict.fromkeys(str(message_id) for message_id in taken))


# --- the guide's sequence ------------------------------------------------------------------------------------


def violations(requests: list[Request]) -> list[str]:
    """Posts that the guide's sequence does not allow.

    Each needs ping and versions after the last failure that had been answered when it began, and
    acceptedDocuments after the last "not ready". What only one message meets is no failure of the tenant: it
    met one before, and another message was delivered since.
    """
    found: list[str] = []
    opened, initialised = 0, False  # ping, versions; acceptedDocuments
    first_failed: dict[str | None, float] = {}
    delivered: dict[str | None, float] = {}
    events = sorted(
        [(one.ended, one, True) for one in requests] + [(one.began, one, False) for one in requests],
        key=_when,
    )
    for _, one, is_end in events:
        row = answers.row_of(one.answer)
        if one.call == "post" and not is_end:
            if opened < 2 or not initialised:
                found.append(
                    f"post of {one.message_id} at {one.at}: opened {opened}, initialised {initialised}"
                )
        elif one.call == "post" and row is answers.OK:
            delivered[one.message_id] = one.ended
        elif one.call == "post":
            since = first_failed.setdefault(one.message_id, one.ended)
            is_own = any(at >= since for other, at in delivered.items() if other != one.message_id)
            if row.posting not in (Posting.NEXT, Posting.POLICY) and not is_own:
                opened = 0
                initialised = initialised and row.posting is not Posting.START_OVER
        elif is_end and row.opening is not Opening.CONTINUE:
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


def _when(event: tuple[int, Request, bool]) -> int:
    return event[0]


def rules_of(tenant: TenantId, **rules: Any) -> TenantRules:
    """A tenant's rules, with retry delays of 1 to 300 s; `rules` replace some of them."""
    base = TenantRules(
        tenant_id=tenant,
        ordering="key",
        max_in_flight=8,
        max_message_bytes=6_000_000,
        policy=PARK,
        schedule=Schedule(1.0, 300.0),
        park_after=None,
        probe=900.0,
        grace=25.0,
        least_rate=50_000,
    )
    return replace(base, **rules)


def constant(**answers: Answer) -> Answerer:
    """Fine, but for these calls."""
    return lambda call, _, __: answers.get(call, FINE[call])


def world(answer: Answerer | None = None, **rules: object) -> World:
    """A world with retry delays of 1 to 300 s; `rules` replace those of the tenant."""
    return World(answer or constant(), rules_of(ACME, **rules))


__all__ = ["ACME", "FINE", "ORDER", "SHIPMENT", "World", "constant", "violations", "world"]
