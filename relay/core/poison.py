"""Poison-message detection: which messages fail while others are delivered.

Pure: `now` is an argument. The memory may be lost at a restart; the relay then only parks later.
"""

from collections.abc import Hashable
from dataclasses import dataclass

from relay.core.model import DocumentName, Message, MessageId, RowId

Lane = Hashable
"""The messages of one ordering key, of the whole tenant, or a single one: see `lanes.py`."""


@dataclass(frozen=True, slots=True)
class CountedAttempts:
    """What is known about a message that may be poison, before the post that just failed.

    `attempts`: counted ones. `seconds`: since its first failure. `delivered_elsewhere`: since then another
    lane delivered, and none failed after that. `alone`: there is no other lane that could.
    `failed_elsewhere`: since then another lane failed. `again`: this is not its first failure.
    """

    attempts: int = 0
    seconds: float = 0.0
    delivered_elsewhere: bool = False
    alone: bool = False
    failed_elsewhere: bool = False
    again: bool = False
    message_id: MessageId | None = None


@dataclass(slots=True)
class _Failing:
    """A message that failed: its first failure, in seconds and in the order of all answers."""

    at: float
    order: int
    is_reported: bool = False


class _Latest:
    """When something last happened in any lane but a given one, in the order of all answers."""

    def __init__(self) -> None:
        self._lane: Lane = self  # no lane
        self._order, self._elsewhere = 0, 0

    def note(self, lane: Lane, order: int) -> None:
        if lane != self._lane:
            self._lane, self._elsewhere = lane, self._order
        self._order = order

    def outside(self, lane: Lane) -> int:
        return self._elsewhere if lane == self._lane else self._order


class _Evidence:
    """Which lanes delivered, and which failed, of one document or of all."""

    def __init__(self) -> None:
        self.delivered, self.failed = _Latest(), _Latest()


class PoisonDetector:
    """The messages that failed, and what other lanes met meanwhile.

    Where an answer is about a document (`by_document`), only other messages of that document are evidence.
    """

    def __init__(self) -> None:
        self._failing: dict[RowId, _Failing] = {}
        self._all = _Evidence()
        self._documents: dict[DocumentName, _Evidence] = {}
        self._order = 0

    def attempts_of(
        self, message: Message, lane: Lane, now: float, *, alone: bool, by_document: bool = False
    ) -> CountedAttempts:
        """What is known about this message before the attempt that just failed."""
        first = self._failing.get(message.row)
        if first is None:
            return CountedAttempts(message.attempts, alone=alone, message_id=message.message_id)
        evidence = self._evidence_of(message)[by_document]
        delivered, failed = evidence.delivered.outside(lane), evidence.failed.outside(lane)
        return CountedAttempts(
            message.attempts,
            now - first.at,
            delivered_elsewhere=delivered > max(first.order, failed),
            alone=alone,
            failed_elsewhere=failed > first.order,
            again=True,
            message_id=message.message_id,
        )

    def failed(self, message: Message, lane: Lane, now: float, *, alike: bool) -> None:
        """Its post failed. `alike`: others may fail for the same reason, as far as is known."""
        self._order += 1
        self._failing.setdefault(message.row, _Failing(now, self._order))
        if alike:
            for evidence in self._evidence_of(message):
                evidence.failed.note(lane, self._order)

    def delivered(self, message: Message, lane: Lane) -> None:
        """This lane delivered, so that not everything fails."""
        self._order += 1
        for evidence in self._evidence_of(message):
            evidence.delivered.note(lane, self._order)
        self.forget(message.row)

    def report(self, row: RowId) -> bool:
        """Whether it is to be reported that only this message fails: once."""
        first = self._failing[row]
        is_first, first.is_reported = not first.is_reported, True
        return is_first

    def forget(self, row: RowId) -> None:
        """It was delivered or parked."""
        self._failing.pop(row, None)

    def _evidence_of(self, message: Message) -> tuple[_Evidence, _Evidence]:
        """Of all documents, and of the message's."""
        return self._all, self._documents.setdefault(message.document_name, _Evidence())
