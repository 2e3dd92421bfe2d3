"""This file is the summary that ends the demo, for a person."""

import textwrap
from collections import Counter

from rich.text import Text

from relay.demo.evidence import Enqueued, Evidence
from relay.demo.stage import Place
from relay.demo.verdict import Verdict

_MOST_SAID = 10
_INDENT = 25


def text(verdict: Verdict, evidence: Evidence, place: Place, width: int | None = None) -> Text:
    """What became of it all, by the ION simulator's own record; then where the things lie.

    `width`: of the terminal, in columns; None does not wrap.
    """
    shown = Text()
    for number, what, detail in _facts(verdict, evidence):
        shown.append(f"\n{number:>9}", style="bold").append(f"  {what:<14}" if detail else f"  {what}")
        shown.append(_wrapped(detail, width), style="dim")
    shown.append("\n")
    for name, path in (
        ("picture", place.picture),
        ("outbox", place.outbox),
        ("relay's log", place.relay_log),
    ):
        shown.append(f"\n{name:>11}  {path}")
    return shown.append("\n\n").append(_ending(verdict))


def _facts(verdict: Verdict, evidence: Evidence) -> list[tuple[str, str, str]]:
    slowest = verdict.slowest
    twice = Counter(why for _, why in verdict.sent_twice)
    return [
        (str(verdict.enqueued), "handed over", f"{evidence.compressed} of them large, sent compressed"),
        (str(len(verdict.delivered)), "delivered", "by ION's own record, byte for byte what was handed over"),
        *(
            ("1", "parked", f"{message.document} of {message.key}: {reason}")
            for message, reason in verdict.parked[:_MOST_SAID]
        ),
        *((str(count), "sent twice", f"same id, {why}") for why, count in twice.items()),
        (str(len(verdict.lost)), "lost", ""),
        (str(len(verdict.violations)), "violations", "of the guide's sequence, by the sandbox's judge"),
        (
            str(len(verdict.out_of_order)),
            "out of order",
            f"of {verdict.pairs_in_order} neighbours of one order number",
        ),
        (f"{verdict.fair_median_seconds * 1000:.0f} ms", "median", _medians(verdict)),
        (
            f"{slowest.seconds:.1f} s" if slowest else "",
            "slowest",
            _why_slow(slowest.message, evidence) if slowest else "",
        ),
        (str(len(evidence.pings)), "pings", f"in {evidence.ended - evidence.began:.0f} s, both tenants"),
    ]


def _wrapped(detail: str, width: int | None) -> str:
    room = None if width is None else width - _INDENT
    if room is None or room < len(detail) / 4:
        return detail
    return ("\n" + " " * _INDENT).join(textwrap.wrap(detail, room))


def _medians(verdict: Verdict) -> str:
    return (
        f"from enqueue to ION in normal operation; {verdict.median_seconds * 1000:.0f} ms with all the faults"
    )


def _why_slow(message: Enqueued, evidence: Evidence) -> str:
    withheld = (message.tenant, message.document) in evidence.unsteady
    return f"{message.document} of {message.key}" + (", until ION accepted its document" if withheld else "")


def _ending(verdict: Verdict) -> Text:
    if verdict.fine:
        return Text(
            "Nothing was lost, nothing was out of order, and every message has its end.", style="bold green"
        )
    counted = Counter(verdict.wrong)
    shown = [
        f"WRONG: {what}" + (f" ({count} times)" if count > 1 else "")
        for what, count in counted.most_common(_MOST_SAID)
    ]
    more = len(counted) - len(shown)
    return Text("\n".join([*shown, *([f"and {more} more"] if more else [])]), style="bold red")
