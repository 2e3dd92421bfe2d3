"""Concurrent posts of one tenant: started while all goes well, each answered, applied and settled.

It performs the state `Send`. What an answer means is decided in `protocol.py`, which message is next in
`lanes.py`; this module connects both to the network.
"""

import asyncio
from dataclasses import dataclass
from functools import partial

from relay.core import protocol, states
from relay.core.model import BACK_OFF, NOT_ACCEPTED, Delivered, DocumentName, Message
from relay.core.ports import EncodedPost
from relay.core.protocol import GetOutcome, PostOutcome
from relay.core.replies import Answer
from relay.core.states import Ping, Send, State
from relay.delivery.backlog import Backlog
from relay.delivery.bodies import Bodies
from relay.delivery.context import TenantContext, TenantRules
from relay.delivery.document_poll import DocumentPoll
from relay.delivery.outcomes import Outcomes
from relay.delivery.post_slots import PostSlots
from relay.delivery.tasks import Tasks
from relay.delivery.unsendable import unpacked_reason, unsendable_reason
from relay.delivery.waiting import nap

_IDLE_SECONDS = 60.0
"""After so long without contact a cycle begins with a ping again."""


@dataclass(slots=True)
class Cycle:
    """One performance of `Send`. It ends when an answer asks for another state, or when it is drained.

    `state`: what the next answer starts from. `next`: the other state. `deadline`: of draining, in the loop's
    time; None: posts in flight may take as long as their own time-outs.
    """

    state: Send
    next: State | None = None
    is_draining: bool = False
    deadline: float | None = None

    def follow(self, state: State) -> None:
        """An answer asks for this state."""
        if not isinstance(state, Send):
            self.next = state if self.next is None else states.worst((self.next, state))
        elif self.next is None:  # otherwise it was launched before the failure: it resets nothing
            self.state = state


