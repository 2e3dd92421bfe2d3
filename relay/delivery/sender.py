"""This file is the posts under way for a tenant: launch while all goes well, land what is under way, settle.

It performs the state `Send`. What an answer means is `protocol.py`'s to say, which message goes next is
`lanes.py`'s; here the two meet the network.
"""

import asyncio
import json
from contextlib import suppress
from dataclasses import replace
from functools import partial

from relay.core import protocol
from relay.core.accepted_documents import Documents
from relay.core.fair_share import TenantShare
from relay.core.lanes import Lanes, SlowStart
from relay.core.model import (
    BACK_OFF,
    NOT_ACCEPTED,
    Delivered,
    DocumentName,
    Message,
    Parked,
    Released,
    RowId,
    Settlement,
)
from relay.core.poison import CountedAttempts, Lane, PoisonDetector
from relay.core.protocol import GetOutcome, Posting, PostOutcome, Row, Send, State
from relay.core.replies import Answer
from relay.core.validation import Problem, parameter_problems
from relay.delivery.context import TenantContext, TenantRules
from relay.delivery.prefetch import LIMIT, Prefetch
from relay.delivery.waiting import nap

UNSETTLED = 128
"""In flight and not yet settled together: what may go out again after a crash."""

_IDLE_SECONDS = 60.0
"""After so long without contact a cycle begins with a ping again."""

UNSENDABLE = "unsendable"
"""The kind, for the meters, of what is parked without having been sent."""


