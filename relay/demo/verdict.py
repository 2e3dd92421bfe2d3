"""The verdict: what became of every message, and whether anything is wrong.

Pure. It trusts the application (what was enqueued) and the ION simulator (what was taken), and compares the
outbox with both. Instants are epoch seconds of one clock.
"""

import textwrap
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from statistics import median
from typing import Any

from rich.text import Text

from relay.demo.application import Enqueued
from relay.sandbox import Redelivery, Request, TakenMessage

ANSWER_LOST = "its answer was lost"
IN_FLIGHT = "it was in flight at the kill -9"
NOT_SETTLED = "it was answered, but not settled yet, at the kill -9"
UNEXPLAINED = "without a known cause"
_SETTLES_WITHIN = 1.0
"""Seconds: a message that ION took later than this before the kill may not have been settled."""
_IN_TRANSIT = 0.5
"""Seconds: what was in a socket's buffer at the kill reaches the simulator a little later."""
_MAX_SHOWN = 10
_INDENT = 25

Key = tuple[str, str]
"""Tenant and message id."""


# --- evidence -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class OutboxRow:
    """A message's state in the outbox."""

    state: str
    reason: str | None = None
    settled_at: float | None = None


@dataclass(frozen=True, slots=True)
class FaultPeriod:
    """A fault that was active from `begin` to `end`. `tenant` None: for all; `kind`: its colour."""

    tenant: str | None
    kind: str
    text: str
    begin: float
    end: float


@dataclass(frozen=True, slots=True)
class StatePeriod:
    """A tenant's state from `begin` to `end`."""

    tenant: str
    state: str
    begin: float
    end: float


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that is known. `rows`: by id. `refused`: the keys whose one message ION refuses.

    `unsteady`: tenant and document that were not always accepted, so that they hold up no others.
    `answers`: by call and status how many ION gave. `compressed`: how many messages came compressed.
    """

    began: float
    ended: float
    enqueued: Sequence[Enqueued]
    rows: Mapping[int, OutboxRow]
    taken: Sequence[TakenMessage]
    violations: Sequence[str] = ()
    refused: frozenset[str] = frozenset()
    unsteady: frozenset[tuple[str, str]] = frozenset()
    pings: Sequence[Request] = ()
    answers: Mapping[str, Mapping[str, int]] = field(default_factory=dict[str, Mapping[str, int]])
    compressed: int = 0
    faults: Sequence[FaultPeriod] = ()
    states: Sequence[StatePeriod] = ()
    killed_at: float | None = None
    restarted_at: float | None = None
    problems: Sequence[str] = ()


# --- verdict --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Delivery:
    """A message that arrived, and the seconds from enqueue to custody."""

    message: Enqueued
    seconds: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of all messages. `lost` and the like name messages; `wrong` lists all that must not be.

    `normal`: the deliveries of messages that were enqueued in normal operation, while a relay was running.
    """

    enqueued: int
    delivered: Sequence[Delivery]
    normal: Sequence[Delivery]
    parked: Sequence[tuple[Enqueued, str]]
    sent_twice: Sequence[tuple[Enqueued, str]]
    lost: Sequence[str]
    waiting: Sequence[str]
    altered: Sequence[str]
    out_of_order: Sequence[str]
    pairs_in_order: int
    violations: Sequence[str]
    wrong: Sequence[str] = ()

    @property
    def fine(self) -> bool:
        """Whether nothing is wrong."""
        return not self.wrong

    @property
    def median_seconds(self) -> float:
        """The median delivery, outages included."""
        return _median(self.delivered)

    @property
    def normal_median_seconds(self) -> float:
        """The median delivery in normal operation."""
        return _median(self.normal)

    @property
    def slowest(self) -> Delivery | None:
        """The delivery that took longest."""
        return max(self.delivered, key=lambda one: one.seconds, default=None)


def _median(deliveries: Sequence[Delivery]) -> float:
    return median(one.seconds for one in deliveries) if deliveries else 0.0


