"""A log that nobody reads, or that cannot be written: nobody waits, the order stays, what is lost is counted."""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from relay.observability.log_writer import MAX_CHARACTERS, LogWriter

WITHIN = 20.0
"""Seconds after which a fact that did not come is a failure; no measure of speed."""

LINE = "x" * 990


class Pipe:
    """A pipe whose reader reads when the test says so, and the writer into it."""

    def __init__(self) -> None:
        self.reader, write = os.pipe()
        self._lines = os.fdopen(self.reader, encoding="utf-8")
        self.reported: list[int] = []
        self._stream = os.fdopen(write, "w", encoding="utf-8")
        self.writer = LogWriter(self._stream, self._report)

    def _report(self, lines: int) -> None:
        self.reported.append(lines)
        self.writer.write(f"{lines} dropped\n")

    def fill(self, lines: int) -> None:
        """So many numbered lines."""
        for number in range(lines):
            self.writer.write(f"{number:08} {LINE}\n")

    def read_until(self, is_last: Callable[[str], bool]) -> list[str]:
        """The lines that come, up to that one."""
        found = []
        for line in self._lines:
            found.append(line.rstrip("\n"))
            if is_last(line):
                return found
        raise AssertionError(found)

    def close(self) -> None:
        """The writing end last: the thread may still be in the middle of a write."""
        self._lines.close()
        self.writer.drain(WITHIN)
        self._stream.close()


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    one = Pipe()
    yield one
    one.close()


def test_lines_arrive_in_order(pipe: Pipe) -> None:
    pipe.writer.write("a\n")
    pipe.writer.write("b\nc\n")
    assert pipe.read_until(lambda line: line == "c\n") == ["a", "b", "c"]


def test_a_writer_does_not_wait_for_a_reader_that_has_stopped(pipe: Pipe) -> None:
    """A pipe holds 64 KiB; this is several times as much, and this thread is the one that reads it later."""
    pipe.fill(300)
    found = pipe.read_until(lambda line: line.startswith("00000299"))
    assert [int(line[:8]) for line in found] == list(range(300))
    assert pipe.reported == []


def test_what_finds_no_room_is_dropped_counted_and_said_in_its_place(pipe: Pipe) -> None:
    lines, expected = 4 * MAX_CHARACTERS // len(LINE), 0
    pipe.fill(lines)
    while expected < lines:
        (line,) = pipe.read_until(lambda _: True)
        if line.endswith(" dropped"):
            expected += int(line.removesuffix(" dropped"))
        else:
            assert int(line[:8]) == expected, "the lines between are said to be dropped, just here"
            expected += 1
    assert expected == lines
    assert sum(pipe.reported) == pipe.writer.dropped_lines
    assert sum(pipe.reported) > lines / 4, "two quarters at most wait, and the pipe holds a few"


def test_one_line_that_is_larger_than_all_the_room_is_written(pipe: Pipe) -> None:
    pipe.writer.write("y" * (MAX_CHARACTERS + 1) + "\n")
    assert pipe.read_until(lambda _: True) == ["y" * (MAX_CHARACTERS + 1)]


def test_the_end_of_the_process_waits_no_longer_than_it_says_for_a_reader_that_has_stopped(
    pipe: Pipe,
) -> None:
    """It returns at all: nothing reads here."""
    pipe.fill(300)
    pipe.writer.drain(0.05)
    assert len(pipe.read_until(lambda line: line.startswith("00000299"))) == 300


def test_after_the_drain_all_is_written(pipe: Pipe) -> None:
    pipe.writer.write("last words\n")
    pipe.writer.drain(WITHIN)
    os.set_blocking(pipe.reader, False)
    assert os.read(pipe.reader, 100) == b"last words\n"


def test_lines_that_could_not_be_written_are_counted_once_it_is_possible_again(
    pipe: Pipe, tmp_path: Path
) -> None:
    """The disk is full; then the descriptor leads to a file that has room."""
    for path in (Path("/dev/full"), tmp_path / "log"):
        with path.open("wb") as file:
            os.dup2(file.fileno(), pipe.writer.fileno())
        pipe.writer.write("a\nb\n")
        pipe.writer.drain(WITHIN)
    assert (tmp_path / "log").read_text() == "a\nb\n2 dropped\n"
    assert pipe.reported == [2]
    assert pipe.writer.dropped_lines == 2


def test_a_descriptor_that_another_process_made_non_blocking_loses_nothing(pipe: Pipe) -> None:
    os.set_blocking(pipe.writer.fileno(), False)
    pipe.fill(300)
    found = pipe.read_until(lambda line: line.startswith("00000299"))
    assert [int(line[:8]) for line in found] == list(range(300))


def test_a_character_that_its_encoding_lacks_is_escaped(pipe: Pipe) -> None:
    pipe.writer.write("Gr\udce4\n")
    assert re.fullmatch(r"Gr\\udce4", pipe.read_until(lambda _: True)[0])


_CRASH = """
import sys
from relay.observability import logs
logs.write_in_background()
logs.configure("info", "json")
for number in range(200):
    logs.logger().info("x.happened", detail="x" * 900)
raise ValueError("the last words")
"""


def test_the_last_words_of_a_process_that_crashes_are_written() -> None:
    ended = subprocess.run([sys.executable, "-c", _CRASH], capture_output=True, text=True, check=False)
    lines = ended.stderr.splitlines()
    assert ended.returncode == 1
    assert len([line for line in lines if "x.happened" in line]) == 200
    assert lines[-1] == "ValueError: the last words"


def test_a_process_that_crashes_ends_though_nobody_reads() -> None:
    read, write = os.pipe()
    try:
        assert subprocess.run([sys.executable, "-c", _CRASH], stderr=write, check=False).returncode == 1
    finally:
        os.close(read)
        os.close(write)
