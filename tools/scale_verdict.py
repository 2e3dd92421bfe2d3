"""The verdict of the scale demo: compares what the ION simulator took with what was enqueued.

Pure. Instants are epoch seconds of one clock.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Literal

from relay.demo.application import Enqueued
from relay.demo.verdict import UNEXPLAINED, explain_redelivery, find_disorder
from relay.sandbox import Redelivery, TakenMessage


@dataclass(frozen=True, slots=True)
class Move:
    """A replica became the owner of a tenant, or ceased to be. `tenant` None: it owns none any longer."""

    at: float
    replica: str
    tenant: str | None
    begins: bool


@dataclass(frozen=True, slots=True)
class Ownership:
    """A replica owned a tenant from `begin` to `end`."""

    tenant: str
    replica: str
    begin: float
    end: float


@dataclass(frozen=True, slots=True)
class Outage:
    """The owner of these tenants was killed or frozen from `begin` to `end`."""

    how: Literal["killed", "frozen"]
    replica: str
    tenants: frozenset[str]
    begin: float
    end: float = float("inf")


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that is known. `unsettled`: the number of rows that are not delivered in the outbox."""

    began: float
    ended: float
    tenants: int
    enqueued: Sequence[Enqueued]
    taken: Sequence[TakenMessage]
    violations: Sequence[str]
    moves: Sequence[Move]
    outages: Sequence[Outage]
    marks: Sequence[tuple[float, str]]
    unsettled: int
    problems: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of all messages; `wrong` lists all that must not be.

    `takeovers`: for each outage, the seconds until another replica had taken each tenant.
    """

    delivered: int
    lost: int
    pairs: int
    twice: Mapping[str, int]
    takeovers: Sequence[tuple[Outage, Sequence[float]]]
    ownerships: Sequence[Ownership]
    slowest: float
    median: float
    wrong: Sequence[str] = field(default_factory=tuple[str, ...])


def assess(evidence: Evidence) -> Verdict:
    """Check every message and every change of ownership."""
    arrived = {(taken.tenant_id, taken.message_id): taken for taken in evidence.taken}
    lost = [sent for sent in evidence.enqueued if (sent.tenant, sent.message_id) not in arrived]
    delays = [
        arrived[sent.tenant, sent.message_id].at - sent.at
        for sent in evidence.enqueued
        if (sent.tenant, sent.message_id) in arrived
    ]
    disorder, pairs = find_disorder(evidence.enqueued, arrived)
    twice = Counter(why for taken in evidence.taken for why in _explain(taken, evidence.outages))
    ownerships, conflicts = _find_ownerships(evidence)
    takeovers = [(outage, _measure_takeovers(outage, evidence.moves)) for outage in evidence.outages]
    known = {(sent.tenant, sent.message_id) for sent in evidence.enqueued}
    wrong = [
        *(f"lost: {sent.message_id} of {sent.tenant} {sent.key}" for sent in lost),
        *(f"out of order: {text}" for text in disorder),
        *(f"against the guide's sequence: {text}" for text in evidence.violations),
        *(f"never enqueued, but taken: {key}" for key in sorted(arrived.keys() - known)),
        *(f"came again with another content: {one.message_id}" for one in evidence.taken if one.changed),
        *(
            _describe_unexplained(taken, evidence.began)
            for taken in evidence.taken
            if UNEXPLAINED in _explain(taken, evidence.outages)
        ),
        *conflicts,
        *(
            f"not taken over: {len(outage.tenants) - len(seconds)} tenants of {outage.replica}, {outage.how}"
            for outage, seconds in takeovers
            if len(seconds) < len(outage.tenants)
        ),
        *([f"{evidence.unsettled} rows are not settled"] if evidence.unsettled else []),
        *evidence.problems,
    ]
    return Verdict(
        len(delays), len(lost), pairs, twice, takeovers, ownerships,
        max(delays, default=0.0), median(delays) if delays else 0.0, wrong,
    )  # fmt: skip


def list_owned(replica: str, moves: Iterable[Move]) -> frozenset[str]:
    """The tenants that a replica owns after these moves: taken by it, and by no other since."""
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


def _explain(taken: TakenMessage, outages: Sequence[Outage]) -> Iterator[str]:
    before = taken.at
    for again in taken.redeliveries or ():
        causes = (_find_cause(again, before, one) for one in outages if taken.tenant_id in one.tenants)
        yield next(filter(None, causes), UNEXPLAINED)
        before = again.at


def _describe_unexplained(taken: TakenMessage, began: float) -> str:
    times = [f"{taken.at - began:.2f} s"]
    times += [
        f"{again.at - began:.2f} s (before: {again.previous_outcome})" for again in taken.redeliveries or ()
    ]
    return f"sent twice, {UNEXPLAINED}: {taken.message_id} of {taken.tenant_id} at {', '.join(times)}"


def _find_cause(again: Redelivery, before: float, outage: Outage) -> str | None:
    """As `relay demo` explains its kill; a freeze leaves the same things unsettled."""
    cause = explain_redelivery(again, before, outage.begin)
    frozen = cause is not None and outage.how == "frozen"
    return "it was sent, but not settled yet, when its replica froze" if frozen else cause


# --- ownership ----------------------------------------------------------------------------------


def _find_ownerships(evidence: Evidence) -> tuple[list[Ownership], list[str]]:
    """Every ownership, and the tenants that two running replicas owned at the same time."""
    ownerships: list[Ownership] = []
    conflicts: list[str] = []
    owners: dict[str, tuple[str, float]] = {}

    def close(tenant: str, at: float) -> None:
        replica, begin = owners.pop(tenant)
        ownerships.append(Ownership(tenant, replica, begin, at))

    for move in sorted(evidence.moves, key=lambda move: move.at):
        if move.begins and move.tenant is not None:
            if move.tenant in owners:
                owner = owners[move.tenant][0]
                if owner != move.replica and not _is_out(owner, move.at, evidence.outages):
                    conflicts.append(f"{move.tenant} was taken by {move.replica} while {owner} owned it")
                close(move.tenant, move.at)
            owners[move.tenant] = (move.replica, move.at)
        else:
            for tenant in [move.tenant] if move.tenant is not None else list(owners):
                if tenant in owners and owners[tenant][0] == move.replica:
                    close(tenant, move.at)
    for tenant in list(owners):
        close(tenant, evidence.ended)
    return ownerships, conflicts


def _is_out(replica: str, at: float, outages: Iterable[Outage]) -> bool:
    return any(one.replica == replica and one.begin <= at <= one.end for one in outages)


def _measure_takeovers(outage: Outage, moves: Iterable[Move]) -> list[float]:
    """Seconds from the beginning of the outage until another replica owned each of its tenants; sorted."""
    first: dict[str, float] = {}
    for move in sorted(moves, key=lambda move: move.at):
        by_another = move.begins and move.replica != outage.replica and move.at >= outage.begin
        if by_another and move.tenant in outage.tenants:
            first.setdefault(move.tenant, move.at - outage.begin)
    return sorted(first.values())
