"""What became of the messages of a bulk retry since: delivered, parked again, waiting, or no longer there."""

from collections.abc import Sequence
from dataclasses import dataclass

from relay.core.admin import ActionCount, Admin, AuditEntry

LIMIT = 20_000
"""Messages of an action that are counted; the others are not."""

_WORDS = {
    "delivered": "delivered",
    "parked": "parked again",
    "pending": "waiting",
    "dropped": "dropped since",
}


@dataclass(frozen=True, slots=True)
class ActionOutcome:
    """`counts`: in words, in a fixed order, none of them 0. `reasons`: of what is parked, ranked.

    `examined`: how many of the action's messages the counts are of.
    """

    counts: Sequence[tuple[str, int]]
    reasons: Sequence[tuple[str, int]]
    examined: int

    @property
    def is_settled(self) -> bool:
        """Whether nothing of it waits any more."""
        return not any(word == _WORDS["pending"] for word, _ in self.counts)

    @property
    def is_fine(self) -> bool:
        """Whether nothing was parked again."""
        return not any(word == _WORDS["parked"] for word, _ in self.counts)

    @property
    def sentence(self) -> str:
        """One line: "2 delivered, 3 parked again, 1 waiting"."""
        return ", ".join(f"{count:,} {word}" for word, count in self.counts)


async def read_outcome(store: Admin, entry: AuditEntry) -> ActionOutcome | None:
    """None: the entry is no retry, or changed nothing."""
    if entry.what != "retry" or not entry.messages:
        return None
    return outcome_of(entry.messages, await store.outcome(entry.id, LIMIT))


def outcome_of(messages: int, found: Sequence[ActionCount]) -> ActionOutcome:
    """`messages`: that the action changed; of those that are not found the rows were deleted since."""
    by_state: dict[str, int] = {}
    reasons: dict[str, int] = {}
    for one in found:
        by_state[one.state] = by_state.get(one.state, 0) + one.messages
        if one.state == "parked":
            reasons[one.reason] = reasons.get(one.reason, 0) + one.messages
    examined = min(messages, LIMIT)
    counts = [(word, by_state[state]) for state, word in _WORDS.items() if by_state.get(state)]
    gone = examined - sum(by_state.values())
    if gone > 0:
        counts.append(("no longer stored", gone))
    ranked = sorted(reasons.items(), key=lambda pair: (-pair[1], pair[0]))
    return ActionOutcome(counts, ranked, examined)
