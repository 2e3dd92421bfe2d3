"""This file is the verdict: what became of every message, and whether anything is wrong with it.

Pure. It believes the application (what was handed over) and the ION simulator (what was taken), and holds the
outbox against both.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from statistics import median
from typing import Any

from relay.demo.evidence import Again, Enqueued, Evidence, Fate, TakenMessage

_UNKNOWN = Fate("gone")
ANSWER_LOST = "its answer was lost on the way"
UNDER_WAY = "it was under way at the kill -9"
NOT_SETTLED = "it was answered, but not yet settled at the kill -9"
_SETTLES_WITHIN = 1.0
"""Seconds: what ION took so shortly before the relay was killed, the relay may not have settled."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """A message that arrived: how long it took from hand-over to custody, in seconds."""

    message: Enqueued
    seconds: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of it all. `lost` and the like name messages; `wrong` says everything that must not be.

    `fair`: of the delivered ones those that were handed over in normal operation, while a relay was running.
    """

    enqueued: int
    delivered: tuple[Delivery, ...]
    fair: tuple[Delivery, ...]
    parked: tuple[tuple[Enqueued, str], ...]
    sent_twice: tuple[tuple[Enqueued, str], ...]
    lost: tuple[str, ...]
    waiting: tuple[str, ...]
    altered: tuple[str, ...]
    out_of_order: tuple[str, ...]
    pairs_in_order: int
    violations: tuple[str, ...]
    wrong: tuple[str, ...]

    @property
    def fine(self) -> bool:
        """Nothing is wrong."""
        return not self.wrong

    @property
    def median_seconds(self) -> float:
        """The median delivery, outages and all."""
        return _median(self.delivered)

    @property
    def fair_median_seconds(self) -> float:
        """The median delivery in normal operation."""
        return _median(self.fair)

    @property
    def slowest(self) -> Delivery | None:
        """The delivery that took longest."""
        return max(self.delivered, key=lambda one: one.seconds, default=None)


def _median(deliveries: Sequence[Delivery]) -> float:
    return median(one.seconds for one in deliveries) if deliveries else 0.0


def judge(evidence: Evidence) -> Verdict:
    """Look at every message."""
    arrived = {(taken.tenant, taken.message_id): taken for taken in evidence.taken}
    delivered, parked, lost, waiting, altered = [], [], [], [], []
    for message in evidence.handed:
        taken = arrived.get((message.tenant, message.message_id))
        fate = evidence.fates.get(message.row, _UNKNOWN)
        if taken is not None:
            delivered.append(Delivery(message, taken.at - message.at))
            if (taken.sha256, taken.document) != (message.sha256, message.document):
                altered.append(_name(message))
        if fate.state == "parked":
            parked.append((message, fate.reason or "no reason"))
        elif fate.state == "pending":
            waiting.append(_name(message))
        elif taken is None:
            lost.append(f"{_name(message)} ({fate.state} in the outbox, never taken by ION)")
    twice = [(message, why) for message in evidence.handed for why in _whys(message, arrived, evidence)]
    disorder, pairs = _order(evidence, arrived)
    verdict = Verdict(
        len(evidence.handed),
        tuple(delivered),
        tuple(one for one in delivered if _in_normal_operation(one.message, evidence)),
        tuple(parked),
        tuple(twice),
        tuple(lost),
        tuple(waiting),
        tuple(altered),
        disorder,
        pairs,
        evidence.violations,
        (),
    )
    return _with_wrongs(verdict, evidence, arrived)


def _in_normal_operation(message: Enqueued, evidence: Evidence) -> bool:
    if (message.tenant, message.document) in evidence.unsteady:
        return False
    gone = evidence.killed_at is not None and evidence.killed_at <= message.at <= (evidence.restarted_at or 0)
    stormy = (
        faults.tenant in {None, message.tenant} and faults.begin <= message.at <= faults.end
        for faults in evidence.faults
    )
    return not gone and not any(stormy)


def _name(message: Enqueued) -> str:
    return f"{message.document} of {message.key}, {message.tenant}, id {message.message_id}"


# --- sent twice -----------------------------------------------------------------------------------

Arrived = Mapping[tuple[str, str], TakenMessage]


def _whys(message: Enqueued, arrived: Arrived, evidence: Evidence) -> Iterable[str]:
    taken = arrived.get((message.tenant, message.message_id))
    before = taken.at if taken else 0.0
    for again in taken.again if taken else ():
        yield (
            why_again(again, before, evidence.killed_at) or f"nobody knows why: before, it was {again.after}"
        )
        before = again.at


