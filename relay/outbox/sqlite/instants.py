"""Instants as the SQLite outbox keeps them: UTC text with milliseconds."""

from datetime import UTC, datetime

from relay.outbox.values import EARLIEST


def parse_instant(text: str) -> datetime:
    """As UTC. What is no instant that Python can hold (the year 0000) is the earliest."""
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (OverflowError, ValueError):
        return EARLIEST


def format_instant(when: datetime) -> str:
    """The other way; milliseconds, as SQLite's clock gives them."""
    return when.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
