"""Times in a server's answer: how long it asks to wait, and whether the two clocks agree.

Pure: this machine's time is an argument, and no header, however hostile, raises.
"""

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

_SECONDS = re.compile(r"[0-9]{1,12}")


def read_retry_after(header: str | None, now: datetime, date: str | None = None) -> float | None:
    """`Retry-After` in seconds, given as seconds or as a date (RFC 9110); else None.

    `date`: the answer's own `Date`, by which a date is measured, so that no clock needs to be right; `now`
    (aware) where there is none.
    """
    if header is None:
        return None
    text = header.strip()
    if _SECONDS.fullmatch(text):
        return float(text)
    at = _read_date(text)
    return None if at is None else max(0.0, (at - (_read_date(date) or now)).total_seconds())


_CLOCK_TOLERANCE = 300.0
"""Seconds that servers usually grant the timestamps of OAuth 1 [R]."""


def clock_off(date: str | None, now: datetime) -> float:
    """Seconds by which this machine's clock, which shows `now`, is ahead of the answer's `Date`.

    0 where it is less than the tolerance, or not known.
    """
    sent = _read_date(date)
    ahead = 0.0 if sent is None else (now - sent).total_seconds()
    return ahead if abs(ahead) >= _CLOCK_TOLERANCE else 0.0


def describe_clock(off: float) -> str:
    """For the end of a refusal's text; empty where the clock is right.

    >>> describe_clock(-3600)
    "; this machine's clock is 60 minutes behind the server's"
    """
    if not off:
        return ""
    direction = "ahead of" if off > 0 else "behind"
    return f"; this machine's clock is {abs(off) / 60:.0f} minutes {direction} the server's"


def _read_date(text: str | None) -> datetime | None:
    try:
        date = parsedate_to_datetime((text or "").strip()[:64])
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return date if date.tzinfo is not None else date.replace(tzinfo=UTC)