def assess(evidence: Evidence) -> Verdict:
    """Compare every message with the record and with the outbox."""
    arrived = {(taken.tenant_id, taken.message_id): taken for taken in evidence.taken}
    delivered, parked, sent_twice, lost, waiting, altered = [], [], [], [], [], []
    for message in evidence.enqueued:
        taken = arrived.get((message.tenant, message.message_id))
        row = evidence.rows.get(message.row, OutboxRow("gone"))
        if taken is not None:
            delivered.append(Delivery(message, taken.at - message.at))
            sent_twice += [(message, why) for why in _explain_redeliveries(taken, evidence.killed_at)]
            if (taken.sha256, taken.document_name) != (message.sha256, message.document):
                altered.append(_name(message))
        if row.state == "parked":
            parked.append((message, row.reason or "no reason"))
        elif row.state == "pending":
            waiting.append(_name(message))
        elif taken is None:
            lost.append(f"{_name(message)} ({row.state} in the outbox, never taken by ION)")
    out_of_order, pairs = find_disorder(evidence.enqueued, arrived, evidence.unsteady)
    normal = [one for one in delivered if _is_in_normal_operation(one.message, evidence)]
    verdict = Verdict(
        len(evidence.enqueued), delivered, normal, parked, sent_twice, lost, waiting, altered,
        out_of_order, pairs, evidence.violations,
    )  # fmt: skip
    return replace(verdict, wrong=tuple(_find_wrong(verdict, evidence, arrived)))


def _is_in_normal_operation(message: Enqueued, evidence: Evidence) -> bool:
    if (message.tenant, message.document) in evidence.unsteady:
        return False
    down = evidence.killed_at is not None and evidence.killed_at <= message.at <= (evidence.restarted_at or 0)
    return not down and not any(
        fault.tenant in {None, message.tenant} and fault.begin <= message.at <= fault.end
        for fault in evidence.faults
    )


def _name(message: Enqueued) -> str:
    return f"{message.document} of {message.key}, {message.tenant}, id {message.message_id}"


def _explain_redeliveries(taken: TakenMessage, killed_at: float | None) -> Iterator[str]:
    before = taken.at
    for again in taken.redeliveries or ():
        yield (
            explain_redelivery(again, before, killed_at)
            or f"{UNEXPLAINED}: before, it was {again.previous_outcome}"
        )
        before = again.at


def explain_redelivery(again: Redelivery, before: float, killed_at: float | None) -> str | None:
    """Why a message was sent again; None without a valid cause. `before`: when it arrived before."""
    if again.previous_outcome.startswith("cut after acceptance"):
        return ANSWER_LOST
    if killed_at is None or not before - _IN_TRANSIT <= killed_at <= again.at:
        return None
    if again.previous_outcome.startswith("answered"):
        return NOT_SETTLED if killed_at - before <= _SETTLES_WITHIN else None
    return IN_FLIGHT


def find_disorder(
    enqueued: Iterable[Enqueued],
    arrived: Mapping[Key, TakenMessage],
    unsteady: frozenset[tuple[str, str]] = frozenset(),
) -> tuple[list[str], int]:
    """Neighbours of one key that arrived in the wrong order, and the number of pairs compared.

    A message that is parked, or whose document was not accepted, holds up no others; those of one such
    document are in order among themselves.
    """
    lanes = defaultdict[tuple[str, ...], list[tuple[Enqueued, TakenMessage]]](list)
    for message in sorted(enqueued, key=lambda one: one.row):
        if (taken := arrived.get((message.tenant, message.message_id))) is not None:
            alone = (message.tenant, message.document) in unsteady
            lanes[message.tenant, message.key, message.document if alone else ""].append((message, taken))
    pairs = [pair for lane in lanes.values() for pair in pairwise(lane)]
    wrong = [
        f"{_name(later)} arrived before {_name(earlier)}"
        for (earlier, first), (later, second) in pairs
        if second.number < first.number
    ]
    return wrong, len(pairs)


def _find_wrong(verdict: Verdict, evidence: Evidence, arrived: Mapping[Key, TakenMessage]) -> Iterator[str]:
    known = {(message.tenant, message.message_id) for message in evidence.enqueued}
    parked = {message.key for message, _ in verdict.parked}
    unexplained = [(one, why) for one, why in verdict.sent_twice if why.startswith(UNEXPLAINED)]
    yield from (f"lost: {text}" for text in verdict.lost)
    yield from (f"not delivered: {text}" for text in verdict.waiting)
    yield from (f"arrived with another content: {text}" for text in verdict.altered)
    yield from (f"out of order: {text}" for text in verdict.out_of_order)
    yield from (f"against the guide's sequence: {text}" for text in verdict.violations)
    yield from (f"parked without a cause: {key}" for key in sorted(parked - evidence.refused))
    yield from (f"refused by ION, but not parked: {key}" for key in sorted(evidence.refused - parked))
    yield from (f"sent again: {_name(message)}: {why}" for message, why in unexplained)
    yield from (f"never enqueued, but taken by ION: {key}" for key in sorted(arrived.keys() - known))
    yield from evidence.problems


# --- summary --------------------------------------------------------------------------------------