class Sender:
    """One tenant's flight. Its memory (lanes, suspicion, blame) outlives pauses and initialisations."""

    def __init__(self, rules: TenantRules, context: TenantContext) -> None:
        self._rules, self._context = rules, context
        self._now = asyncio.get_running_loop().time
        self._lanes = Lanes(rules.ordering)
        self._enough = max(LIMIT // 2, 2 * rules.max_in_flight)
        self._room = SlowStart(rules.max_in_flight)
        self._shares = context.shares
        self._poison = PoisonDetector()
        self._documents = Documents(rules.schedule, context.chance)
        self._wakened = asyncio.Event()
        self._share = TenantShare(self._wakened.set)
        self._prefetch = Prefetch(
            rules.tenant_id,
            context.outbox,
            self._lanes,
            context.outbox_retry,
            rules.max_message_bytes,
            lambda: context.settler.unsettled(rules.tenant_id),
            self._wakened.set,
            self._job_ended,
        )
        self._state = Send(frozenset())
        self._next: State | None = None
        self._landing = True
        self._cut_at: float | None = None
        self._slots: set[asyncio.Task[None]] = set()
        self._asking: asyncio.Task[None] | None = None
        self._last_contact = 0.0
        self._crash: BaseException | None = None
        self._sent: set[RowId] = set()
        self.idle = False
        """Nothing is under way and nothing can become due by itself."""

    # --- what happens around it -----------------------------------------------------------------

    def arrived(self) -> None:
        """Messages may have arrived."""
        self._prefetch.notify()
        self.idle = False
        self._wakened.set()

    def revised(self) -> None:
        """A person changed messages or the tenant: what was read ahead is out of date."""
        self._lanes.discard()
        self._documents.revised()
        self._prefetch.changed()
        self.idle = False
        self._wakened.set()

    def land(self, within: float | None = None) -> None:
        """Launch nothing more; `perform` returns when what is under way has landed, or after `within` s."""
        self._landing = True
        if within is not None:
            self._cut_at = self._now() + within
        self._wakened.set()

    @property
    def accepted(self) -> frozenset[DocumentName] | None:
        """The documents that ION accepts, while `perform` runs."""
        return None if self._landing else self._state.accepted

    @property
    def unaccepted(self) -> frozenset[DocumentName]:
        """Documents that wait and are not accepted, as far as is known."""
        return self._prefetch.unaccepted

    # --- performing Send ------------------------------------------------------------------------

    async def perform(self, state: Send) -> State:
        """Carry messages until there is a reason to do something else; the next state."""
        self._begin(state)
        try:
            while not self._is_ending():
                self._wakened.clear()
                self._go_on()
                if not self._is_ending():
                    timer = self._next_timer()
                    await nap(self._wakened, None if timer is None else max(timer - self._now(), 0.001))
            await self._let_land()
        finally:
            try:
                await self._close()
            finally:
                self._shares.leave(self._share)
        if self._crash is not None:
            raise self._crash
        return self._next if self._next is not None else self._state

    def _begin(self, state: Send) -> None:
        self._state, self._next, self._landing, self.idle = state, None, False, False
        now = self._now()
        self._last_contact = now
        for lane, until in self._documents.initialised(self._state.accepted, now):
            self._lanes.hold(lane, until)
        self._lanes.discard_unaccepted(self._accepted(now))
        self._prefetch.changed()

    def _go_on(self) -> None:
        now = self._now()
        if (
            self._room.full_size or not self._prefetch.reading
        ):  # while careful, know all lanes before choosing
            self._launch(now)
        self._prefetch.start(self._accepted(now), now, self._enough)
        if self._share.granted:  # what cannot be used now is another tenant's
            self._shares.rest(self._share)
        self._ask_again(now)
        self._tell()

    def _launch(self, now: float) -> None:
        while len(self._slots) < self._room.size and not self._is_ending():
            if not self._slots and now - self._last_contact > _IDLE_SECONDS and self._lanes.ready:
                self._next = protocol.Ping(self._state.accepted, self._state.streak)
                return
            message = self._take()
            if message is None:
                return
            slot = asyncio.create_task(self._carry(message))
            self._slots.add(slot)
            slot.add_done_callback(self._slot_ended)

    def _take(self) -> Message | None:
        """The next message that may go, with its place among all tenants' posts, if any may."""
        if not self._lanes.ready or self._is_ending() or not self._may_launch():
            return None
        if not self._shares.begin(self._share):
            return None
        message = self._next_sendable()
        if message is None:
            self._shares.end(self._share)
        return message

    def _next_sendable(self) -> Message | None:
        """What can never be sent is parked on the way."""
        while not self._is_ending() and self._may_launch():
            message = self._lanes.take(cautious=not self._room.full_size)
            if message is None:
                return None
            reason = self._never_sendable(message)
            if reason is None:
                return message
            self._put_aside(message, reason)
        return None

    def _put_aside(self, message: Message, reason: str) -> None:
        """Park what can never be sent; where nothing is to be parked, it waits and holds its lane."""
        if not self._rules.policy.park_nothing:
            self._lanes.done(message)
            self._context.meter.parked(UNSENDABLE)
            self._settle(message, Parked(reason))
            return
        self._lanes.released(message)
        wait = self._rules.schedule.delay(message.attempts + 1, self._context.chance())
        self._settle(message, Released(reason, counted=True, wait=wait))

    def _may_launch(self) -> bool:
        unsettled = self._context.settler.unsettled(self._rules.tenant_id)
        return len(self._slots) + len(unsettled) < UNSETTLED and self._context.holds()

    def _never_sendable(self, message: Message) -> str | None:
        if message.size > self._rules.max_message_bytes:
            return f"{message.size} bytes are more than the tenant's limit of {self._rules.max_message_bytes}"
        if self._rules.park_after is not None and message.age > self._rules.park_after:
            return f"older than {self._rules.park_after:g} s"
        if message.parameters == "{}":
            return None
        return next((str(problem) for problem in _parameter_problems(message.parameters)), None)

    async def _carry(self, message: Message | None) -> None:
        """One post after the other, as long as all goes well."""
        while message is not None:
            began = self._now()
            self._context.liveness.begin()
            answer = await self._post(message)
            if answer is None:
                return
            self._land_one(message, answer, began)
            if self._lanes.ready < self._enough and not self._prefetch.reading:
                self._wakened.set()
            message = self._take() if len(self._slots) <= self._room.size else None

    async def _post(self, message: Message) -> Answer | None:
        """The answer; None if it did not go, because trouble or the stop came first."""
        answer: Answer | None = None
        try:
            encoded = await self._context.ion.encode(message)
            if not self._is_ending() and self._context.holds():
                if message.attempts or message.row in self._sent:
                    self._context.meter.sent_again()
                ion, traces = self._context.ion, self._context.traces
                if traces is None:
                    answer = await ion.post(encoded)
                else:
                    answer = await traces.post_in_span(message, partial(ion.post, encoded))
        finally:
            self._shares.end(self._share)
            if answer is None:
                self._lanes.back(message)
        return answer

    def _slot_ended(self, slot: asyncio.Task[None]) -> None:
        self._slots.discard(slot)
        if not self._slots:
            self._context.liveness.idle()
        self._job_ended(slot)

    def _job_ended(self, job: asyncio.Task[None]) -> None:
        if not job.cancelled() and job.exception() is not None:
            self._crash = job.exception()
        self._wakened.set()

    # --- landing --------------------------------------------------------------------------------

    def _land_one(self, message: Message, answer: Answer, began: float) -> None:
        now, lane = self._now(), self._lanes.lane_of(message)
        self._last_contact = now
        outcome = protocol.after_post(
            self._state, answer, self._rules.policy, partial(self._attempts_of, message, lane, now)
        )
        settlement = outcome.settlement
        match settlement:
            case Delivered():
                self._delivered(message, lane, now - began)
            case Parked():
                self._lanes.done(message)
                self._poison.cleared(message.row)
                self._sent.discard(message.row)
                self._context.meter.parked(outcome.row.name)
            case Released():
                self._context.meter.released(outcome.row.name, counted=settlement.counted)
                self._sent.add(message.row)
                settlement = self._released(message, outcome.row, settlement, now)
        self._settle(message, settlement)
        self._fold(outcome)

    def _attempts_of(self, message: Message, lane: Lane, now: float) -> CountedAttempts:
        return self._poison.of(message.row, message.attempts, now, alone=self._lanes.alone(lane))

    def _delivered(self, message: Message, lane: Lane, seconds: float) -> None:
        self._lanes.done(message)
        self._poison.cleared(message.row)
        self._poison.delivered(lane)
        self._documents.delivered(message.document_name)
        if self._next is None:
            self._room.succeeded()
            self._context.incidents.resolved()
        self._context.tally.delivered(message, seconds)
        self._sent.discard(message.row)
        self._context.meter.delivered(self._prefetch.waited(message, self._now()))

    def _released(self, message: Message, row: Row, settlement: Released, now: float) -> Released:
        lane = self._lanes.lane_of(message)
        self._lanes.released(message)
        if row.posting is Posting.START_OVER:
            self._documents.refused(message.document_name, lane)
        if not settlement.counted:
            return settlement
        self._poison.counted(message.row, lane, now)
        wait = self._rules.schedule.delay(message.attempts + 1, self._context.chance())
        return replace(settlement, wait=wait)

    def _settle(self, message: Message, settlement: Settlement) -> None:
        if isinstance(settlement, Parked):
            self._context.log.warning(
                "message.parked",
                message_id=message.message_id,
                document=message.document_name,
                reason=settlement.reason,
            )
        self._context.settler.enter(message, settlement, self._settled)

    def _settled(self, message: Message, settlement: Settlement) -> None:
        if isinstance(settlement, Released):
            self._lanes.hold(self._lanes.lane_of(message), self._now() + settlement.wait)
            self._prefetch.notify()
        self._wakened.set()

    def _fold(self, outcome: PostOutcome | GetOutcome) -> None:
        state, row = outcome.state, outcome.row
        if isinstance(state, Send):
            if self._next is None:  # what lands after a trouble was launched before it: it resets nothing
                self._state = state
            return
        self._context.incidents.report(row.name, detail=outcome.detail, fault=row.fault, hint=row.hint)
        self._room.failed()
        self._next = state if self._next is None else protocol.worst((self._next, state))
        self._wakened.set()

    # --- documents --------------------------------------------------------------------------------

    def _ask_again(self, now: float) -> None:
        """While messages wait for their document to be accepted, ask on the retry schedule."""
        new = self._documents.waiting(self._prefetch.unaccepted, now)
        if new:
            hint = "add them to the connection point in ION Desk (sent by the application)"
            self._context.log.warning("documents.withheld", documents=sorted(new), hint=hint)
        if self._asking is None and self._documents.is_ask_due(now) and not self._is_ending():
            self._asking = asyncio.create_task(self._ask())
            self._asking.add_done_callback(self._asked)

    async def _ask(self) -> None:
        answer = await self._context.ion.accepted_documents()
        outcome = protocol.after_accepted(self._state, answer)
        before, state = self._state.accepted, outcome.state
        self._documents.asked(self._now())
        if not isinstance(state, Send):
            self._fold(outcome)
        elif self._next is None and state.accepted != before:
            self._state = state
            self._last_contact = self._now()
            self._lanes.discard_unaccepted(state.accepted)
            self._prefetch.changed()
            added, removed = sorted(state.accepted - before), sorted(before - state.accepted)
            self._context.log.info("documents.changed", added=added, removed=removed)

    def _asked(self, task: asyncio.Task[None]) -> None:
        self._asking = None
        self._job_ended(task)

    def _accepted(self, now: float) -> frozenset[DocumentName]:
        held, is_over = self._documents.held(now)
        if is_over:
            self._prefetch.changed()
        return self._state.accepted - held

    # --- ending and telling -------------------------------------------------------------------------

    def _is_ending(self) -> bool:
        return (
            self._next is not None
            or self._landing
            or self._crash is not None
            or self._context.stopping.is_set()
        )

    async def _let_land(self) -> None:
        """What is under way lands and is settled; at a stop within the grace, then it is cut."""
        while self._slots:
            self._wakened.clear()
            within = None if self._cut_at is None else self._cut_at - self._now()
            if within is not None and within <= 0:
                return
            await nap(self._wakened, within)

    async def _close(self) -> None:
        await self._prefetch.stop()
        jobs = [*self._slots, *([self._asking] if self._asking else [])]
        for job in jobs:
            job.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.gather(*jobs, return_exceptions=True)

    def _tell(self) -> None:
        documents = tuple(sorted(self._prefetch.unaccepted))
        kind = NOT_ACCEPTED if documents else ""
        if self._slots or self._lanes.ready:
            self._context.report("sending", "", None, kind=kind, documents=documents)
        elif self._prefetch.reading:
            return
        elif self._lanes.holding or self._documents.holding:
            following = self._next_timer()
            self._context.report("sending", "", following, kind=kind or BACK_OFF, documents=documents)
        else:
            self.idle = True
            self._context.incidents.resolved()
            self._context.report("idle", "", self._next_timer(), kind=kind, documents=documents)

    def _next_timer(self) -> float | None:
        """The next instant at which something can become possible by itself."""
        now = self._now()
        times = [
            self._lanes.next_hold_end(now),
            self._prefetch.next_look(now),
            self._documents.next_hold_end,
            self._documents.ask_at if self._asking is None else None,
        ]
        return min((time for time in times if time is not None), default=None)


def _parameter_problems(text: str) -> list[Problem]:
    try:
        parameters = json.loads(text)
    except ValueError:
        return [Problem("parameters", "is not JSON", "store a JSON object")]
    return parameter_problems(parameters)
