"""Stalled components, by a clock that the test advances."""

from relay.observability.liveness import LOOP, LOOP_SECONDS, Liveness


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def names(liveness: Liveness) -> list[str]:
    return [one.component for one in liveness.overdue()]


def test_a_component_is_overdue_once_its_time_is_over():
    clock = Clock()
    liveness = Liveness(clock)
    liveness.begin("settler", 5)
    clock.now += 5
    liveness.tick()
    assert names(liveness) == []
    clock.now += 1
    (late,) = liveness.overdue()
    assert (late.component, late.seconds, late.allowed) == ("settler", 6, 5)
    assert str(late) == "settler has been stalled for 6 s"


def test_a_component_that_makes_progress_or_is_idle_is_never_overdue():
    clock = Clock()
    liveness = Liveness(clock)
    liveness.begin("settler", 5)
    clock.now += 4
    liveness.begin("settler", 5)
    clock.now += 4
    liveness.tick()
    assert names(liveness) == []
    liveness.idle("settler")
    liveness.idle("nobody")
    clock.now += 100
    liveness.tick()
    assert names(liveness) == []


def test_an_overdue_component_may_be_given_a_grace_time():
    clock = Clock()
    liveness = Liveness(clock)
    liveness.begin("settler", 5)
    clock.now += 15
    liveness.tick()
    assert names(liveness) == ["settler"]
    assert liveness.overdue(10) == []
    clock.now += 1
    assert [one.component for one in liveness.overdue(10)] == ["settler"]


def test_seconds_since_the_last_progress_are_known():
    clock = Clock()
    liveness = Liveness(clock)
    assert liveness.seconds_since_progress("settler") is None
    liveness.begin("settler", 5)
    clock.now += 3
    assert liveness.seconds_since_progress("settler") == 3
    liveness.idle("settler")
    assert liveness.seconds_since_progress("settler") == 0
    clock.now += 7
    assert liveness.seconds_since_progress("settler") == 7


def test_the_loop_comes_first():
    clock = Clock()
    liveness = Liveness(clock)
    liveness.begin("settler", 5)
    clock.now += LOOP_SECONDS + 1
    assert names(liveness) == [LOOP, "settler"]
    assert liveness.seconds_since_tick == LOOP_SECONDS + 1
    liveness.tick(lag=0.25)
    assert names(liveness) == ["settler"]
    assert (liveness.seconds_since_tick, liveness.lag) == (0, 0.25)