def as_json(verdict: Verdict, evidence: Evidence) -> dict[str, Any]:
    """The summary that `relay demo --json` prints. Durations in seconds."""
    slowest = verdict.slowest
    delivered = Counter(one.message.tenant for one in verdict.delivered)
    return {
        "fine": verdict.fine,
        "wrong": list(verdict.wrong),
        "seconds": round(evidence.ended - evidence.began, 1),
        "enqueued": verdict.enqueued,
        "delivered": len(verdict.delivered),
        "parked": [_identify(message) | {"reason": reason} for message, reason in verdict.parked],
        "sent_twice": [_identify(message) | {"why": why} for message, why in verdict.sent_twice],
        "lost": len(verdict.lost),
        "waiting": len(verdict.waiting),
        "altered": len(verdict.altered),
        "out_of_order": len(verdict.out_of_order),
        "pairs_in_order": verdict.pairs_in_order,
        "violations": len(verdict.violations),
        "median_seconds": round(verdict.median_seconds, 4),
        "normal_median_seconds": round(verdict.normal_median_seconds, 4),
        "slowest_seconds": round(slowest.seconds, 3) if slowest else None,
        "slowest": _identify(slowest.message) if slowest else None,
        "compressed": evidence.compressed,
        "pings": len(evidence.pings),
        "answers": {call: dict(by_status) for call, by_status in evidence.answers.items()},
        "tenants": {
            tenant: {"enqueued": number, "delivered": delivered[tenant]}
            for tenant, number in sorted(Counter(one.tenant for one in evidence.enqueued).items())
        },
    }


def _identify(message: Enqueued) -> dict[str, str]:
    return {
        "tenant_id": message.tenant,
        "document_name": message.document,
        "ordering_key": message.key,
        "message_id": message.message_id,
    }


def format_summary(
    verdict: Verdict, evidence: Evidence, files: Mapping[str, object], width: int | None = None
) -> Text:
    """The summary for operators. `files`: what is kept, and where; `width`: columns, None does not wrap."""
    text = Text()
    for number, what, detail in _list_facts(verdict, evidence):
        room = (width or 0) - _INDENT
        wrapped = textwrap.wrap(detail, room) if room >= len(detail) / 4 else [detail]
        text.append(f"\n{number:>9}", style="bold").append(f"  {what:<14}" if detail else f"  {what}")
        text.append(("\n" + " " * _INDENT).join(wrapped), style="dim")
    text.append("\n").append("".join(f"\n{name:>11}  {path}" for name, path in files.items()))
    return text.append("\n\n").append(_conclude(verdict))


def _list_facts(verdict: Verdict, evidence: Evidence) -> Iterator[tuple[object, str, str]]:
    yield verdict.enqueued, "enqueued", f"{evidence.compressed} of them large, sent compressed"
    yield len(verdict.delivered), "delivered", "by ION's own record, byte for byte what was enqueued"
    for message, reason in verdict.parked[:_MAX_SHOWN]:
        yield 1, "parked", f"{message.document} of {message.key}: {reason}"
    for why, count in Counter(why for _, why in verdict.sent_twice).items():
        yield count, "sent twice", f"same id: {why}"
    yield len(verdict.lost), "lost", ""
    yield len(verdict.violations), "violations", "of the guide's sequence, by the conformance checker"
    pairs = f"of {verdict.pairs_in_order} pairs of neighbours of one order number"
    yield len(verdict.out_of_order), "out of order", pairs
    faulty = f"{verdict.median_seconds * 1000:.0f} ms with all the faults"
    normal = f"{verdict.normal_median_seconds * 1000:.0f} ms"
    yield normal, "median", f"from enqueue to ION in normal operation; {faulty}"
    if slowest := verdict.slowest:
        message = slowest.message
        withheld = (message.tenant, message.document) in evidence.unsteady
        why = ", which waited until ION accepted its document" if withheld else ""
        yield f"{slowest.seconds:.1f} s", "slowest", f"{message.document} of {message.key}{why}"
    yield len(evidence.pings), "pings", f"in {evidence.ended - evidence.began:.0f} s, both tenants"


def _conclude(verdict: Verdict) -> Text:
    if verdict.fine:
        fine = "Nothing was lost, nothing was out of order, and every message was delivered or parked."
        return Text(fine, style="bold green")
    counts = Counter(verdict.wrong)
    lines = [
        f"WRONG: {what}" + (f" ({count} times)" if count > 1 else "")
        for what, count in counts.most_common(_MAX_SHOWN)
    ]
    if len(counts) > len(lines):
        lines.append(f"and {len(counts) - len(lines)} more")
    return Text("\n".join(lines), style="bold red")
