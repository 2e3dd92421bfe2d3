"""What the answers to posts mean for the messages: lanes, counted attempts, settlements, meters."""

import asyncio
from dataclasses import replace

from relay.core.answers import Fate, Posting, Row
from relay.core.model import Delivered, Message, Parked, Released, RowId, Settlement
from relay.core.poison import CountedAttempts, PoisonDetector
from relay.core.protocol import PostOutcome
from relay.delivery.backlog import Backlog
from relay.delivery.context import TenantContext, TenantRules
from relay.delivery.tasks import Tasks

_ONLY_THIS_HINT = (
    "check this document: others are delivered. It is tried again at growing distances, and parked in the end"
)

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

    def attempts_of(self, message: Message, row: Row) -> CountedAttempts:
        """What is known about a message whose post just failed as this row of the table says."""
        lane, by_document = self._lanes.lane_of(message), row.posting is Posting.START_OVER
        is_alone = self._lanes.is_alone(lane)
        return self._poison.attempts_of(message, lane, self._now(), alone=is_alone, by_document=by_document)

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
        self._poison.delivered(message, self._lanes.lane_of(message))
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
        self._poison.failed(message, lane, self._now(), alike=not outcome.only_this)
        if outcome.only_this:
            self._report_only(message, outcome)
        elif outcome.row.posting is Posting.START_OVER:
            self._backlog.holds.refuse(message.document_name, lane)
        if outcome.row.fate is Fate.POLICY and not settlement.counted:  # refused, and the tenant is halted
            return replace(settlement, counted=True)
        if not settlement.counted:
            return settlement
        return replace(settlement, wait=max(settlement.wait, self._back_off(message)))

    def _report_only(self, message: Message, outcome: PostOutcome) -> None:
        if self._poison.report(message.row):
            self._context.telemetry.log.warning(
                "message.failing",
                message_id=message.message_id,
                document=message.document_name,
                reason=outcome.detail,
                hint=_ONLY_THIS_HINT,
            )

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
