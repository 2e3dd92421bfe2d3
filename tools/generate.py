"""This file is what writes the pages that are made from the code: settings, metrics, run book and others.

    python -m tools.generate

Writes docs/settings.md, docs/what-happens-when.md, docs/runbook.md, docs/log.md, docs/metrics.md and the
operators' table of README.md (between its two markers). Ends with 1, and says which, if a page
that git knows was not up to date.
"""

import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from relay.config.reference import setting_lines
from relay.core import protocol
from relay.observability import error_codes, metrics
from tools.events import EVENTS

ROOT = Path(__file__).resolve().parent.parent
BEGIN, END = "<!-- what-happens-when: begin -->", "<!-- what-happens-when: end -->"
NOTE = "<!-- Written by `make docs` from {source}; edit it there. -->\n\n"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(_cell(cell) for cell in line) + " |\n" for line in lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", "<br>")


def what_happens_when() -> str:
    """The whole behaviour, a row an answer, in the words of `relay.protocol.ROWS`."""
    head = (
        "ION answers",
        "`kind` in the log",
        "to ping, versions, acceptedDocuments",
        "to a message",
        "the message",
        "the fault is",
        "what to do",
    )
    return table(
        head,
        (
            (
                row.answer,
                f"`{row.name}`",
                row.opening.value,
                row.posting.value,
                row.fate.value,
                row.fault.value,
                row.hint,
            )
            for row in protocol.ROWS
        ),
    )


def what_happens_to_a_message() -> str:
    """The same in short, for the README: what an answer to a message does to it."""
    head = ("ION answers", "then the relay goes on with", "the message", "what to do")
    answers = (row for row in protocol.ROWS if row.posting is not protocol.Posting.NEVER)
    return table(head, ((row.answer, row.posting.value, row.fate.value, row.hint) for row in answers))


def what_happens_when_page() -> str:
    """docs/what-happens-when.md."""
    sources = table(("ION answers", "source"), ((row.answer, row.source) for row in protocol.ROWS))
    return (
        NOTE.format(source="relay/core/protocol.py")
        + "# What happens when\n\n"
        + "What the relay does with each answer, and what becomes of the message. A message that waits keeps "
        + "its id and its place; nothing is dropped.\n\n"
        + what_happens_when()
        + "\nPauses grow from failure to failure, up to the longest (`RELAY_RETRY__MAX_SECONDS`); only a "
        + "delivery resets them. `Retry-After` lengthens a pause, up to an hour, and never shortens it.\n\n"
        + "## Where each row comes from\n\n"
        + "[G] ION Connect developer guide · [S] Infor's IMS v3 sample code · [R] this relay's own rule "
        + "where the sources are silent.\n\n"
        + sources
    )


def settings_page() -> str:
    """docs/settings.md, from `relay.config.reference.setting_lines()`."""
    rows = (
        (f"`{line.name}`", f"`{line.default}`" if line.default else "", line.meaning)
        for line in setting_lines()
    )
    return (
        NOTE.format(source="relay/config/sections.py")
        + "# Settings\n\n"
        + "As environment variables, in `.env`, or in `relay.toml` (nested by `__`, in lower case: "
        + "`RELAY_LOG__LEVEL` is `level` under `[log]`). `<TENANT>` is the tenant's id, in upper case. "
        + "`relay check` reads them, names everything that is wrong with them, and the mend.\n\n"
        + table(("variable", "default", "meaning"), rows)
    )


def runbook_page() -> str:
    """docs/runbook.md, from `relay.codes.CODES`."""
    rows = (
        (
            _link(code.code),
            code.title,
            "<br>".join(
                [*(f"kind `{kind}`" for kind in code.kinds), *(f"`{event}`" for event in code.events)]
            ),
        )
        for code in error_codes.CODES
    )
    return (
        NOTE.format(source="relay/observability/error_codes.py")
        + "# The run book\n\n"
        + "Every warning and error in the log carries a `code`; each has a page that says what happened, "
        + "what the relay does now, what you may do, and how you know that it is over. "
        + "`relay explain RELAY-101` prints it, also in a container; `relay explain` lists them. "
        + "A code keeps its meaning for ever.\n\n"
        + table(("code", "what", "in the log"), rows)
    )