class Sender:
    """One tenant's posts. Its memory (lanes, counted attempts) outlives pauses and initialisations."""

    def __init__(self, rules: TenantRules, context: TenantContext) -> None:
        self._rules, self._context = rules, context
        self._now = asyncio.get_running_loop().time
        self._tasks = tasks = Tasks()
        self._slots = PostSlots(rules, context, tasks)
        self._backlog = Backlog(rules, context, tasks)
        self._bodies = Bodies(context, tasks)
        self._outcomes = Outcomes(rules, context, self._backlog, tasks)
        self._poll = DocumentPoll(rules, context, tasks, self._apply_documents, self._slots.show_idle)
        self._cycle = Cycle(Send(frozenset()), is_draining=True)
        self._last_contact = 0.0
        self.idle = False
        """Nothing is in flight, and nothing becomes due without an arrival or an operator."""

    # --- notifications ----------------------------------------------------------------------------

    def arrived(self) -> None:
        """Messages may have arrived."""
        self._backlog.prefetch.notify()
        self.idle = False
        self._tasks.wake()

    def revised(self) -> None:
        """An operator changed messages or the tenant: what was prefetched is out of date."""
        self._poll.poll_now()
        self.reread()

    def reread(self) -> None:
        """What was prefetched is out of date, and nothing is held any more."""
        self._backlog.invalidate()
        self.idle = False
        self._tasks.wake()

    def drain(self, within: float | None = None) -> None:
        """Start no more posts; `perform` returns when those in flight are answered, or after `within` s."""
        self._cycle.is_draining = True
        if within is not None:
            self._cycle.deadline = self._now() + within
        self._tasks.wake()

    def close(self) -> None:
        """Nothing is sent any more: leave the memory to the other tenants."""
        self._backlog.prefetch.leave()

    @property
    def accepted(self) -> frozenset[DocumentName] | None:
        """The documents that ION accepts, as far as is known; None before `perform` and once drained."""
        return None if self._cycle.is_draining else self._cycle.state.accepted

    @property
    def unaccepted(self) -> frozenset[DocumentName]:
        """Documents that wait and are not accepted, as far as is known."""
        return self._backlog.prefetch.unaccepted

    async def ask_documents(self) -> Answer:
        """What ION accepts, as ION itself answers."""
        return await self._poll.ask()

    # --- performing Send ------------------------------------------------------------------------

    async def perform(self, state: Send) -> State:
        """Send messages until another state must follow; that state."""
        self._cycle = cycle = Cycle(state)
        self.idle = False
        self._last_contact = self._now()
        self._backlog.begin(state.accepted, self._last_contact)
        try:
            while not self._is_ending():
                self._tasks.wakened.clear()
                self._step()
                if not self._is_ending():
                    following = self._next_time()
                    left = None if following is None else max(following - self._now(), 0.001)
                    await nap(self._tasks.wakened, left)
            await self._wait_for_posts(cycle)
        finally:
            try:
                await self._tasks.cancel()
            finally:
                self._slots.leave()
                self._bodies.leave()
        if self._tasks.error is not None:
            raise self._tasks.error
        return cycle.state if cycle.next is None else cycle.next

    def _is_ending(self) -> bool:
        return (
            self._cycle.next is not None
            or self._cycle.is_draining
            or self._tasks.error is not None
            or self._context.stopping.is_set()
        )

    def _step(self) -> None:
        """Start what can be started now: posts, a read of the outbox, a poll."""
        now, prefetch = self._now(), self._backlog.prefetch
        if self._slots.slow_start.is_full or not prefetch.is_reading:  # else read all lanes before choosing
            self._launch(now)
        self._backlog.refill(self._cycle.state.accepted, now)
        self._slots.rest()
        if not self._slots.is_queued:  # else the memory is used once there is a place
            self._bodies.rest()
        accepted = self._cycle.state.accepted
        self._poll.update(prefetch.unaccepted, accepted, now, may_poll=not self._is_ending())
        self._report_state()

    async def _wait_for_posts(self, cycle: Cycle) -> None:
        """Until the posts in flight are answered; at a stop until the deadline, then they are cancelled."""
        while self._slots.in_use:
            self._tasks.wakened.clear()
            left = None if cycle.deadline is None else cycle.deadline - self._now()
            if left is not None and left <= 0:
                return
            await nap(self._tasks.wakened, left)

    # --- posts ----------------------------------------------------------------------------------

    def _launch(self, now: float) -> None:
        slots = self._slots
        while slots.in_use < slots.slow_start.size and not self._is_ending():
            if not slots.in_use and now - self._last_contact > _IDLE_SECONDS and self._backlog.lanes.ready:
                self._cycle.follow(Ping(self._cycle.state.accepted, self._cycle.state.streak))
                return
            message = self._take()
            if message is None:
                return
            slots.start(self._send(message))

    def _take(self) -> Message | None:
        """The next message that may be sent, with a place for its post; None where there is none."""
        if not self._backlog.lanes.ready or self._is_ending() or not self._slots.begin_post():
            return None
        message = self._next_sendable()
        if message is not None and not self._bodies.begin(message):
            self._backlog.lanes.put_back(message)
            message = None
        if message is None:
            self._slots.end_post()
        return message

    def _next_sendable(self) -> Message | None:
        """The next message; those that can never be sent are set aside on the way."""
        while not self._is_ending() and self._slots.may_post():
            message = self._backlog.lanes.take(cautious=not self._slots.slow_start.is_full)
            if message is None:
                return None
            reason = unsendable_reason(message, self._rules)
            if reason is None:
                return message
            self._outcomes.set_aside(message, reason)
        return None

    async def _send(self, message: Message | None) -> None:
        """Post one message after the other, as long as all goes well."""
        while message is not None:
            began = self._now()
            self._context.telemetry.liveness.begin()
            answer = await self._post(message)
            if answer is None:
                return
            self._apply(message, answer, began)
            if self._backlog.prefetch.is_short:
                self._tasks.wake()
            message = self._take() if self._slots.in_use <= self._slots.slow_start.size else None

    async def _post(self, message: Message) -> Answer | None:
        """The answer; None if it was not sent: the cycle ended first, or no post can be made of it."""
        telemetry = self._context.telemetry
        answer: Answer | None = None
        packed: EncodedPost | str | None = None
        try:
            packed = await self._pack(message)
            if isinstance(packed, EncodedPost) and not self._is_ending() and self._context.holds():
                if self._outcomes.was_sent(message):
                    telemetry.meter.sent_again()
                post = partial(self._context.ion.post, packed)
                traces = telemetry.traces
                answer = await (post() if traces is None else traces.post_in_span(message, post))
        finally:
            self._slots.end_post()
            self._bodies.end(message)
            if isinstance(packed, str):
                self._outcomes.set_aside(message, packed)
            elif packed is None:
                self._backlog.drop(message)
            elif answer is None:
                self._backlog.lanes.put_back(message)
        return answer

    async def _pack(self, message: Message) -> EncodedPost | str | None:
        """The body of its post, or why none can be made: what is in a row never ends its tenant's worker.

        None: the message is not in the outbox any more as it was read.
        """
        try:
            return await self._bodies.build(message)
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001  # whichever it is, the same row would raise it again
            return unpacked_reason(error)

    # --- answers --------------------------------------------------------------------------------

    def _apply(self, message: Message, answer: Answer, began: float) -> None:
        self._last_contact = now = self._now()
        attempts = partial(self._outcomes.attempts_of, message)
        outcome = protocol.after_post(self._cycle.state, answer, self._rules.policy, attempts)
        if self._cycle.next is None and isinstance(outcome.settlement, Delivered):
            self._slots.slow_start.succeed()
            self._context.telemetry.incidents.resolved()
        self._outcomes.apply(message, outcome, now - began)
        self._follow(outcome)

    def _apply_documents(self, answer: Answer) -> None:
        cycle = self._cycle
        before, outcome = cycle.state.accepted, protocol.after_accepted(cycle.state, answer)
        self._follow(outcome)
        accepted = cycle.state.accepted
        if accepted == before:
            return
        self._last_contact = self._now()
        self._backlog.change_accepted(accepted)
        added, removed = sorted(accepted - before), sorted(before - accepted)
        self._context.telemetry.log.info("documents.changed", added=added, removed=removed)

    def _follow(self, outcome: PostOutcome | GetOutcome) -> None:
        self._cycle.follow(outcome.state)
        if not isinstance(outcome.state, Send):
            self._context.telemetry.report_incident(outcome)
            self._slots.slow_start.fail()
            self._tasks.wake()

    # --- the live state ---------------------------------------------------------------------------

    def _report_state(self) -> None:
        documents = tuple(sorted(self.unaccepted))
        kind, meant = (NOT_ACCEPTED, self._poll.suggestions) if documents else ("", "")
        report, backlog, failed = self._context.telemetry.report, self._backlog, self._cycle.state.streak
        if self._slots.in_use or backlog.lanes.ready:
            if failed.reason:  # until something is delivered, what failed is what operators read
                report("sending", failed.reason, None, kind=failed.kind, documents=documents)
                return
            report("sending", meant, None, kind=kind, documents=documents)
        elif backlog.prefetch.is_reading or backlog.prefetch.is_postponed:
            return
        elif backlog.any_held:
            report("sending", meant, self._next_time(), kind=kind or BACK_OFF, documents=documents)
        else:
            self.idle = True
            self._context.telemetry.incidents.resolved()
            report("idle", meant, self._next_time(), kind=kind, documents=documents)

    def _next_time(self) -> float | None:
        """The next instant at which something becomes possible without an arrival or an operator."""
        times = [*self._backlog.next_times(self._now()), self._poll.next_poll]
        return min((time for time in times if time is not None), default=None)
