"""The scale demo: its verdict, which must notice everything that is wrong, its picture, and interruption."""

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from relay.demo.application import Enqueued
from relay.sandbox import Redelivery, TakenMessage
from tools.scale_picture import draw
from tools.scale_verdict import Evidence, Move, Outage, assess, list_owned

ROOT = Path(__file__).resolve().parents[2]


def start(folder: Path) -> subprocess.Popen[str]:
    """The demo, piped."""
    return subprocess.Popen(
        [sys.executable, "-m", "tools.demo_scale", "--directory", str(folder)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


# --- a real run -------------------------------------------------------------------------------------


def test_an_interruption_ends_every_process(tmp_path: Path) -> None:
    demo = start(tmp_path)
    assert demo.stdout is not None
    shared = ""
    for line in demo.stdout:
        shared = line
        if "tenants are shared" in line:
            break
    assert "60 tenants are shared" in shared
    demo.send_signal(signal.SIGINT)
    _, err = demo.communicate(timeout=60)
    assert demo.returncode == 130, err
    assert err.strip().startswith("Interrupted")
    assert processes_in(tmp_path) == []


def processes_in(folder: Path) -> list[int]:
    """The ids of the processes whose working directory is the folder, as that of replicas."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if (entry / "cwd").readlink() == folder:
                found.append(int(entry.name))
        except OSError:
            continue
    return found


if "RELAY_TEST_LONG" in os.environ:

    def test_nothing_is_wrong_in_the_end(tmp_path: Path) -> None:
        demo = start(tmp_path)
        out, err = demo.communicate(timeout=240)
        assert demo.returncode == 0, out + err
        assert "0 lost, 0 violations" in out
        ET.parse(tmp_path / "shares.svg")


# --- the verdict ----------------------------------------------------------------------------------

ENQUEUED = [Enqueued(row, "T01_PRD", f"m{row}", "Sync.SalesOrder", "K0", 100.0 + row) for row in range(3)]
TAKEN = [
    TakenMessage(row + 1, "T01_PRD", f"m{row}", "Sync.SalesOrder", b"", 8, 100.5 + row, "answered 202")
    for row in range(3)
]
KILLED = Outage("killed", "a", frozenset({"T01_PRD"}), 102.0)
FROZEN = Outage("frozen", "a", frozenset({"T01_PRD"}), 102.0, 107.0)
MOVES = [Move(99.0, "a", "T01_PRD", begins=True), Move(105.0, "b", "T01_PRD", begins=True)]
FINE = Evidence(99.0, 110.0, 1, ENQUEUED, TAKEN, [], MOVES, [KILLED], [(102.0, "kill -9 a")], 0)


def again(at: float, after: str = "answered 202") -> list[TakenMessage]:
    """All taken; the second, which was taken at 101.5, again."""
    return [TAKEN[0], replace(TAKEN[1], redeliveries=[Redelivery(9, at, after)]), TAKEN[2]]


def test_nothing_is_wrong_in_a_good_run_and_takeover_times_are_measured() -> None:
    verdict = assess(FINE)
    assert verdict.wrong == []
    assert (verdict.delivered, verdict.lost, verdict.pairs) == (3, 0, 2)
    assert [list(seconds) for _, seconds in verdict.takeovers] == [[3.0]]


@pytest.mark.parametrize(
    ("evidence", "words"),
    [
        (replace(FINE, taken=TAKEN[:2]), "lost: m2"),
        (replace(FINE, enqueued=ENQUEUED[:2]), "never enqueued"),
        (replace(FINE, taken=[replace(TAKEN[0], number=9), *TAKEN[1:]]), "id m1 arrived before"),
        (replace(FINE, violations=["a post without a ping"]), "against the guide's sequence"),
        (replace(FINE, taken=[replace(TAKEN[0], changed=True), *TAKEN[1:]]), "another content"),
        (replace(FINE, taken=again(101.9)), "sent twice, without a known cause: m1"),
        (replace(FINE, taken=again(105.5), outages=[]), "sent twice, without a known cause: m1"),
        (replace(FINE, outages=[]), "taken by b while a owned it"),
        (replace(FINE, moves=MOVES[:1]), "not taken over: 1 tenants of a"),
        (replace(FINE, unsettled=4), "4 rows are not settled"),
        (replace(FINE, problems=["replica b ended with exit code 1"]), "exit code 1"),
    ],
)
def test_everything_that_is_wrong_is_listed(evidence: Evidence, words: str) -> None:
    assert any(words in text for text in assess(evidence).wrong)


@pytest.mark.parametrize("at", [101.5, 102.1])
@pytest.mark.parametrize("outage", [KILLED, FROZEN])
def test_what_was_in_flight_at_an_outage_may_be_sent_again(outage: Outage, at: float) -> None:
    """Also what was in a socket's buffer at that time, and reached ION a little later."""
    taken = [
        TAKEN[0],
        replace(TAKEN[1], at=at, redeliveries=[Redelivery(9, 105.5, "answered 202")]),
        TAKEN[2],
    ]
    verdict = assess(replace(FINE, outages=[outage], taken=taken))
    assert verdict.wrong == []
    assert sum(verdict.twice.values()) == 1


def test_what_another_replica_delivered_must_not_be_sent_again_after_the_thaw() -> None:
    late = [
        TAKEN[0],
        replace(TAKEN[1], at=105.6, redeliveries=[Redelivery(9, 107.1, "answered 202")]),
        TAKEN[2],
    ]
    assert any(
        "without a known cause" in text for text in assess(replace(FINE, outages=[FROZEN], taken=late)).wrong
    )


def test_a_killed_replica_owns_its_tenants_until_another_takes_them_and_a_stopped_one_does_not() -> None:
    assert list_owned("a", MOVES[:1]) == {"T01_PRD"}
    assert list_owned("a", MOVES) == frozenset()
    assert list_owned("a", [*MOVES[:1], Move(101.0, "a", None, begins=False)]) == frozenset()


def test_the_picture_shows_which_replica_owned_what() -> None:
    picture = draw(FINE, assess(FINE))
    texts = ["".join(element.itertext()) for element in ET.fromstring(picture).iter()]
    assert {"replica a", "replica b", "kill -9 a"} <= set(texts)
    assert "a: 1 tenants" in texts
