"""Callers that failed too often have to wait, and nobody else has."""

from relay.web import login_throttle
from relay.web.login_throttle import LoginThrottle


def test_whoever_fails_too_often_waits_until_the_oldest_failure_is_old_enough():
    of = LoginThrottle(most=3, seconds=60)
    for at in (0.0, 10.0, 20.0):
        assert of.wait("a", at) == 0
        of.failed("a", at)
    assert of.wait("a", 20.0) == 40
    assert of.wait("a", 60.0) == 0
    assert of.wait("b", 20.0) == 0


def test_failing_on_lengthens_the_wait():
    of = LoginThrottle(most=2, seconds=60)
    for at in (0.0, 1.0, 30.0):
        of.failed("a", at)
    assert of.wait("a", 30.0) == 31


def test_the_callers_that_are_remembered_are_bounded(monkeypatch):
    monkeypatch.setattr(login_throttle, "MOST_CALLERS", 2)
    of = LoginThrottle(most=1, seconds=60)
    for caller in "abc":
        of.failed(caller, 0.0)
    assert [of.wait(caller, 0.0) > 0 for caller in "abc"] == [False, True, True]
