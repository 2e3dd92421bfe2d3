"""Waiting times and clocks, read from the headers of answers."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.ion import server_times

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("", None),
        ("0", 0.0),
        (" 120 ", 120.0),
        ("999999999999", 999999999999.0),
        ("9999999999999", None),
        ("-5", None),
        ("1.5", None),
        ("soon", None),
        ("٣", None),
        ("Sun, 01 Mar 2026 12:01:40 GMT", 100.0),
        ("Sunday, 01-Mar-26 12:01:40 GMT", 100.0),
        ("Sun Mar  1 12:01:40 2026", 100.0),
        ("Sun, 01 Mar 2026 12:01:40 -0000", 100.0),
        ("Sun, 01 Mar 2026 13:01:40 +0100", 100.0),
        ("Sun, 01 Mar 2026 11:00:00 GMT", 0.0),
        ("Sun, 99 Mar 2026 12:01:40 GMT", None),
        ("Sun, 01 Mar 99999999999999999999 12:01:40 GMT", None),
        ("Fri, 31 Dec 9999 23:59:59 -2359", 251630020739.0),
        ("Mon, 01 Jan 0001 00:00:00 +2359", 0.0),
        ("\udcff" * 100_000, None),
    ],
)
def test_retry_after_is_read_as_seconds_or_as_a_date(header: str | None, seconds: float | None) -> None:
    assert server_times.read_retry_after(header, NOW) == seconds


NOON = "Sun, 01 Mar 2026 12:00:00 GMT"


@pytest.mark.parametrize(
    ("date", "seconds"),
    [
        ("Sun, 01 Mar 2026 11:58:00 GMT", 120.0),
        ("Sun, 01 Mar 2026 12:01:00 GMT", 0.0),
        ("Sun, 01 Mar 2026 09:00:00 -0200", 3600.0),
    ],
)
def test_a_date_is_measured_by_that_of_the_answer(date: str, seconds: float) -> None:
    """Whatever this machine's clock shows."""
    for now in (NOW, NOW + timedelta(hours=1), NOW - timedelta(days=4000)):
        assert server_times.read_retry_after(NOON, now, date) == seconds
        assert server_times.read_retry_after("7", now, date) == 7.0


@pytest.mark.parametrize("date", [None, "", "yesterday", "Sun, 99 Mar 2026 19:58:00 GMT"])
def test_without_a_readable_date_of_the_answer_this_machine_counts(date: str | None) -> None:
    at = (NOW + timedelta(seconds=90)).strftime("%a, %d %b %Y %H:%M:%S GMT")
    assert server_times.read_retry_after(at, NOW, date) == 90.0


@pytest.mark.parametrize(
    ("off", "text"),
    [
        (3600, "; this machine's clock is 60 minutes ahead of the server's"),
        (-3600, "; this machine's clock is 60 minutes behind the server's"),
        (300, "; this machine's clock is 5 minutes ahead of the server's"),
        (-300, "; this machine's clock is 5 minutes behind the server's"),
        (299, ""),
        (-299, ""),
        (0, ""),
    ],
)
def test_a_clock_that_is_off_is_named(off: int, text: str) -> None:
    date = (NOW - timedelta(seconds=off)).strftime("%a, %d %b %Y %H:%M:%S GMT")
    assert server_times.describe_clock(server_times.clock_off(date, NOW)) == text


def test_without_a_date_nothing_is_known_of_the_clock() -> None:
    assert server_times.clock_off(None, NOW) == server_times.clock_off("yesterday", NOW) == 0.0


@given(st.text(max_size=80))
def test_no_retry_after_raises(header: str) -> None:
    found = server_times.read_retry_after(header, NOW, header)
    assert found is None or found >= 0
    server_times.clock_off(header, NOW)


@given(st.integers(min_value=0, max_value=10**8))
def test_a_future_date_is_its_distance(seconds: int) -> None:
    at = NOW + timedelta(seconds=seconds)
    assert server_times.read_retry_after(at.strftime("%a, %d %b %Y %H:%M:%S GMT"), NOW) == seconds
