"""This file is the talk with systemd: ready, reloading, stopping, alive. Silent where there is no systemd."""

import os
import socket
import time
from collections.abc import Mapping

_SPARE_SECONDS = 60.0


class SystemdNotifier:
    """The notify socket of sd_notify(3), if this process was given one."""

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        known = os.environ if environ is None else environ
        self._address = known.get("NOTIFY_SOCKET", "")

    def ready(self) -> None:
        """The outbox is open and the tenants are carried."""
        self._say("READY=1")

    def waiting(self, seconds: float, what: str) -> None:
        """Not ready for so long at least: the time that a start may take is counted anew."""
        allowed = int((seconds + _SPARE_SECONDS) * 1e6)
        self._say(f"EXTEND_TIMEOUT_USEC={allowed}\nSTATUS=waiting: {what.splitlines()[0]}")

    def reloading(self) -> None:
        """Settings are read anew; `ready` follows."""
        self._say(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """No more posts are launched."""
        self._say("STOPPING=1")

    def status(self, text: str) -> None:
        """What `systemctl status` shows."""
        self._say(f"STATUS={text}")

    def alive(self) -> None:
        """All is well; where systemd keeps no watchdog it does not listen."""
        self._say("WATCHDOG=1")

    def _say(self, text: str) -> None:
        if not self._address:
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            try:
                sock.sendto(text.encode(), address)
            except OSError:  # the supervisor went away: nothing that a message relay should die of
                return
