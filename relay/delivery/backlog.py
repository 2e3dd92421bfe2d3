"""A tenant's waiting messages: prefetched, in lanes, some of them held."""

from relay.core.accepted_documents import DocumentHolds
from relay.core.lanes import Lanes
from relay.core.model import DocumentName, Message
from relay.delivery.context import TenantContext, TenantRules
from relay.delivery.limits import BATCH_MESSAGES, PREFETCH_BYTES
from relay.delivery.prefetch import Prefetch
from relay.delivery.tasks import Tasks


class Backlog:
    """One tenant's lanes, the holds of whole documents, and the prefetch that fills the lanes."""

    def __init__(self, rules: TenantRules, context: TenantContext, tasks: Tasks) -> None:
        self.lanes = Lanes(rules.ordering, max_messages=BATCH_MESSAGES, max_bytes=PREFETCH_BYTES)
        self.holds = DocumentHolds(rules.schedule, context.chance)
        self.prefetch = Prefetch(rules, context, self.lanes, tasks)
        self._accepted: frozenset[DocumentName] = frozenset()

    def begin(self, accepted: frozenset[DocumentName], now: float) -> None:
        """A send cycle begins with these accepted documents."""
        for lane, until in self.holds.after_initialise(accepted, now):
            self.lanes.hold(lane, until)
        self.change_accepted(self._sendable(accepted, now))

    def change_accepted(self, accepted: frozenset[DocumentName]) -> None:
        """ION accepts other documents than before, perhaps."""
        self.lanes.discard_unaccepted(accepted)
        if not accepted <= self._accepted:
            self.lanes.reread()
        self._accepted = accepted
        self.prefetch.invalidate()

    def invalidate(self) -> None:
        """Messages, the tenant or the clock changed: what was prefetched is out of date, nothing is held."""
        self.lanes.discard()
        self.holds.clear()
        self.prefetch.invalidate()

    def drop(self, message: Message) -> None:
        """It is not in the outbox any more as it was read: the lane is read again."""
        self.lanes.drop(message)
        self.prefetch.invalidate()

    def refill(self, accepted: frozenset[DocumentName], now: float) -> None:
        """Prefetch more where that is worthwhile."""
        self.prefetch.start(self._sendable(accepted, now), now)

    @property
    def any_held(self) -> bool:
        """Whether a lane or a document is held."""
        return self.lanes.any_held or self.holds.any_held

    def next_times(self, now: float) -> list[float | None]:
        """When holds end and a read that was put off may begin; None for what is not planned."""
        return [self.lanes.next_hold_end(now), self.holds.next_end, self.prefetch.next_read(now)]

    def _sendable(self, accepted: frozenset[DocumentName], now: float) -> frozenset[DocumentName]:
        held, has_ended = self.holds.held(now)
        if has_ended:
            self.lanes.reread()
            self.prefetch.invalidate()
        return accepted - held
