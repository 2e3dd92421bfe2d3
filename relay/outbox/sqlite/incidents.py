"""What may be wrong with a file though calls succeed: another relay on it, a log that does not shrink."""

from collections.abc import Sequence
from pathlib import Path

from relay.core.admin import RelayBeat
from relay.core.ports import StoreIncident
from relay.outbox.sqlite import write_ahead_log

_MIB = 1024 * 1024

MAX_LOG_BYTES = 128 * _MIB
"""A write-ahead log that stays larger than this is an incident. A relay lets it shrink to half of that."""


def shared(relays: Sequence[RelayBeat]) -> Sequence[StoreIncident]:
    """More than one relay beats in the file, which is for one."""
    alive = [beat for beat in relays if beat.alive]
    if len(alive) < 2:
        return ()
    detail = f"more than one relay runs on the same file: {', '.join(map(_describe, alive))}"
    hint = "stop one of them: messages are sent twice, and their order is lost"
    return (StoreIncident("shared", detail, hint),)


def _describe(beat: RelayBeat) -> str:
    pid, host = (beat.details.get(name, "unknown") for name in ("pid", "host"))
    return f"{beat.relay} (process {pid} on {host})"


def log_grown(path: Path) -> Sequence[StoreIncident]:
    """The log is too large now, and who reads."""
    found = write_ahead_log.log_bytes(path)
    if found <= MAX_LOG_BYTES:
        return ()
    readers = ", ".join(write_ahead_log.readers(path)) or "a program that is not visible from here"
    size = f"the write-ahead log of the outbox has {found // _MIB} MiB and cannot shrink"
    hint = "end the transaction that stays open there: commit, or close the result or the connection"
    return (StoreIncident("log-grown", f"{size}: it is read by {readers}", hint),)
