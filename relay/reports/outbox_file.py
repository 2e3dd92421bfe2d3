"""What is said of an outbox that is a file: a log that grows, and relays that should be one."""

from collections.abc import Sequence

from relay.core.admin import RelayBeat, WriteAheadLog

_MIB = 1024 * 1024


def describe_log(log: WriteAheadLog) -> str:
    """How large it is, and who keeps it from shrinking."""
    readers = (
        ", ".join(log.readers) or "a program that is not visible from here, or one that writes all the time"
    )
    return (
        f"the write-ahead log of the outbox has {log.bytes // _MIB} MiB and cannot shrink, "
        f"since it is being read by {readers}"
    )


def describe_relays(relays: Sequence[RelayBeat]) -> str:
    """Which relays there are."""
    return f"more than one relay runs on the same file: {', '.join(map(_describe_relay, relays))}"


def _describe_relay(beat: RelayBeat) -> str:
    pid, host = (beat.details.get(name, "unknown") for name in ("pid", "host"))
    return f"{beat.relay} (process {pid} on {host})"
