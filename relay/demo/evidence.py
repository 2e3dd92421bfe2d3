"""What is known of a demo when it has ended: from the application, the simulator, the outbox.

Pure. Instants are seconds since the epoch, all of this machine's one clock.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Enqueued:
    """A message as the application handed it over. `at`: when its transaction was committed."""

    row: int
    tenant: str
    message_id: str
    document: str
    key: str
    sha256: str
    size: int
    at: float


@dataclass(frozen=True, slots=True)
class Fate:
    """What the outbox says became of a message."""

    state: str
    reason: str | None = None
    settled_at: float | None = None


@dataclass(frozen=True, slots=True)
class Again:
    """A message id that came again. `after`: how the time before had ended."""

    at: float
    after: str


@dataclass(frozen=True, slots=True)
class TakenMessage:
    """A message as the ION simulator took it. `number`: its place in the order of arrival."""

    number: int
    tenant: str
    message_id: str
    document: str
    sha256: str
    at: float
    again: tuple[Again, ...] = ()


@dataclass(frozen=True, slots=True)
class PingSeen:
    """A ping that reached the ION simulator."""

    tenant: str
    at: float
    fine: bool


@dataclass(frozen=True, slots=True)
class FaultPeriod:
    """What went on from `begin` to `end`. `tenant` None: for all. `kind` chooses the colour."""

    tenant: str | None
    kind: str
    text: str
    begin: float
    end: float


@dataclass(frozen=True, slots=True)
class Stretch:
    """A tenant's state from `begin` to `end`."""

    tenant: str
    state: str
    reason: str
    begin: float
    end: float


@dataclass(frozen=True, slots=True)
class Evidence:
    """All of it. `fates`: by row. `refused`: the keys whose one message ION was told to refuse.

    `unsteady`: tenant and document that were not accepted all the time, so that they hold up nobody.
    `answers`: by call and status how many ION gave. `compressed`: how many came so, as ION says.
    """

    began: float
    ended: float
    handed: tuple[Enqueued, ...]
    fates: Mapping[int, Fate]
    taken: tuple[TakenMessage, ...]
    violations: tuple[str, ...]
    refused: frozenset[str] = frozenset()
    unsteady: frozenset[tuple[str, str]] = frozenset()
    pings: tuple[PingSeen, ...] = ()
    answers: Mapping[str, Mapping[str, int]] = field(default_factory=dict[str, Mapping[str, int]])
    compressed: int = 0
    faults: tuple[FaultPeriod, ...] = ()
    stretches: tuple[Stretch, ...] = ()
    killed_at: float | None = None
    restarted_at: float | None = None
    problems: tuple[str, ...] = ()
