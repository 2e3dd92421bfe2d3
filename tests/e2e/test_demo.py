"""The demo as a process; and its verdict, which must notice everything that is wrong."""

import contextlib
import json
import os
import pty
import re
import signal
import sqlite3
import subprocess
import sys
import termios
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from relay.demo import workload
from relay.demo.application import Enqueued
from relay.demo.screen import draw_bars
from relay.demo.timeline import draw
from relay.demo.verdict import (
    ANSWER_LOST,
    IN_FLIGHT,
    NOT_SETTLED,
    Evidence,
    FaultPeriod,
    OutboxRow,
    as_json,
    assess,
    explain_redelivery,
    format_summary,
)
from relay.sandbox import Redelivery, TakenMessage

ROOT = Path(__file__).resolve().parents[2]
SVG = "{http://www.w3.org/2000/svg}"


def start(*arguments: str) -> subprocess.Popen[str]:
    """`relay demo`, piped, without settings from elsewhere."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("RELAY_")}
    return subprocess.Popen(
        [sys.executable, "-m", "relay", "demo", *arguments],
        cwd=ROOT,
        env=own,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def read_relay_pid(folder: Path) -> int:
    """The process id that the relay left in the folder."""
    return int((folder / "outbox.db.lock").read_text().split()[0])


# --- a whole run ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Run:
    """A demo that has ended."""

    code: int
    out: str
    err: str
    folder: Path

    @property
    def summary(self) -> dict[str, Any]:
        """Its summary as JSON."""
        found: dict[str, Any] = json.loads((self.folder / "summary.json").read_text())
        return found


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("demo") / "new"
    with start("--directory", str(folder)) as process:
        out, err = process.communicate(timeout=120)
    return Run(process.returncode, out, err, folder)


def test_nothing_is_wrong_and_the_exit_code_is_0(demo: Run) -> None:
    assert (demo.summary["wrong"], demo.code, demo.err) == ([], 0, "")
    assert "Nothing was lost" in demo.out


def test_it_takes_less_than_a_minute(demo: Run) -> None:
    assert demo.summary["seconds"] < 60


def test_every_message_is_delivered_except_the_one_that_ion_refuses(demo: Run) -> None:
    summary = demo.summary
    assert summary["enqueued"] == summary["delivered"] + 1 > 200
    (parked,) = summary["parked"]
    assert parked["ordering_key"] == workload.REFUSED
    assert "supplier S-0815 is blocked" in parked["reason"]
    nothing = ("lost", "waiting", "altered", "out_of_order", "violations")
    assert [summary[name] for name in nothing] == [0] * len(nothing)
    assert summary["pairs_in_order"] > 50


def test_every_fault_was_applied(demo: Run) -> None:
    """The relay got every answer that the demo reports; which call meets the revoked token is open."""
    answers = demo.summary["answers"]
    assert {"0", "202", "400", "412", "503"} <= answers["post"].keys()
    assert {"200", "503"} <= answers["ping"].keys()
    assert {"200", "412"} <= answers["acceptedDocuments"].keys()
    assert sum(of_call.get("401", 0) for of_call in answers.values()) >= 1
    assert answers["token"] == {"200": 3}, "at the start, after the revocation, after the kill"


def test_the_documents_of_8_kib_and_more_went_compressed(demo: Run) -> None:
    with closing(sqlite3.connect(demo.summary["outbox"])) as connection:
        query = "SELECT count(*) FROM relay_outbox WHERE length(payload) >= 8192 AND state = 'delivered'"
        (large,) = connection.execute(query).fetchone()
    assert demo.summary["compressed"] == large > 20


def test_every_redelivery_has_a_cause_and_the_lost_answer_is_one(demo: Run) -> None:
    causes = Counter(one["why"] for one in demo.summary["sent_twice"])
    assert causes[ANSWER_LOST] == 1
    assert set(causes) <= {ANSWER_LOST, IN_FLIGHT, NOT_SETTLED}
    assert len(causes) > 1, "the kill came while posts were in flight"


def test_the_outbox_agrees_with_the_summary(demo: Run) -> None:
    with closing(sqlite3.connect(demo.summary["outbox"])) as connection:
        states = dict(connection.execute("SELECT state, count(*) FROM relay_outbox GROUP BY state"))
    assert states == {"delivered": demo.summary["delivered"], "parked": 1}


def test_the_printed_summary_agrees_with_the_json(demo: Run) -> None:
    facts = {
        "enqueued": demo.summary["enqueued"],
        "delivered": demo.summary["delivered"],
        "lost": 0,
        "violations": 0,
        "out of order": 0,
        "pings": demo.summary["pings"],
    }
    printed = {
        name: int(found[1])
        for name in facts
        if (found := re.search(rf"^ +(\d+)  {name}(?: |$)", demo.out, re.MULTILINE))
    }
    assert printed == facts
    assert sum(map(int, re.findall(r"^ +(\d+)  sent twice ", demo.out, re.MULTILINE))) == len(
        demo.summary["sent_twice"]
    )


def test_piped_it_prints_plain_lines_for_each_chapter(demo: Run) -> None:
    assert "\x1b" not in demo.out
    chapters = ("Normal operation", "Outage", "delivered meanwhile", "answer is lost", "refuses with 400", "revoked", "off the connection point", "those wait", "active again",
            "kill -9", "Started again", "adds Sync.Invoice")  # fmt: skip
    assert [words for words in chapters if words not in demo.out] == []


def test_during_the_outage_there_were_few_pings_at_growing_intervals(demo: Run) -> None:
    found = re.search(r"ION is back: (\d+) pings, ([\d.]+) s apart, growing to ([\d.]+) s", demo.out)
    assert found is not None
    assert int(found[1]) <= 12
    assert float(found[3]) > float(found[2])


def test_no_process_is_left(demo: Run) -> None:
    assert not is_alive(read_relay_pid(demo.folder))


def test_the_picture_is_one_well_formed_file_with_everything_that_happened(demo: Run) -> None:
    text = (demo.folder / "timeline.svg").read_text()
    root = ET.fromstring(text)
    assert (root.tag, text.count("http")) == (f"{SVG}svg", 1), "nothing is fetched from elsewhere"
    messages = [title.text or "" for title in root.iterfind(f"{SVG}g/{SVG}title")]
    assert len(messages) == demo.summary["enqueued"]
    assert sum("delivered after" in title for title in messages) == demo.summary["delivered"]
    words = {text.text for text in root.iterfind(f".//{SVG}text")}
    events = {"outage: 503", "answer lost", "refused: 400", "token revoked", "Sync.Shipment withdrawn",
              "connection point off", "kill -9", "started again", "parked", "ACME_PRD", "GLOBEX_TST"}  # fmt: skip
    assert events <= words
    rings = [circle for circle in root.iterfind(f".//{SVG}g/{SVG}circle") if circle.get("fill") == "none"]
    assert len(rings) == len(demo.summary["sent_twice"])


def test_an_earlier_demo_is_not_overwritten(demo: Run) -> None:
    with start("--directory", str(demo.folder)) as process:
        _, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "holds an earlier demo" in err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_a_signal_ends_it_cleanly_with_the_relay(tmp_path: Path, number: signal.Signals) -> None:
    """Also a second one does not disturb the clean-up."""
    with start("--directory", str(tmp_path)) as process:
        end = time.monotonic() + 60
        while not delivered(tmp_path / "outbox.db"):
            assert time.monotonic() < end, "nothing was delivered"
            time.sleep(0.05)
        relay = read_relay_pid(tmp_path)
        assert is_alive(relay)
        process.send_signal(number)
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, "Traceback" in out + err) == (130, False)
    assert str(tmp_path) in err
    assert not is_alive(relay)


def test_on_a_terminal_a_table_shows_each_tenant_live(tmp_path: Path) -> None:
    ours, its = pty.openpty()
    termios.tcsetwinsize(its, (40, 130))
    own = {name: value for name, value in os.environ.items() if not name.startswith("RELAY_")}
    command = [sys.executable, "-m", "relay", "demo", "--directory", str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, env=own | {"TERM": "xterm"}, stdout=its, stderr=its) as process:
        os.close(its)
        seen = ""
        while not re.search(r"ACME_PRD.+idle.+[1-9].+none", seen):
            seen += os.read(ours, 65536).decode(errors="replace")
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(OSError):  # the other end is closed
            while more := os.read(ours, 65536):
                seen += more.decode(errors="replace")
    os.close(ours)
    assert process.returncode == 130
    for column in ("tenant", "state", "waiting", "delivered", "parked", "next try", "faults"):
        assert column in seen
    assert "\x1b[?25h" in seen, "the cursor is back"


def delivered(outbox: Path) -> int:
    if not outbox.exists():
        return 0
    with closing(sqlite3.connect(outbox)) as connection:
        try:
            found = connection.execute("SELECT sum(delivered) FROM relay_counts").fetchone()[0]
        except sqlite3.OperationalError:  # not made yet
            return 0
    return int(found or 0)


# --- the verdict ----------------------------------------------------------------------------------


def enqueued(row: int, key: str = "SO-1", document: str = "Sync.SalesOrder") -> Enqueued:
    return Enqueued(row, "ACME_PRD", f"id-{row}", document, key, 1000.0 + row, bytes([row]).hex(), 100)


def taken(message: Enqueued, number: int | None = None, *again: Redelivery) -> TakenMessage:
    number = message.row if number is None else number
    return TakenMessage(
        number, message.tenant, message.message_id, message.document, bytes.fromhex(message.sha256),
        message.size, 1000.5 + number, redeliveries=list(again),
    )  # fmt: skip


MESSAGES = tuple(enqueued(row) for row in range(1, 4))
BAD = enqueued(9, "PO-BAD")
FINE = Evidence(
    began=1000.0,
    ended=1010.0,
    enqueued=(*MESSAGES, BAD),
    rows={
        **{one.row: OutboxRow("delivered") for one in MESSAGES},
        9: OutboxRow("parked", "HTTP 400", 1009.2),
    },
    taken=tuple(taken(one) for one in MESSAGES),
    violations=(),
    refused=frozenset({"PO-BAD"}),
    killed_at=1005.0,
    restarted_at=1006.0,
)


def test_nothing_is_wrong_where_everything_arrived() -> None:
    verdict = assess(FINE)
    assert (verdict.wrong, verdict.enqueued, len(verdict.delivered)) == ((), 4, 3)
    assert (verdict.pairs_in_order, verdict.median_seconds) == (2, 0.5)


def wrong_cases() -> Iterator[tuple[str, Evidence, str]]:
    """What is wrong, its evidence, and the beginning of its text in the verdict."""
    first, second, third = FINE.taken
    yield "a message that ION never took", replace(FINE, taken=(first, third)), "lost: "
    yield (
        "gone from the outbox too",
        replace(FINE, taken=(first, third), rows={**FINE.rows, 2: OutboxRow("gone")}),
        "lost: ",
    )
    yield (
        "dropped",
        replace(FINE, taken=(first, third), rows={**FINE.rows, 2: OutboxRow("dropped")}),
        "lost: ",
    )
    yield (
        "still waiting",
        replace(FINE, taken=(first, third), rows={**FINE.rows, 2: OutboxRow("pending")}),
        "not delivered: ",
    )
    yield (
        "another content",
        replace(FINE, taken=(first, second, replace(third, digest=b"?"))),
        "arrived with another",
    )
    yield (
        "another document",
        replace(FINE, taken=(first, second, replace(third, document_name="X"))),
        "arrived with another",
    )
    yield "the wrong way round", replace(FINE, taken=(first, taken(MESSAGES[1], 8), third)), "out of order: "
    yield "a violation", replace(FINE, violations=("ACME_PRD: hot-loop",)), "against the guide's sequence: "
    yield "parked without reason", replace(FINE, refused=frozenset()), "parked without a cause"
    yield (
        "refused, not parked",
        replace(FINE, refused=frozenset({"PO-BAD", "SO-1"})),
        "refused by ION, but not parked",
    )
    yield (
        "sent again for no reason",
        replace(FINE, taken=(taken(MESSAGES[0], 1, Redelivery(9, 1003.0, "answered 202")), second, third)),
        "sent again: ",
    )
    yield (
        "another id",
        replace(FINE, taken=(first, second, third, replace(third, message_id="?"))),
        "never enqueued",
    )
    yield (
        "what did not come about",
        replace(FINE, problems=("the relay ended with exit code 1",)),
        "the relay ended",
    )


@pytest.mark.parametrize(
    ("evidence", "begins"), [case[1:] for case in wrong_cases()], ids=[case[0] for case in wrong_cases()]
)
def test_everything_that_is_wrong_is_noticed(evidence: Evidence, begins: str) -> None:
    verdict = assess(evidence)
    assert [text[: len(begins)] for text in verdict.wrong] == [begins]
    assert as_json(verdict, evidence)["fine"] is False


def test_a_document_that_is_not_accepted_holds_up_no_others_and_keeps_its_own_order() -> None:
    one, late, other, later = (
        enqueued(1),
        enqueued(2, document="Overdue"),
        enqueued(3),
        enqueued(4, document="Overdue"),
    )
    evidence = replace(
        FINE,
        enqueued=(one, late, other, later),
        rows={row: OutboxRow("delivered") for row in range(1, 5)},
        refused=frozenset(),
        unsteady=frozenset({("ACME_PRD", "Overdue")}),
        taken=(taken(one, 1), taken(other, 2), taken(late, 3), taken(later, 4)),
    )
    assert assess(evidence).wrong == ()
    swapped = replace(evidence, taken=(taken(one, 1), taken(other, 2), taken(late, 4), taken(later, 3)))
    assert len(assess(swapped).out_of_order) == 1


@pytest.mark.parametrize(
    ("again", "before", "killed_at", "why"),
    [
        (Redelivery(9, 5.0, "cut after acceptance, by a fault"), 4.0, None, ANSWER_LOST),
        (Redelivery(9, 12.0, "the client went away"), 9.9, 10.0, IN_FLIGHT),
        (Redelivery(9, 12.0, "answered 202"), 9.9, 10.0, NOT_SETTLED),
        (Redelivery(9, 12.0, "the client went away"), 10.3, 10.0, IN_FLIGHT),  # in a socket's buffer
        (Redelivery(9, 12.0, "answered 202"), 5.0, 10.0, None),  # five seconds are enough to settle
        (Redelivery(9, 9.0, "the client went away"), 8.0, 10.0, None),  # before the kill
        (Redelivery(9, 12.0, "answered 202"), 11.0, 10.0, None),  # both after it
        (Redelivery(9, 12.0, "answered 202"), 11.0, None, None),
    ],
)
def test_a_redelivery_has_a_cause_or_none(
    again: Redelivery, before: float, killed_at: float | None, why: str | None
) -> None:
    assert explain_redelivery(again, before, killed_at) == why


def test_the_picture_shows_a_lost_message() -> None:
    lost = replace(FINE, taken=FINE.taken[1:])
    red = 'stroke="#dc2626" stroke-width="1.6"'
    assert draw(lost, assess(lost)).count(red) == draw(FINE, assess(FINE)).count(red) + 1


def test_what_is_wrong_is_printed_once_with_its_count() -> None:
    evidence = replace(FINE, taken=FINE.taken[1:], violations=("ACME_PRD: hot-loop",) * 3)
    printed = str(format_summary(assess(evidence), evidence, {"outbox": "demo/outbox.db"}))
    assert "WRONG: against the guide's sequence: ACME_PRD: hot-loop (3 times)" in printed
    assert "WRONG: lost: Sync.SalesOrder of SO-1, ACME_PRD, id id-1" in printed
    assert "Nothing was lost" not in printed


def test_normal_operation_is_without_faults_while_a_relay_runs() -> None:
    outage = FaultPeriod("ACME_PRD", "outage", "outage: 503", 1000.5, 1001.5)
    gone = replace(FINE, faults=(outage,), killed_at=1002.5, restarted_at=1003.5)
    assert [one.message.row for one in assess(gone).normal] == [2]
    assert len(assess(FINE).normal) == 3


# --- its documents --------------------------------------------------------------------------------


@pytest.mark.parametrize("tenant", [workload.ACME, workload.GLOBEX])
def test_the_documents_are_varied_well_formed_and_some_are_large(tenant: str) -> None:
    made = workload.make_documents(tenant, 30, 1)
    assert len(made) == 120
    assert len({one.payload for one in made}) == 120
    assert sum(len(one.payload) >= 8192 for one in made) >= 8
    for one in made:
        assert one.key.encode() in one.payload
        if one.payload.startswith(b"{"):
            assert json.loads(one.payload)["orderNumber"] == one.key
        else:
            assert ET.fromstring(one.payload).find("{*}ApplicationArea/{*}Sender/{*}LogicalID") is not None


def test_bars_are_relative_to_the_largest_number() -> None:
    assert draw_bars([0, 1, 4, 8]) == " ▁▄█"
    assert draw_bars([0, 0]) == "  "
