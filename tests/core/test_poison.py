"""Poison-message detection: which messages fail while others are delivered."""

from relay.core.model import RowId
from relay.core.poison import CountedAttempts, PoisonDetector

ROW, OTHER = RowId(1), RowId(2)


def test_a_message_without_counted_attempts_here_has_only_those_of_the_outbox():
    assert PoisonDetector().attempts_of(ROW, 3, 100.0, alone=True) == CountedAttempts(attempts=3, alone=True)


def test_time_counts_from_the_first_counted_attempt():
    detector = PoisonDetector()
    detector.count(ROW, "a", 10.0)
    detector.count(ROW, "a", 50.0)
    assert detector.attempts_of(ROW, 2, 60.0, alone=False) == CountedAttempts(2, 50.0)


def test_a_delivery_from_another_lane_is_noted():
    detector = PoisonDetector()
    detector.count(ROW, "a", 0.0)
    detector.delivered("b")
    detector.delivered("b")
    assert detector.attempts_of(ROW, 1, 1.0, alone=False).delivered_elsewhere


def test_a_delivery_from_its_own_lane_or_before_the_first_attempt_is_not():
    detector = PoisonDetector()
    detector.delivered("b")
    detector.count(ROW, "a", 0.0)
    detector.delivered("a")
    assert not detector.attempts_of(ROW, 1, 1.0, alone=False).delivered_elsewhere


def test_what_was_delivered_or_parked_is_forgotten():
    detector = PoisonDetector()
    detector.count(ROW, "a", 0.0)
    detector.forget(ROW)
    detector.forget(OTHER)
    assert detector.attempts_of(ROW, 1, 9.0, alone=False) == CountedAttempts(1)
