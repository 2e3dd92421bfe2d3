"""The signals of the process: stop, stop at once, reload."""

import asyncio
import signal

from relay.daemon import held_signals


class ProcessSignals:
    """Handles signals as soon as it is made; within a running loop."""

    def __init__(self) -> None:
        self.stop, self.stop_now, self.reload = asyncio.Event(), asyncio.Event(), asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop)
        loop.add_signal_handler(signal.SIGHUP, self.reload.set)
        held_signals.release()

    def _stop(self) -> None:
        """The first signal completes what is in flight, the second ends at once."""
        if self.stop.is_set():
            self.stop_now.set()
        self.stop.set()
