"""This file is the judgement of the scale demo: what the sandbox took, held against what was handed over.

Pure. Instants are seconds since the epoch, all of this machine's one clock.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import median
from typing import Literal

from relay.demo.evidence import Again
from relay.demo.verdict import why_again
from relay.sandbox import TakenMessage

UNEXPLAINED = "nobody knows why"
_ON_THE_WIRE = 0.5
"""Seconds: what stood in a socket's buffer at a SIGKILL or SIGSTOP reaches the sandbox a little later."""


@dataclass(frozen=True, slots=True)
class Sent:
    """A message as the application handed it over. `at`: when its transaction was committed."""

    row: int
    tenant: str
    key: str
    message_id: str
    at: float


@dataclass(frozen=True, slots=True)
class Move:
    """A replica began to carry a tenant, or ceased to; `tenant` None: it carries nothing any more."""

    at: float
    replica: str
    tenant: str | None
    begins: bool


@dataclass(frozen=True, slots=True)
class Hold:
    """A replica carried a tenant from `begin` to `end`."""

    tenant: str
    replica: str
    begin: float
    end: float


@dataclass(frozen=True, slots=True)
class Outage:
    """A replica that carried these tenants did nothing from `begin` to `end`."""

    how: Literal["killed", "frozen"]
    replica: str
    tenants: frozenset[str]
    begin: float
    end: float = float("inf")


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that is known in the end. `unsettled`: rows that the outbox does not call delivered."""

    began: float
    ended: float
    tenants: int
    handed: Sequence[Sent]
    taken: Sequence[TakenMessage]
    violations: Sequence[str]
    moves: Sequence[Move]
    outages: Sequence[Outage]
    marks: Sequence[tuple[float, str]]
    unsettled: int
    problems: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of it all; `wrong` says everything that must not be.

    `takeovers`: for each outage, the seconds until another replica had taken each tenant.
    """

    delivered: int
    lost: int
    pairs: int
    twice: Mapping[str, int]
    takeovers: Sequence[tuple[Outage, Sequence[float]]]
    holds: Sequence[Hold]
    slowest: float
    usual: float
    wrong: Sequence[str] = field(default_factory=tuple[str, ...])


def judge(evidence: Evidence) -> Verdict:
    """Look at every message and every tenant that changed hands."""
    arrived = {(taken.tenant_id, taken.message_id): taken for taken in evidence.taken}
    lost = [sent for sent in evidence.handed if (sent.tenant, sent.message_id) not in arrived]
    delays = [
        arrived[sent.tenant, sent.message_id].at - sent.at
        for sent in evidence.handed
        if (sent.tenant, sent.message_id) in arrived
    ]
    disorder, pairs = _order(evidence.handed, arrived)
    twice = Counter(why for taken in evidence.taken for why in _whys(taken, evidence.outages))
    holds, together = _holds(evidence)
    takeovers = [(outage, _takeovers(outage, evidence.moves)) for outage in evidence.outages]
    known = {(sent.tenant, sent.message_id) for sent in evidence.handed}
    wrong = [
        *(f"lost: {sent.message_id} of {sent.tenant} {sent.key}" for sent in lost),
        *disorder,
        *(f"against the guide's sequence: {text}" for text in evidence.violations),
        *(f"never handed over, and yet taken: {key}" for key in sorted(arrived.keys() - known)),
        *(f"came again with another content: {one.message_id}" for one in evidence.taken if one.changed),
        *(
            _unexplained(taken, evidence.began)
            for taken in evidence.taken
            if UNEXPLAINED in _whys(taken, evidence.outages)
        ),
        *together,
        *(
            f"not taken over: {len(outage.tenants) - len(seconds)} tenants of {outage.replica}, {outage.how}"
            for outage, seconds in takeovers
            if len(seconds) < len(outage.tenants)
        ),
        *([f"{evidence.unsettled} rows are not settled"] if evidence.unsettled else []),
        *evidence.problems,
    ]
    return Verdict(
        len(delays), len(lost), pairs, twice, takeovers, holds,
        max(delays, default=0.0), median(delays) if delays else 0.0, wrong,
    )  # fmt: skip


