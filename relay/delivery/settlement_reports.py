"""What is reported of settlements that cannot be written, while the others of their group are."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from relay.core.answers import FaultOwner
from relay.core.model import Message
from relay.delivery.limits import MAX_UNSETTLED
from relay.delivery.outbox_retry import report_outbox_incident
from relay.observability.incidents import Incidents
from relay.observability.logs import Log

_NAMED = 5
"""Message ids in one line of the log."""


@dataclass(frozen=True, slots=True)
class SettlementReports:
    """Where the settler reports. `incidents`: of the outbox as a whole; `row_incidents`: of single rows."""

    log: Log
    incidents: Incidents
    row_incidents: Incidents
    _replaced: list[Message] = field(default_factory=list[Message], init=False)
    """Not reported yet: what was tried one by one is one line."""

    def outbox_fails(self, detail: str) -> None:
        """No settlement is written. That other calls to the outbox succeed does not end it."""
        self.incidents.is_held = True
        report_outbox_incident(self.incidents, detail)

    @property
    def is_failing(self) -> bool:
        """Whether that was reported and not ended yet."""
        return self.incidents.is_held

    def outbox_takes_writes(self) -> None:
        """Settlements are written."""
        self.incidents.is_held = False
        self.incidents.resolved()
        self._report_replaced()

    def refused(self, message: Message, words: str, count: int) -> None:
        """The outbox refused the message's settlement; `count` of its tenant wait for that by now."""
        self.row_incidents.report(
            "refused",
            detail=f"what became of message {message.message_id!r} of tenant {message.tenant_id} cannot be "
            f"written: {words}; this holds up {count} of its messages, and at {MAX_UNSETTLED} nothing more "
            "of the tenant is sent",
            fault=FaultOwner.OUTBOX,
            hint="correct the constraint or the trigger that refuses it, or end the transaction that holds "
            "its row; the relay then tries again. "
            "If the relay is restarted before, these messages are sent again",
        )

    def replaced(self, messages: Sequence[Message]) -> None:
        """The rows of these messages hold others now: the outbox is not the one that they were read from."""
        self._replaced.extend(messages)
        if not self.is_failing:
            self._report_replaced()

    def _report_replaced(self) -> None:
        messages = list(self._replaced)
        self._replaced.clear()
        if not messages:
            return
        self.log.warning(
            "settlements.discarded",
            count=len(messages),
            tenants=sorted({message.tenant_id for message in messages}),
            message_ids=[message.message_id for message in messages[:_NAMED]],
            reason="their rows hold other messages now",
            hint="if the outbox was restored, or another server took over, nothing is to be done: "
            "what is in it now is sent",
        )
