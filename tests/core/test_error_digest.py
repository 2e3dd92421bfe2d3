"""Repeated errors: one line when an incident opens, summaries on a timer, one line at its end."""

from hypothesis import given
from hypothesis import strategies as st

from relay.core.error_digest import ErrorDigest, Line, Ongoing, Opened, Resolved


def opened_at(now: float, kind: str = "busy", detail: str = "HTTP 503") -> ErrorDigest:
    digest = ErrorDigest(60)
    assert digest.report(now, kind, detail) == (Opened(kind, detail),)
    return digest


def test_an_incident_opens_with_one_line_and_further_errors_are_only_counted() -> None:
    digest = opened_at(10)
    assert digest.open
    assert [digest.report(10 + i, "busy", f"HTTP 503: {i}") for i in range(1000)] == [()] * 1000


def test_another_kind_within_the_incident_is_reported_too() -> None:
    digest = opened_at(10)
    assert digest.report(11, "silent", "no answer") == (Opened("silent", "no answer"),)
    assert digest.report(12, "busy", "HTTP 503") == ()


def test_a_summary_has_the_count_since_the_last_line_the_total_both_samples_and_the_seconds() -> None:
    digest = opened_at(10, detail="first")
    digest.report(20, "busy", "second")
    digest.report(30, "busy", "third")
    assert digest.next_tick == 70
    assert digest.tick(70) == (Ongoing("busy", 2, 3, "first", "third", 60),)
    digest.report(100, "busy", "fourth")
    assert digest.next_tick == 130
    assert digest.tick(131) == (Ongoing("busy", 1, 4, "first", "fourth", 121),)


def test_before_its_time_and_without_an_incident_the_timer_reports_nothing() -> None:
    assert ErrorDigest(60).tick(1000) == ()
    assert ErrorDigest(60).next_tick is None
    digest = opened_at(10)
    digest.report(11, "busy", "x")
    assert digest.tick(69.9) == ()


def test_an_incident_without_new_errors_is_still_reported_as_ongoing() -> None:
    digest = opened_at(0, detail="only")
    assert digest.tick(60) == (Ongoing("busy", 0, 1, "only", "only", 60),)
    assert digest.tick(120) == (Ongoing("busy", 0, 1, "only", "only", 120),)


def test_only_kinds_with_new_errors_are_summarised() -> None:
    digest = opened_at(0)
    digest.report(1, "silent", "no answer")
    digest.report(2, "silent", "cut")
    assert digest.tick(60) == (Ongoing("silent", 1, 2, "no answer", "cut", 60),)


def test_a_late_timer_does_not_catch_up_with_a_burst() -> None:
    digest = opened_at(0)
    assert len(digest.tick(600)) == 1
    assert digest.next_tick == 600
    assert len(digest.tick(600)) == 1
    assert digest.next_tick == 660


def test_one_closing_line_for_the_whole_incident_with_duration_count_and_kinds() -> None:
    digest = opened_at(10)
    digest.report(11, "silent", "no answer")
    digest.report(15, "busy", "HTTP 503 again")
    assert digest.resolved(22) == (Resolved(12, 3, ("busy", "silent"), "HTTP 503 again"),)
    assert not digest.open
    assert digest.next_tick is None
    assert digest.resolved(23) == ()
    assert digest.tick(100) == ()


def test_without_an_incident_nothing_is_resolved() -> None:
    assert ErrorDigest(60).resolved(5) == ()


def test_a_second_incident_opens_and_counts_from_zero() -> None:
    digest = opened_at(0)
    digest.report(1, "busy", "x")
    digest.resolved(2)
    assert digest.report(10, "busy", "y") == (Opened("busy", "y"),)
    assert digest.resolved(11) == (Resolved(1, 1, ("busy",), "y"),)


def open_and_resolve(digest: ErrorDigest, times: int, every: float = 1) -> list[Line]:
    lines: list[Line] = []
    for i in range(times):
        lines += digest.report(i * every, "busy", f"error {i}")
        lines += digest.resolved(i * every + 0.5)
    return lines


def test_an_incident_that_opens_and_resolves_repeatedly_is_left_to_the_timer_after_five_openings() -> None:
    digest = ErrorDigest(60)
    assert len(open_and_resolve(digest, 20)) == 10
    assert not digest.open
    assert digest.next_tick == 65  # the sixth began at 5
    assert digest.tick(65) == (
        Ongoing("busy", 15, 15, "error 5", "error 19", 14.5),
        Resolved(14.5, 15, ("busy",), "error 19"),
    )
    assert digest.next_tick is None


def test_an_incident_left_to_the_timer_is_reported_by_it_and_closed_once() -> None:
    digest = ErrorDigest(60)
    open_and_resolve(digest, 5)
    assert digest.report(5, "busy", "stays") == ()
    assert digest.open
    assert digest.tick(65) == (Ongoing("busy", 1, 1, "stays", "stays", 60),)
    assert digest.resolved(66) == (Resolved(61, 1, ("busy",), "stays"),)


def test_after_the_period_openings_are_reported_at_once_again() -> None:
    digest = ErrorDigest(60)
    open_and_resolve(digest, 5)
    assert digest.report(60, "busy", "later") == (Opened("busy", "later"),)


@given(st.lists(st.tuples(st.sampled_from("abcdefgh"), st.floats(0, 1)), min_size=1, max_size=60))
def test_a_twelve_second_outage_brings_at_most_eight_lines_and_exactly_one_end(
    errors: list[tuple[str, float]],
) -> None:
    digest, now, lines = ErrorDigest(60), 0.0, 0
    for kind, after in errors:
        now = 0 if not lines else min(now + after, 12)
        lines += len(digest.report(now, kind, "x"))
    ends = digest.resolved(12)
    assert 1 <= lines <= 8
    assert ends == (Resolved(12, len(errors), tuple(dict.fromkeys(kind for kind, _ in errors)), "x"),)


Steps = st.lists(st.tuples(st.sampled_from(["a", "b", "end", "tick"]), st.floats(0, 30)), max_size=200)


@given(Steps)
def test_no_error_is_ever_lost_and_every_incident_ends_once(steps: list[tuple[str, float]]) -> None:
    digest, now, errors = ErrorDigest(60), 0.0, 0
    lines: list[Line] = []
    for what, after in steps:
        now += after
        if what == "end":
            lines += digest.resolved(now)
        elif what == "tick":
            lines += digest.tick(now)
        else:
            errors += 1
            lines += digest.report(now, what, "x")
    lines += digest.resolved(now)
    lines += digest.tick(now + 60)
    assert sum(line.count for line in lines if isinstance(line, Resolved)) == errors
    assert digest.next_tick is None
    assert digest.tick(now + 1000) == ()