def held_by(replica: str, moves: Iterable[Move]) -> frozenset[str]:
    """The tenants that it carries after these moves: what it took, and nobody took since."""
    owners: dict[str, str] = {}
    for move in sorted(moves, key=lambda move: move.at):
        if move.begins and move.tenant is not None:
            owners[move.tenant] = move.replica
        else:
            for tenant in [move.tenant] if move.tenant is not None else list(owners):
                if owners.get(tenant) == move.replica:
                    del owners[tenant]
    return frozenset(tenant for tenant, owner in owners.items() if owner == replica)


# --- sent twice ----------------------------------------------------------------------------------------


def _whys(taken: TakenMessage, outages: Sequence[Outage]) -> Iterator[str]:
    before = taken.at
    for again in taken.redeliveries or ():
        came = Again(again.at, again.previous_outcome)
        found = (_why(came, before, outage) for outage in outages if taken.tenant_id in outage.tenants)
        yield next(filter(None, found), UNEXPLAINED)
        before = again.at


def _unexplained(taken: TakenMessage, began: float) -> str:
    """With its instants, in seconds since the beginning."""
    times = [f"{taken.at - began:.2f} s"]
    times += [
        f"{again.at - began:.2f} s (before: {again.previous_outcome})" for again in taken.redeliveries or ()
    ]
    return f"sent twice, {UNEXPLAINED}: {taken.message_id} of {taken.tenant_id} at {', '.join(times)}"


def _why(again: Again, before: float, outage: Outage) -> str | None:
    """As the first demo judges its kill; a freeze leaves the same things unsettled."""
    if outage.begin < before <= outage.begin + _ON_THE_WIRE:
        before = outage.begin
    why = why_again(again, before, outage.begin)
    frozen = why is not None and outage.how == "frozen"
    return "it was sent, but not yet settled, when its replica froze" if frozen else why


# --- order ---------------------------------------------------------------------------------------------


def _order(handed: Iterable[Sent], arrived: Mapping[tuple[str, str], TakenMessage]) -> tuple[list[str], int]:
    """Neighbours of one key that arrived the wrong way round, and how many pairs were looked at."""
    lanes = defaultdict[tuple[str, str], list[tuple[Sent, TakenMessage]]](list)
    for sent in sorted(handed, key=lambda one: one.row):
        if (taken := arrived.get((sent.tenant, sent.message_id))) is not None:
            lanes[sent.tenant, sent.key].append((sent, taken))
    pairs = [pair for lane in lanes.values() for pair in pairwise(lane)]
    wrong = [
        f"out of order: {later.message_id} arrived before {earlier.message_id}, {later.tenant} {later.key}"
        for (earlier, first), (later, second) in pairs
        if second.number < first.number
    ]
    return wrong, len(pairs)


# --- who carried what ----------------------------------------------------------------------------------


def _holds(evidence: Evidence) -> tuple[list[Hold], list[str]]:
    """Every stretch, and what was carried by two living replicas at a time."""
    holds: list[Hold] = []
    together: list[str] = []
    held: dict[str, tuple[str, float]] = {}

    def close(tenant: str, at: float) -> None:
        replica, begin = held.pop(tenant)
        holds.append(Hold(tenant, replica, begin, at))

    for move in sorted(evidence.moves, key=lambda move: move.at):
        if move.begins and move.tenant is not None:
            if move.tenant in held:
                owner = held[move.tenant][0]
                if owner != move.replica and not _is_out(owner, move.at, evidence.outages):
                    together.append(f"{move.tenant} was taken by {move.replica} while {owner} carried it")
                close(move.tenant, move.at)
            held[move.tenant] = (move.replica, move.at)
        else:
            for tenant in [move.tenant] if move.tenant is not None else list(held):
                if tenant in held and held[tenant][0] == move.replica:
                    close(tenant, move.at)
    for tenant in list(held):
        close(tenant, evidence.ended)
    return holds, together


def _is_out(replica: str, at: float, outages: Iterable[Outage]) -> bool:
    return any(one.replica == replica and one.begin <= at <= one.end for one in outages)


def _takeovers(outage: Outage, moves: Iterable[Move]) -> list[float]:
    """Seconds from the outage' begin until another replica had each of its tenants; sorted."""
    first: dict[str, float] = {}
    for move in sorted(moves, key=lambda move: move.at):
        is_by_another = move.begins and move.replica != outage.replica and move.at >= outage.begin
        if is_by_another and move.tenant in outage.tenants:
            first.setdefault(move.tenant, move.at - outage.begin)
    return sorted(first.values())
