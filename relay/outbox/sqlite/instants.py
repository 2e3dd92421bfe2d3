"""Instants as the SQLite outbox keeps them: UTC text with milliseconds."""

from datetime import UTC, datetime


def parse_instant(text: str) -> datetime:
    """As UTC."""
    return datetime.fromisoformat(text).astimezone(UTC)


def format_instant(when: datetime) -> str:
    """The other way; milliseconds, as SQLite's clock gives them."""
    return when.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
