"""Instants and durations as text, for people and for programs."""

from datetime import UTC, datetime
from typing import overload


@overload
def instant(when: datetime) -> str: ...
@overload
def instant(when: None) -> None: ...
@overload
def instant(when: datetime | None) -> str | None: ...
def instant(when: datetime | None) -> str | None:
    """ISO 8601 in UTC with milliseconds, as in JSON."""
    if when is None:
        return None
    return when.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def duration(seconds: float) -> str:
    """For people: `12 s`, `5 min`, `3 h`, `2 days`."""
    for unit, size in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size or (unit == "min" and seconds >= 60):
            return f"{seconds / size:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"


def measured(seconds: float | None) -> str:
    """Of what was measured to a tenth: `23 ms`, `1.4 s`, `52 s`, `5 min`; empty for None."""
    if seconds is None:
        return ""
    if seconds >= 60:
        return duration(seconds)
    if seconds >= 0.995:
        return f"{seconds:.0f} s" if seconds >= 9.95 else f"{seconds:.1f} s"
    return f"{float(f'{max(seconds, 0.001) * 1000:.2g}'):.0f} ms"


def time_since(when: datetime | None, now: datetime) -> str:
    """The time that has passed since; empty for None."""
    return "" if when is None else duration((now - when).total_seconds())


def time_until(when: datetime | None, now: datetime) -> str:
    """`in 5 min`, or `now` where it has passed; empty for None."""
    if when is None:
        return ""
    seconds = (when - now).total_seconds()
    return f"in {duration(seconds)}" if seconds > 0 else "now"
