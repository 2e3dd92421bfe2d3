"""What the answers to posts mean for the messages: lanes, counted attempts, settlements, meters."""

import asyncio
from dataclasses import replace

from relay.core.model import Delivered, Message, Parked, Released, RowId, Settlement
from relay.core.poison import CountedAttempts, PoisonDetector
from relay.core.protocol import Fate, Posting, PostOutcome
from relay.delivery.backlog import Backlog
from relay.delivery.context import TenantContext, TenantRules
from relay.delivery.tasks import Tasks

UNSENDABLE = "unsendable"
"""The kind, for the meters, of what is parked without having been sent."""


class Outcomes:
    """Applies the outcomes of one tenant's posts to its messages."""

    def __init__(self, rules: TenantRules, context: TenantContext, backlog: Backlog, tasks: Tasks) -> None:
        self._rules, self._context, self._backlog, self._tasks = rules, context, backlog, tasks
        self._now = asyncio.get_running_loop().time
        self._lanes = backlog.lanes
        self._poison = PoisonDetector()
        self._sent: set[RowId] = set()

    def was_sent(self, message: Message) -> bool:
        """Whether the message was posted before."""
        return bool(message.attempts) or message.row in self._sent

    def attempts_of(self, message: Message) -> CountedAttempts:
        """What is known about a message whose post just failed."""
        is_alone = self._lanes.is_alone(self._lanes.lane_of(message))
        return self._poison.attempts_of(message.row, message.attempts, self._now(), alone=is_alone)

    def apply(self, message: Message, outcome: PostOutcome, seconds: float) -> None:
        """Settle the message as the outcome says. `seconds`: how long the post took."""
        settlement, kind, meter = outcome.settlement, outcome.row.name, self._context.telemetry.meter
        match settlement:
            case Delivered():
                self._deliver(message, seconds)
            case Parked():
                self._finish(message)
                meter.parked(kind)
                settlement = replace(settlement, counted=True)
            case Released():
                meter.released(kind, counted=settlement.counted)
                self._sent.add(message.row)
                settlement = self._release(message, outcome, settlement)
        self._settle(message, settlement)

    def set_aside(self, message: Message, reason: str) -> None:
        """Park what can never be sent; where nothing is to be parked, it waits and holds its lane."""
        if not self._rules.policy.park_nothing:
            self._lanes.finish(message)
            self._context.telemetry.meter.parked(UNSENDABLE)
            self._settle(message, Parked(reason))
            return
        self._lanes.release(message)
        self._settle(message, Released(reason, counted=True, wait=self._back_off(message)))

    def _deliver(self, message: Message, seconds: float) -> None:
        self._finish(message)
        self._poison.delivered(self._lanes.lane_of(message))
        self._backlog.holds.delivered(message.document_name)
        self._context.telemetry.tally.delivered(message, seconds)
        queued = self._backlog.prefetch.seconds_queued(message, self._now())
        self._context.telemetry.meter.delivered(queued)

    def _finish(self, message: Message) -> None:
        self._lanes.finish(message)
        self._poison.forget(message.row)
        self._sent.discard(message.row)

    def _release(self, message: Message, outcome: PostOutcome, settlement: Released) -> Released:
        lane = self._lanes.lane_of(message)
        self._lanes.release(message)
        if outcome.row.posting is Posting.START_OVER:
            self._backlog.holds.refuse(message.document_name, lane)
        if outcome.row.fate is Fate.POLICY and not settlement.counted:  # refused, and the tenant is halted
            return replace(settlement, counted=True)
        if not settlement.counted:
            return settlement
        self._poison.count(message.row, lane, self._now())
        return replace(settlement, wait=self._back_off(message))

    def _back_off(self, message: Message) -> float:
        return self._rules.schedule.delay(message.attempts + 1, self._context.chance())

    def _settle(self, message: Message, settlement: Settlement) -> None:
        if isinstance(settlement, Parked):
            self._context.telemetry.log.warning(
                "message.parked",
                message_id=message.message_id,
                document=message.document_name,
                reason=settlement.reason,
            )
        self._context.settler.enter(message, settlement, self._settled)

    def _settled(self, message: Message, settlement: Settlement) -> None:
        """The settlement is durable; a released message may be read again once its wait is over."""
        self._backlog.prefetch.settled(message)
        if isinstance(settlement, Released):
            self._lanes.reopen(self._lanes.lane_of(message), self._now() + settlement.wait)
            self._backlog.prefetch.notify()
        self._tasks.wake()
