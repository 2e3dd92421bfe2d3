"""Concurrent posts of one tenant: started while all goes well, each answered, applied and settled.

It performs the state `Send`. What an answer means is decided in `answers.py`, which message is next in
`lanes.py`; this module connects both to the network.
"""

import asyncio
from collections.abc import Callable
from functools import partial

from relay.core import protocol, states
from relay.core.model import BACK_OFF, NOT_ACCEPTED, Delivered, DocumentName, Message
from relay.core.ports import EncodedPost
from relay.core.protocol import GetOutcome, PostOutcome
from relay.core.replies import Answer, IonCall, NoReply
from relay.core.states import Initialise, Ping, Send, State
from relay.delivery.backlog import Backlog
from relay.delivery.bodies import Bodies
from relay.delivery.context import TenantContext, TenantRules
from relay.delivery.cycle import Cycle
from relay.delivery.document_poll import DocumentPoll
from relay.delivery.outcomes import Outcomes
from relay.delivery.post_slots import PostSlots
from relay.delivery.tasks import Tasks
from relay.delivery.unsendable import unpacked_reason, unsendable_reason
from relay.delivery.waiting import nap

_IDLE_SECONDS = 60.0
"""After so long without contact a cycle begins with a ping again."""


_JOIN_SECONDS = 0.25
"""How long a cycle that continues at once waits for its other posts, whose answers may ask for more."""


