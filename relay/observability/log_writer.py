"""Stderr behind a bounded queue and a thread: a reader that has stopped reading never holds up the process.

A pipe that is full, a terminal that is stopped or a disk that hangs blocks whoever writes to it: here, the
thread. Everybody else appends to a list. What finds no room is dropped, counted, and reported once writing is
possible again.
"""

import io
import os
import select
import threading
import time
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import TextIO

from typing_extensions import override

MAX_CHARACTERS = 1_000_000
"""What waits to be written, at most; as much again may be in the hands of the thread."""

_GATHER_SECONDS = 0.002
"""Lines gather for this time, so that each does not wake the thread: that would cost a sixth more a line."""


class LogWriter(io.TextIOBase):
    """A stream in place of `stream`, which has a descriptor. `report(lines)` logs how many were dropped."""

    def __init__(self, stream: TextIO, report: Callable[[int], None]) -> None:
        self._descriptor, self._report = stream.fileno(), report
        self._encoding, self._is_terminal = stream.encoding, stream.isatty()
        self._lock = threading.RLock()  # a destructor may log in the middle of a call
        self._texts: list[str] = []
        self._characters = 0
        self._dropped = 0
        self.dropped_lines = 0
        """All that were lost since the start, also those that could not be reported yet."""
        self._unreported = 0
        self._notices: list[str] = []
        self._wakened: SimpleQueue[threading.Event | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="log-writer", daemon=True)
        self._thread.start()

    @override
    def write(self, text: str) -> int:
        if threading.current_thread() is self._thread:  # it reports what was dropped
            self._notices.append(text)
            return len(text)
        with self._lock:
            if self._texts and self._characters + len(text) > MAX_CHARACTERS:
                self._dropped += text.count("\n")
                self.dropped_lines += text.count("\n")
                return len(text)
            self._texts.append(text)
            self._characters += len(text)
            if len(self._texts) == 1:
                self._wakened.put(None)
        return len(text)

    def drain(self, within: float) -> None:
        """Return once all of it is written, after `within` seconds at the latest."""
        done = threading.Event()
        self._wakened.put(done)
        done.wait(within)

    # --- the stream's other methods -------------------------------------------------------------------

    @override
    def writable(self) -> bool:
        return True

    @override
    def isatty(self) -> bool:
        return self._is_terminal

    @override
    def fileno(self) -> int:
        return self._descriptor

    @property
    @override
    def encoding(self) -> str:  # type: ignore[override]  # a variable there, and read only nevertheless
        return self._encoding

    # --- the thread -----------------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            done = self._wakened.get()
            if done is None:
                time.sleep(_GATHER_SECONDS)
            self._write_waiting()
            if done is not None:
                done.set()

    def _write_waiting(self) -> None:
        with self._lock:
            texts, self._texts = self._texts, []
            dropped, self._dropped = self._dropped, 0
            self._characters = 0
        if not self._is_written(texts):
            lost = sum(text.count("\n") for text in texts)
            self._unreported += dropped + lost
            with self._lock:
                self.dropped_lines += lost
            return
        self._unreported += dropped
        if texts and self._unreported:
            self._report(self._unreported)
            notices, self._notices = self._notices, []
            if self._is_written(notices):
                self._unreported = 0

    def _is_written(self, texts: Sequence[str]) -> bool:
        rest = "".join(texts).encode(self._encoding, "backslashreplace")
        try:
            while rest:
                rest = rest[self._write_some(rest) :]
        except OSError:  # nobody reads any more, or the disk is full
            return False
        return True

    def _write_some(self, data: bytes) -> int:
        try:
            return os.write(self._descriptor, data)
        except BlockingIOError:  # a process that shares the descriptor made it non-blocking
            waiting = select.poll()
            waiting.register(self._descriptor, select.POLLOUT)
            waiting.poll()
            return 0
