"""Which of a tenant's documents must wait: not accepted by ION yet, or accepted and yet refused.

Pure: `now` and the chance are arguments. A document that is not accepted waits for an administrator, and
acceptedDocuments is polled on the retry schedule. One that is listed as accepted and yet refused with "not
ready" holds the lane of that message; the whole document is held only when another lane is refused too.
"""

from collections.abc import Callable, Collection
from difflib import get_close_matches

from relay.core.model import DocumentName
from relay.core.poison import Lane
from relay.core.retry import Schedule

_COMPARED, _SIMILARITY = 2000, 0.8


def similar_name(document: DocumentName, accepted: Collection[DocumentName]) -> DocumentName | None:
    """The accepted document that was probably meant: names are case-sensitive. None: none is similar.

    Of a very long list only a name that differs in case is found.
    """
    by_fold = {name.casefold(): name for name in accepted}
    if (same := by_fold.get(document.casefold())) is not None:
        return same if same != document else None
    if len(accepted) > _COMPARED:
        return None
    close = get_close_matches(document.casefold(), sorted(by_fold), n=1, cutoff=_SIMILARITY)
    return by_fold[close[0]] if close else None


class DocumentHolds:
    """Documents that are listed as accepted and yet refused as not ready: what to hold, and until when."""

    def __init__(self, schedule: Schedule, chance: Callable[[], float]) -> None:
        self._schedule, self._chance = schedule, chance
        self._unready = Unready()
        self._refused: set[tuple[DocumentName, Lane]] = set()
        self._held: dict[DocumentName, float] = {}

    def refuse(self, document: DocumentName, lane: Lane) -> None:
        """A message of this lane was not ready; the next initialisation shows whether it is still listed."""
        self._refused.add((document, lane))

    def delivered(self, document: DocumentName) -> None:
        """A message of this document was delivered: earlier refusals no longer count."""
        self._unready.delivered(document)

    def after_initialise(self, accepted: frozenset[DocumentName], now: float) -> list[tuple[Lane, float]]:
        """Hold what was refused and is listed all the same; the lanes to hold, and until when."""
        lanes: list[tuple[Lane, float]] = []
        for document, lane in self._refused:
            if document not in accepted:
                continue
            times, is_whole = self._unready.count(document, lane)
            until = now + self._schedule.delay(times, self._chance())
            if is_whole:
                self._held[document] = until
            else:
                lanes.append((lane, until))
        self._refused.clear()
        return lanes

    def held(self, now: float) -> tuple[frozenset[DocumentName], bool]:
        """The documents held as a whole, and whether the hold of one of them has just ended."""
        ended = [document for document, until in self._held.items() if until <= now]
        for document in ended:
            del self._held[document]
        return frozenset(self._held), bool(ended)

    @property
    def any_held(self) -> bool:
        """Whether a document is held as a whole."""
        return bool(self._held)

    @property
    def next_end(self) -> float | None:
        """When the first hold of a whole document ends."""
        return min(self._held.values(), default=None)

    def clear(self) -> None:
        """An operator acted: nothing is held."""
        self._held.clear()


class Unready:
    """How often in a row a listed document was refused as not ready, by lane."""

    def __init__(self) -> None:
        self._refusals: dict[DocumentName, dict[Lane, int]] = {}

    def count(self, document: DocumentName, lane: Lane) -> tuple[int, bool]:
        """How many refusals in a row now, and whether the whole document is to be held."""
        lanes = self._refusals.setdefault(document, {})
        lanes[lane] = lanes.get(lane, 0) + 1
        is_whole = len(lanes) > 1
        return (max(lanes.values()) if is_whole else lanes[lane]), is_whole

    def delivered(self, document: DocumentName) -> None:
        """A message of this document was delivered: earlier refusals no longer count."""
        self._refusals.pop(document, None)


class PollSchedule:
    """When acceptedDocuments is polled again because messages wait for documents that are not accepted."""

    def __init__(self, schedule: Schedule, chance: Callable[[], float]) -> None:
        self._schedule, self._chance = schedule, chance
        self._waiting: frozenset[DocumentName] = frozenset()
        self._polls = 0
        self.next_poll: float | None = None
        """None where no document waits."""

    def update(self, documents: frozenset[DocumentName], now: float) -> frozenset[DocumentName]:
        """These have messages and are not accepted; returns those that were not known to wait."""
        new = documents - self._waiting
        if not documents:
            self._polls, self.next_poll = 0, None
        elif new:
            self._polls = 0
            self._plan(now)
        self._waiting = documents
        return new

    def is_due(self, now: float) -> bool:
        """Whether it is time to poll."""
        return self.next_poll is not None and now >= self.next_poll

    def polled(self, now: float) -> None:
        """An answer came; the next poll is later."""
        self._polls += 1
        self._plan(now)

    def poll_now(self) -> None:
        """An operator acted: where documents wait, poll at once."""
        if self.next_poll is not None:
            self.next_poll = 0.0

    def _plan(self, now: float) -> None:
        self.next_poll = now + self._schedule.delay(self._polls + 1, self._chance())
