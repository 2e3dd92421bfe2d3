"""A tenant's worker: performs the states of the protocol, one after the other.

The state is the next action. It is performed here; what happened goes into `protocol.after_…`, which returns
the next one. One worker a tenant: no other process or task sends this tenant's messages.
"""

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, assert_never

from relay.core import answers, protocol
from relay.core.model import DocumentName
from relay.core.ports import Control
from relay.core.protocol import GetOutcome
from relay.core.replies import Answer, IonCall
from relay.core.states import Halt, Initialise, Pause, Ping, Send, State
from relay.delivery.context import TenantContext, TenantRules
from relay.delivery.sender import Sender
from relay.delivery.waiting import nap, unless

_Get = tuple[IonCall, Callable[[], Coroutine[Any, Any, Answer]]]

_CREDENTIALS_SECONDS = 2.0
"""Between two checks of the credential files while a tenant is halted."""

_REVISION_SECONDS = 2.0
"""Between two changes that end a wait: a bulk action on a million messages is thousands of them."""


class Worker:
    """Delivers one tenant's messages until it is stopped."""

    def __init__(self, rules: TenantRules, context: TenantContext, control: Control) -> None:
        self._rules, self._context, self._control = rules, context, control
        self._telemetry = context.telemetry
        self._sender = Sender(rules, context)
        self._has_work = asyncio.Event()
        self._revised = asyncio.Event()
        self._last_revision = -_REVISION_SECONDS
        self.stuck: str | None = None
        """Why nothing can be sent without an operator; None while something can."""

    # --- notifications ----------------------------------------------------------------------------

    def arrived(self) -> None:
        """Messages may have arrived."""
        self._has_work.set()
        self._sender.arrived()

    def controlled(self, control: Control) -> None:
        """An operator changed something about this tenant or its messages."""
        if control == self._control:
            return
        self._control = control
        self.stuck = None
        self._context.ion.drop_refused_token()
        self._has_work.set()
        self._revised.set()
        self._sender.revised()
        if control.paused is not None:
            self._sender.drain()

    def reread(self) -> None:
        """What was prefetched is out of date."""
        self._sender.reread()

    def stop(self) -> None:
        """Start no more posts, give those in flight the grace to be answered, and cancel GETs."""
        self._context.stopping.set()
        self._sender.drain(self._rules.grace)

    @property
    def empty(self) -> bool:
        """Nothing is due, and nothing becomes due without an arrival or an operator."""
        return self._sender.idle or not self._has_work.is_set()

    @property
    def accepted(self) -> frozenset[DocumentName] | None:
        """The documents that ION accepts, as far as is known; else None."""
        return self._sender.accepted

    @property
    def withheld(self) -> frozenset[DocumentName]:
        """Documents that wait and are not accepted by ION."""
        return self._sender.unaccepted

    # --- the loop ---------------------------------------------------------------------------------

    async def run(self) -> None:
        """Perform state after state, from the first message on, until stopped."""
        state: State = Initialise()
        try:
            await self._wait_for_work()
            while not self._context.stopping.is_set():
                paused = self._control.paused
                state = await (self._perform(state) if paused is None else self._stay_paused(paused))
            await self._sender.complete()
        finally:
            self._telemetry.liveness.idle()
            try:
                await self._sender.close()
            finally:
                await self._context.ion.close()

    async def _wait_for_work(self) -> None:
        """A tenant that never had a message costs ION nothing: no ping, no connection."""
        if self._control.paused is None:
            self._telemetry.report("idle", "", None)
            await unless(self._context.stopping, self._has_work.wait())

    async def _perform(self, state: State) -> State:
        ion = self._context.ion
        opening: tuple[_Get, ...] = (("ping", ion.ping), ("versions", ion.versions))
        match state:
            case Initialise():
                self._telemetry.report("initialising", state.streak.reason, None, kind=state.streak.kind)
                after = partial(protocol.after_initialise, state)
                documents: _Get = ("acceptedDocuments", self._sender.ask_documents)
                return await self._get(after, *opening, documents) or state
            case Ping():
                self._telemetry.report("pinging", state.streak.reason, None, kind=state.streak.kind)
                return await self._get(partial(protocol.after_ping, state), *opening) or state
            case Send():
                return await self._sender.perform(state)
            case Pause():
                return await self._pause(state)
            case Halt(until_resumed=True):
                return await self._pause_in_outbox(state)
            case Halt():
                return await self._stay_halted(state)
            case _:
                assert_never(state)

    async def _get(self, after: Callable[[Answer], GetOutcome], *calls: _Get) -> State | None:
        """One GET after the other until one is not fine; the state after the last, None if it was stopped."""
        outcome: GetOutcome | None = None
        for name, call in calls:
            self._telemetry.liveness.begin()
            answer = await unless(self._context.stopping, call())
            outcome = None if answer is None else after(answer)
            if outcome is None:
                break
            if outcome.row is not answers.OK:
                self._telemetry.report_incident(name, outcome)
                break
        self._telemetry.liveness.idle()
        return None if outcome is None else self._sender.join(outcome.state)

    async def _pause(self, state: Pause) -> State:
        """Late answers to posts may ask for more than the pause that is over then."""
        began, chance, is_revised = self._now(), self._context.chance(), False
        while not is_revised and not self._context.stopping.is_set():
            until = began + self._seconds(state, chance)
            if until <= self._now():
                break
            self._telemetry.report("backing-off", state.reason, until, kind=state.kind)
            is_revised = await self._until_revised(until - self._now())
            joined = self._sender.join(state)
            if not isinstance(joined, Pause):
                return joined
            state = joined
        return state.then

    def _seconds(self, state: Pause, chance: float) -> float:
        schedule, failures = self._rules.schedule, state.then.streak.failures
        return max(schedule.longest if state.longest else schedule.delay(failures, chance), state.at_least)

    async def _stay_halted(self, state: Halt) -> State:
        """Until the credentials change on disk, an operator acts, or the slow probe is due."""
        self.stuck = state.reason
        probe_at = self._now() + self._rules.probe
        self._telemetry.report("halted", state.reason, probe_at, kind=state.kind)
        while not self._context.stopping.is_set():
            left = probe_at - self._now()
            if left <= 0 or self._context.ion.credentials_changed():
                break
            if await self._until_revised(min(left, _CREDENTIALS_SECONDS)):
                break
        self.stuck = None
        joined = self._sender.join(state)
        if isinstance(joined, Halt) and joined.until_resumed:
            return joined
        return Initialise(state.streak)

    async def _pause_in_outbox(self, state: Halt) -> State:
        """An operator must act: the tenant stays paused over restarts."""
        tenant = self._rules.tenant_id
        self._telemetry.log.error("tenant.paused", reason=state.reason, hint=f"relay tenants resume {tenant}")
        self._revised.clear()
        await self._context.outbox_retry.ask(lambda: self._context.outbox.pause(tenant, state.reason))
        if self._control.paused is None:  # the outbox may have notified of it already
            self.controlled(Control(self._control.revision, state.reason))
        return Initialise()

    async def _stay_paused(self, reason: str) -> State:
        self.stuck = f"paused: {reason}"
        self._telemetry.report("paused", reason, None)
        await self._until_revised(None)
        self._sender.join(Initialise())  # whatever late answers asked for, it begins anew
        return Initialise()

    async def _until_revised(self, seconds: float | None) -> bool:
        """Sleep, at most `seconds`; whether an operator's change ended it, at most every few seconds."""
        self._revised.clear()
        rest = max(0.0, self._last_revision + _REVISION_SECONDS - self._now())
        if seconds is not None and rest > 0:
            rest = min(rest, seconds)
            await unless(self._context.stopping, asyncio.sleep(rest))
            seconds -= rest
        is_revised = bool(await unless(self._context.stopping, nap(self._revised, seconds)))
        if is_revised:
            self._last_revision = self._now()
        return is_revised

    def _now(self) -> float:
        return asyncio.get_running_loop().time()
