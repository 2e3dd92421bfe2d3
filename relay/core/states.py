"""The states of a tenant's delivery, each of them the next action, and how concurrent answers are joined.

Which answer leads to which state is decided in `protocol.py`.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import assert_never

from relay.core.model import DocumentName


@dataclass(frozen=True, slots=True)
class Streak:
    """What failed in a row; only a delivery launched after the last failure resets it.

    `failures` decides the next pause; `rejected` counts messages that ION refused and the relay parked.
    `kind` and `reason`: of the last failure, which is what operators read until the next delivery.
    """

    failures: int = 0
    rejected: int = 0
    kind: str = field(default="", compare=False)
    reason: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Initialise:
    """Ping, versions, acceptedDocuments: the guide's preparation."""

    streak: Streak = Streak()


@dataclass(frozen=True, slots=True)
class Ping:
    """Ping and versions: the start of a send cycle. The accepted documents are known already."""

    accepted: frozenset[DocumentName]
    streak: Streak = Streak()


@dataclass(frozen=True, slots=True)
class Send:
    """Post one message after the other, without a ping between."""

    accepted: frozenset[DocumentName]
    streak: Streak = Streak()


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait before `then`: the retry delay for its failures (or the longest), at least `at_least` seconds.

    `kind`: the name of the row that asked for it. `reason`: the answer in words.
    """

    then: Initialise | Ping
    kind: str
    reason: str
    at_least: float = 0.0
    longest: bool = False


@dataclass(frozen=True, slots=True)
class Halt:
    """Send nothing until corrected; `until_resumed`: until an operator resumes the tenant.

    `kind`: the name of the row that asked for it. `reason`: why, in words.
    """

    kind: str
    reason: str
    streak: Streak = Streak()
    until_resumed: bool = False


State = Initialise | Ping | Send | Pause | Halt


def worst(states: Iterable[State]) -> State:
    """Join the states that concurrent answers ask for: farthest back, longest pause, as one failure."""
    ranked = sorted(states, key=_distance)
    last, streak = ranked[-1], _longest_streak(ranked)
    if isinstance(last, Halt):
        return replace(last, streak=streak)
    then = replace(last.then if isinstance(last, Pause) else last, streak=streak)
    pauses = [state for state in ranked if isinstance(state, Pause)]
    if not pauses:
        return then
    assert not isinstance(then, Send), "a pause ranks above Send"
    at_least = max(pause.at_least for pause in pauses)
    last_pause = pauses[-1]
    is_longest = any(pause.longest for pause in pauses)
    return Pause(then, last_pause.kind, last_pause.reason, at_least, is_longest)


def _longest_streak(states: Iterable[State]) -> Streak:
    """A delivery among them was launched before the failure, so it resets nothing."""
    streaks = [state.then.streak if isinstance(state, Pause) else state.streak for state in states]
    failed = max(streaks, key=lambda streak: streak.failures)
    return replace(failed, rejected=max(streak.rejected for streak in streaks))


def _distance(state: State) -> int:
    match state:
        case Send():
            return 0
        case Ping():
            return 1
        case Initialise():
            return 2
        case Pause(then=then):
            return _distance(then)
        case Halt(until_resumed=until_resumed):
            return 4 if until_resumed else 3
        case _:
            assert_never(state)
