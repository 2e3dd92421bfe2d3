"""Notifications to systemd: ready, reloading, stopping, alive. Nothing is sent where there is no systemd."""

import os
import socket
import time
from collections.abc import Mapping

_MARGIN_SECONDS = 60.0


class SystemdNotifier:
    """The notify socket of sd_notify(3), if this process was given one."""

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        self._address = (os.environ if environ is None else environ).get("NOTIFY_SOCKET", "")

    def ready(self) -> None:
        """The outbox is open and messages are delivered."""
        self._send("READY=1")

    def waiting(self, seconds: float, what: str) -> None:
        """Not ready for at least this time: systemd's start time-out is extended."""
        timeout = int((seconds + _MARGIN_SECONDS) * 1e6)
        self._send(f"EXTEND_TIMEOUT_USEC={timeout}\nSTATUS=waiting: {what.splitlines()[0]}")

    def reloading(self) -> None:
        """Settings are being read again; `ready` follows."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """No more posts are sent."""
        self._send("STOPPING=1")

    def alive(self) -> None:
        """The watchdog is satisfied; systemd ignores this without WatchdogSec=."""
        self._send("WATCHDOG=1")

    def _send(self, text: str) -> None:
        if not self._address:
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            try:
                sock.sendto(text.encode(), address)
            except OSError:  # systemd went away: no reason to stop delivering
                return