class Sender:
    """One tenant's posts. Its memory (lanes, counted attempts) outlives pauses and initialisations.

    So do posts that are not answered yet when a cycle ends: only their lanes wait for them. What their
    answers ask for is joined with the state that is performed by then.
    """

    def __init__(self, rules: TenantRules, context: TenantContext) -> None:
        self._rules, self._context = rules, context
        self._now = asyncio.get_running_loop().time
        self._tasks = tasks = Tasks()
        self._posts = Tasks(tasks.wakened)
        self._slots = PostSlots(rules, context, self._posts)
        self._backlog = Backlog(rules, context, tasks)
        self._bodies = Bodies(rules, context, tasks)
        self._outcomes = Outcomes(rules, context, self._backlog, tasks)
        self._poll = DocumentPoll(rules, context, tasks, self._apply_documents, self._slots.show_idle)
        self._cycle = Cycle(Send(frozenset()), is_draining=True, is_over=True)
        self._late: State | None = None
        self._deadline: float | None = None
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
            self._deadline = self._now() + within
        self._tasks.wake()

    def join(self, state: State) -> State:
        """The state that follows, with what late answers have asked for since this was called last."""
        late, self._late = self._late, None
        return state if late is None else states.worst((state, late))

    async def complete(self) -> None:
        """Wait for the posts in flight, at a stop until the deadline."""
        await self._wait_for_posts(lambda: self._slots.in_use, self._deadline)

    async def close(self) -> None:
        """Cancel the posts in flight, and leave the memory to the other tenants: nothing is sent any more."""
        try:
            await self._posts.cancel()
        finally:
            self._slots.leave()
            self._bodies.leave()
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
        self._slots.new_flight()
        self.idle = False
        self._last_contact = self._now()
        self._backlog.begin(state.accepted, self._last_contact)
        try:
            while not self._is_ending(cycle):
                self._tasks.wakened.clear()
                self._step(cycle)
                if not self._is_ending(cycle):
                    following = self._next_time()
                    left = None if following is None else max(following - self._now(), 0.001)
                    await nap(self._tasks.wakened, left)
            await self._join_posts(cycle)
        finally:
            cycle.is_over = True
            self._slots.wait_no_more()
            self._bodies.wait_no_more()
            await self._tasks.cancel()
        error = self._tasks.error or self._posts.error
        if error is not None:
            raise error
        return cycle.state if cycle.next is None else cycle.next

    def _is_ending(self, cycle: Cycle) -> bool:
        return (
            cycle.next is not None
            or cycle.is_draining
            or cycle.is_over
            or self._tasks.error is not None
            or self._posts.error is not None
            or self._context.stopping.is_set()
        )

    async def _join_posts(self, cycle: Cycle) -> None:
        """All posts are answered before a stop or a pause by an operator; otherwise those that are quick.

        A pause joins what is answered meanwhile; so nobody waits here for a post that takes long.
        """
        if isinstance(cycle.next, Ping | Initialise):
            await self._wait_for_posts(lambda: self._slots.in_flight, self._now() + _JOIN_SECONDS)
        if cycle.next is None or self._context.stopping.is_set():
            await self.complete()

    def _step(self, cycle: Cycle) -> None:
        """Start what can be started now: posts, a read of the outbox, a poll."""
        now, prefetch = self._now(), self._backlog.prefetch
        if self._slots.slow_start.is_full or not prefetch.is_reading:  # else read all lanes before choosing
            self._launch(cycle, now)
        self._backlog.refill(cycle.state.accepted, now)
        self._slots.rest()
        if not self._slots.is_queued:  # else the memory is used once there is a place
            self._bodies.rest()
        accepted, may_poll = cycle.state.accepted, not self._is_ending(cycle)
        self._poll.update(prefetch.unaccepted, accepted, now, may_poll=may_poll)
        self._report_state()

    async def _wait_for_posts(self, left: Callable[[], int], deadline: float | None) -> None:
        """Until none is left, at most until the deadline; a stop may set another one meanwhile."""
        while left():
            self._tasks.wakened.clear()
            until = self._deadline if deadline is None else deadline
            seconds = None if until is None else until - self._now()
            if seconds is not None and seconds <= 0:
                return
            await nap(self._tasks.wakened, seconds)

    # --- posts ----------------------------------------------------------------------------------

    def _launch(self, cycle: Cycle, now: float) -> None:
        slots = self._slots
        slots.end_patience(now)
        while slots.has_free and not self._is_ending(cycle):
            if not slots.in_use and now - self._last_contact > _IDLE_SECONDS and self._backlog.lanes.ready:
                cycle.follow(Ping(cycle.state.accepted, cycle.state.streak))
                return
            message = self._take(cycle)
            if message is None:
                return
            slots.start(self._send(cycle, slots.flight, message))

    def _take(self, cycle: Cycle) -> Message | None:
        """The next message that may be sent, with a place for its post; None where there is none."""
        if not self._backlog.lanes.ready or self._is_ending(cycle) or not self._slots.begin_post():
            return None
        message = self._next_sendable(cycle)
        if message is not None and not self._begin_body(message):
            self._backlog.lanes.put_back(message)
            message = None
        if message is None:
            self._slots.end_post()
        return message

    def _begin_body(self, message: Message) -> bool:
        begins = self._slots.begin_body(message.size)
        if begins and not self._bodies.begin(message):
            self._slots.end_body(message.size)
            return False
        return begins

    def _next_sendable(self, cycle: Cycle) -> Message | None:
        """The next message; those that can never be sent are set aside on the way."""
        while not self._is_ending(cycle) and self._slots.may_post():
            message = self._backlog.lanes.take(cautious=not self._slots.slow_start.is_full)
            if message is None:
                return None
            reason = unsendable_reason(message, self._rules)
            if reason is None:
                return message
            self._outcomes.set_aside(message, reason)
        return None

    async def _send(self, cycle: Cycle, flight: int, message: Message | None) -> None:
        """Post one message after the other, as long as all goes well."""
        slots = self._slots
        while message is not None:
            began = self._now()
            self._context.telemetry.liveness.begin()
            answer = await self._post(cycle, message)
            if answer is None:
                return
            self._apply(cycle, message, answer, began)
            if self._backlog.prefetch.is_short:
                self._tasks.wake()
            is_wanted = flight == slots.flight and slots.in_flight <= slots.slow_start.size
            message = self._take(cycle) if is_wanted else None

    async def _post(self, cycle: Cycle, message: Message) -> Answer | None:
        """The answer; None if it was not sent: the cycle ended first, or no post can be made of it."""
        telemetry = self._context.telemetry
        answer: Answer | None = None
        packed: EncodedPost | str | None = None
        try:
            packed = await self._pack(message)
            if isinstance(packed, EncodedPost) and not self._is_ending(cycle) and self._context.holds():
                if self._outcomes.was_sent(message):
                    telemetry.meter.sent_again()
                post = partial(self._context.ion.post, packed)
                traces = telemetry.traces
                answer = await (post() if traces is None else traces.post_in_span(message, post))
        finally:
            self._slots.end_post()
            self._slots.end_body(message.size)
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

    def _apply(self, cycle: Cycle, message: Message, answer: Answer, began: float) -> None:
        self._last_contact = now = self._now()
        attempts = partial(self._outcomes.attempts_of, message)
        outcome = protocol.after_post(cycle.state, answer, self._rules.policy, attempts)
        if cycle.next is None and isinstance(outcome.settlement, Delivered):
            self._slots.slow_start.succeed()
            self._context.telemetry.incidents.resolved()
        self._outcomes.apply(message, outcome, now - began)
        self._follow(cycle, "post", outcome)
        if isinstance(answer, NoReply) and answer.timed_out and not outcome.only_this:
            self._slots.slow_start.time_out(self._slots.bytes_in_flight + message.size)

    def _apply_documents(self, answer: Answer) -> None:
        cycle = self._cycle
        before, outcome = cycle.state.accepted, protocol.after_accepted(cycle.state, answer)
        self._follow(cycle, "acceptedDocuments", outcome)
        accepted = cycle.state.accepted
        if accepted == before:
            return
        self._last_contact = self._now()
        self._backlog.change_accepted(accepted)
        added, removed = sorted(accepted - before), sorted(before - accepted)
        self._context.telemetry.log.info("documents.changed", added=added, removed=removed)

    def _follow(self, cycle: Cycle, call: IonCall, outcome: PostOutcome | GetOutcome) -> None:
        cycle.follow(outcome.state)
        if isinstance(outcome.state, Send):
            return
        self._context.telemetry.report_incident(call, outcome)
        self._slots.slow_start.fail()
        self._posts.wake()
        if self._cycle.is_over:
            self._late = self.join(outcome.state)
        elif self._cycle is not cycle:
            self._cycle.join(outcome.state)

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
        if self._backlog.lanes.ready:
            times.append(self._slots.patience_ends)
        return min((time for time in times if time is not None), default=None)