def log_page() -> str:
    """docs/log.md, from `tools.events.EVENTS`."""
    lines = [(event, event.line()) for event in EVENTS]
    rows = (
        (f"`{event.name}`", event.level, _link(json.loads(line).get("code")), event.meaning)
        for event, line in lines
    )
    samples = (
        f"`{event.name}`, {event.level}: {event.meaning}.\n\n```json\n{line}\n```\n\n"
        for event, line in lines
    )
    return (
        NOTE.format(source="tools/events.py")
        + "# The log, line by line\n\n"
        + "Every event, and a sample of each as `RELAY_LOG__FORMAT=json` writes it. How to read them: "
        + "[operating.md](operating.md#the-log). What to do about a code: its page, or `relay explain`. "
        + "Codes of troubles follow from their `kind`: [runbook.md](runbook.md).\n\n"
        + table(("event", "level", "code", "what happened"), rows)
        + "\n## Samples\n\n"
        + "".join(samples).rstrip("\n")
        + "\n"
    )


def _link(code: str | None) -> str:
    return "" if code is None else f"[{code}](../relay/observability/runbook/{code}.md)"


def readme(text: str) -> str:
    """README.md with the operators' table between the markers; as it is where they are missing."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        return text
    return f"{before}{BEGIN}\n\n{what_happens_to_a_message()}\n{END}{after}"


def metrics_page() -> str:
    """docs/metrics.md, from `relay.metrics.Meters`."""
    rows = (
        (f"`{family.name}`", family.kind, ", ".join(f"`{label}`" for label in family.labels), family.meaning)
        for family in metrics.Meters().families
    )
    return (
        NOTE.format(source="relay/observability/metrics.py")
        + "# Metrics\n\n"
        + "At `/metrics` of `RELAY_WEB__LISTEN`, as Prometheus text or as OpenMetrics; where tokens are set, "
        + "a reader's suffices. A scrape reads memory alone: the outbox is looked at every five seconds, or "
        + "less often where a look takes long. Prometheus' own metrics of a process (`process_…`, `python_…`)"
        + " are there too.\n\n"
        + "Relays that share an outbox show its gauges alike: aggregate them with `max`, such as "
        + "`max by (tenant) (relay_oldest_due_seconds)`. What a relay counts itself is added up with `sum`. "
        + "Tenants beyond `RELAY_WEB__TENANT_LABELS` are added up as `other`; the series of a tenant go when "
        + "the settings no longer name it.\n\n"
        + "Alerts: [deploy/prometheus/alerts.yml](../deploy/prometheus/alerts.yml), each with its page of "
        + "the [run book](runbook.md). A dashboard for Grafana: "
        + "[deploy/grafana/relay.json](../deploy/grafana/relay.json).\n\n"
        + table(("metric", "type", "labels", "meaning"), rows)
    )


def pages() -> dict[Path, str]:
    """Each generated page as it should be."""
    front = ROOT / "README.md"
    found = {
        ROOT / "docs" / "settings.md": settings_page(),
        ROOT / "docs" / "runbook.md": runbook_page(),
        ROOT / "docs" / "metrics.md": metrics_page(),
        ROOT / "docs" / "log.md": log_page(),
        ROOT / "docs" / "what-happens-when.md": what_happens_when_page(),
    }
    return found | ({front: readme(front.read_text())} if front.exists() else {})


def main() -> int:
    """Write what has changed."""
    stale = [path for path, text in pages().items() if not path.exists() or path.read_text() != text]
    for path in stale:
        path.parent.mkdir(exist_ok=True)
        path.write_text(pages()[path])
        print(f"{path.relative_to(ROOT)} was not up to date; it is written anew")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
