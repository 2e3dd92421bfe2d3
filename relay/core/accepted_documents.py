"""This file is which of a tenant's documents must wait: not accepted yet, or accepted and yet refused.

Pure: `now` and the chance are handed in. A document that is not accepted waits for an administrator, and ION
is asked again on the retry schedule. One that is listed as accepted and meets "not ready" all the same makes
that message's lane wait; the whole document only when another lane's message meets it too.
"""

from collections.abc import Callable

from relay.core.model import DocumentName
from relay.core.poison import Lane, Unready
from relay.core.retry import Schedule


class Documents:
    """One tenant's documents."""

    def __init__(self, schedule: Schedule, chance: Callable[[], float]) -> None:
        self._schedule, self._chance = schedule, chance
        self._unready = Unready()
        self._refused: set[tuple[DocumentName, Lane]] = set()
        self._held: dict[DocumentName, float] = {}
        self._waiting: frozenset[DocumentName] = frozenset()
        self._asks = 0
        self.ask_at: float | None = None
        """When acceptedDocuments is asked again; None where nothing waits for it."""

    # --- accepted, and yet refused ------------------------------------------------------------------

    def refused(self, document: DocumentName, lane: Lane) -> None:
        """A message of this lane met "not ready"; the next initialisation says whether it is still listed."""
        self._refused.add((document, lane))

    def delivered(self, document: DocumentName) -> None:
        """It works."""
        self._unready.delivered(document)

    def initialised(self, accepted: frozenset[DocumentName], now: float) -> list[tuple[Lane, float]]:
        """What was refused and is listed all the same: the lanes to hold, and until when."""
        lanes: list[tuple[Lane, float]] = []
        for document, lane in self._refused:
            if document not in accepted:
                continue
            times, whole = self._unready.met(document, lane)
            until = now + self._schedule.delay(times, self._chance())
            if whole:
                self._held[document] = until
            else:
                lanes.append((lane, until))
        self._refused.clear()
        return lanes

    def held(self, now: float) -> tuple[frozenset[DocumentName], bool]:
        """The documents held as a whole, and whether one of them was let go just now."""
        over = [document for document, until in self._held.items() if until <= now]
        for document in over:
            del self._held[document]
        return frozenset(self._held), bool(over)

    @property
    def holding(self) -> bool:
        """Whether a document is held as a whole."""
        return bool(self._held)

    @property
    def next_hold_end(self) -> float | None:
        """When the first held document is let go."""
        return min(self._held.values(), default=None)

    def revised(self) -> None:
        """A person acted: nothing is held, and ION may be asked at once."""
        self._held.clear()
        if self.ask_at is not None:
            self.ask_at = 0.0

    # --- not accepted yet -----------------------------------------------------------------------------

    def waiting(self, documents: frozenset[DocumentName], now: float) -> frozenset[DocumentName]:
        """These have messages and are not accepted; the answer is what nobody was told of yet."""
        new = documents - self._waiting
        if not documents:
            self._asks, self.ask_at = 0, None
        elif new:
            self._asks = 0
            self._plan(now)
        self._waiting = documents
        return new

    def is_ask_due(self, now: float) -> bool:
        """Whether it is time to ask again."""
        return self.ask_at is not None and now >= self.ask_at

    def asked(self, now: float) -> None:
        """It was asked; the next time is later."""
        self._asks += 1
        self._plan(now)

    def _plan(self, now: float) -> None:
        self.ask_at = now + self._schedule.delay(self._asks + 1, self._chance())
