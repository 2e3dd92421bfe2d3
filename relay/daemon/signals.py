"""This file is what signals ask of the process: to stop, to stop at once, to read its settings again."""

import asyncio
import signal


class ProcessSignals:
    """Listens from its making on; within a running loop."""

    def __init__(self) -> None:
        self.stop, self.at_once, self.reload = asyncio.Event(), asyncio.Event(), asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._to_stop)
        loop.add_signal_handler(signal.SIGHUP, self.reload.set)

    def _to_stop(self) -> None:
        """The first signal lands what is under way, the second ends at once."""
        if self.stop.is_set():
            self.at_once.set()
        self.stop.set()
