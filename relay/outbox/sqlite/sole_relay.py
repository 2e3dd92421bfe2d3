"""Refuses to start beside a relay that the lock of the file does not exclude: one of another machine.

A lock reaches all processes under one kernel, in whatever containers; a heartbeat in the file reaches
everybody who can read it. One that was written under this kernel does not count, since the lock decides: a
relay that was killed is replaced at once, though its name and number may be those of this process.
"""

import json
import os
import socket
import sqlite3
from functools import cache
from pathlib import Path
from typing import Any

from relay.core.ports import StoreError
from relay.outbox.values import ALIVE_SECONDS

BOOT_ID = "boot_id"
"""The detail of a heartbeat that says under which running kernel it was written."""

_FRESH = """
SELECT relay, details, (julianday('now') - julianday(beat_at)) * 86400 AS age FROM relay_relays
WHERE abs(age) < ? ORDER BY age
"""


@cache
def boot_id() -> str:
    """The running kernel, alike in all of its containers; empty where it is unknown."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        return ""


def require_alone(connection: sqlite3.Connection, path: Path) -> None:
    """Raise StoreError if a relay of another machine beat lately. The caller holds the lock of the file."""
    for relay, text, age in connection.execute(_FRESH, (ALIVE_SECONDS,)):
        details = json.loads(text)
        if _is_elsewhere(details):
            raise StoreError(
                f"another relay ({relay}: process {details.get('pid', 'unknown')} on "
                f"{details.get('host', 'an unknown host')}) uses the outbox {path}: its last heartbeat is "
                f"{max(age, 0):.0f} s old; stop it first; if it was killed, start again in "
                f"{ALIVE_SECONDS - age:.0f} s"
            )


def _is_elsewhere(details: dict[str, Any]) -> bool:
    if BOOT_ID in details:
        return bool(details[BOOT_ID]) and details[BOOT_ID] != boot_id()
    if details.get("host") != socket.gethostname():
        return True  # a relay of 0.1.0, which does not say under which kernel it ran
    return details.get("pid") != str(os.getpid()) and Path(f"/proc/{details.get('pid')}").exists()