def why_again(again: Again, before: float, killed_at: float | None) -> str | None:
    """Why a message came again, in words; None where nothing excuses it. `before`: when it came before."""
    if again.after.startswith("cut after acceptance"):
        return ANSWER_LOST
    over_the_kill = killed_at is not None and before <= killed_at <= again.at
    if not over_the_kill or killed_at is None:
        return None
    if again.after.startswith("answered"):
        return NOT_SETTLED if killed_at - before <= _SETTLES_WITHIN else None
    return UNDER_WAY


# --- order ----------------------------------------------------------------------------------------


def _order(evidence: Evidence, arrived: Arrived) -> tuple[tuple[str, ...], int]:
    """Neighbours of one key that arrived the wrong way round, and how many pairs were looked at.

    A message that is parked, or whose document is not accepted at the time, holds up nobody; those of one
    document are in order among themselves all the same.
    """
    lanes = defaultdict[tuple[str, ...], list[tuple[Enqueued, TakenMessage]]](list)
    for message in sorted(evidence.handed, key=lambda one: one.row):
        taken = arrived.get((message.tenant, message.message_id))
        if taken is not None:
            unsteady = (message.tenant, message.document) in evidence.unsteady
            lane = (message.tenant, message.key, message.document if unsteady else "")
            lanes[lane].append((message, taken))
    pairs = [pair for lane in lanes.values() for pair in pairwise(lane)]
    wrong = [
        f"{_name(later)} arrived before {_name(earlier)}"
        for (earlier, first), (later, second) in pairs
        if second.number < first.number
    ]
    return tuple(wrong), len(pairs)


# --- what must not be -----------------------------------------------------------------------------


def _with_wrongs(verdict: Verdict, evidence: Evidence, arrived: Arrived) -> Verdict:
    known = {(message.tenant, message.message_id) for message in evidence.handed}
    parked = {message.key for message, _ in verdict.parked}
    wrong = [
        *(f"lost: {text}" for text in verdict.lost),
        *(f"not delivered: {text}" for text in verdict.waiting),
        *(f"arrived with another content: {text}" for text in verdict.altered),
        *(f"out of order: {text}" for text in verdict.out_of_order),
        *(f"against the guide's sequence: {text}" for text in verdict.violations),
        *(f"parked, though nothing was wrong with it: {key}" for key in sorted(parked - evidence.refused)),
        *(f"refused by ION, and yet not parked: {key}" for key in sorted(evidence.refused - parked)),
        *(f"sent again: {_name(message)}: {why}" for message, why in _unexcused(verdict)),
        *(f"never handed over, and yet taken by ION: {key}" for key in sorted(arrived.keys() - known)),
        *evidence.problems,
    ]
    return replace(verdict, wrong=tuple(wrong))


def _unexcused(verdict: Verdict) -> Iterable[tuple[Enqueued, str]]:
    return ((message, why) for message, why in verdict.sent_twice if why.startswith("nobody knows"))


# --- for programs ---------------------------------------------------------------------------------


def as_json(verdict: Verdict, evidence: Evidence) -> dict[str, Any]:
    """The summary that `relay demo --json` prints. Seconds throughout."""
    slowest = verdict.slowest
    return {
        "fine": verdict.fine,
        "wrong": list(verdict.wrong),
        "seconds": round(evidence.ended - evidence.began, 1),
        "handed_over": verdict.enqueued,
        "delivered": len(verdict.delivered),
        "parked": [_shown(message) | {"reason": reason} for message, reason in verdict.parked],
        "sent_twice": [_shown(message) | {"why": why} for message, why in verdict.sent_twice],
        "lost": len(verdict.lost),
        "waiting": len(verdict.waiting),
        "altered": len(verdict.altered),
        "out_of_order": len(verdict.out_of_order),
        "pairs_in_order": verdict.pairs_in_order,
        "violations": len(verdict.violations),
        "median_seconds": round(verdict.median_seconds, 4),
        "fair_median_seconds": round(verdict.fair_median_seconds, 4),
        "slowest_seconds": round(slowest.seconds, 3) if slowest else None,
        "slowest": _shown(slowest.message) if slowest else None,
        "compressed": evidence.compressed,
        "pings": len(evidence.pings),
        "answers": {call: dict(by_status) for call, by_status in evidence.answers.items()},
        "tenants": {
            tenant: {
                "handed_over": sum(message.tenant == tenant for message in evidence.handed),
                "delivered": sum(one.message.tenant == tenant for one in verdict.delivered),
            }
            for tenant in sorted({message.tenant for message in evidence.handed})
        },
    }


def _shown(message: Enqueued) -> dict[str, str]:
    return {
        "tenant_id": message.tenant,
        "document_name": message.document,
        "ordering_key": message.key,
        "message_id": message.message_id,
    }
