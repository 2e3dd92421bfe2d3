"""What stands still, by the time that is handed in."""

from relay.observability.liveness import LOOP, LOOP_SECONDS, Liveness


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def names(liveness: Liveness) -> list[str]:
    return [late.part for late in liveness.late()]


def test_a_part_is_late_once_its_time_is_over():
    clock = Clock()
    liveness = Liveness(clock)
    liveness.begin("settler", 5)
    clock.now += 5
    liveness.tick()
    assert names(liveness) == []
    clock.now += 1
    (late,) = liveness.late()
    assert (late.part, late.seconds, late.allowed) == ("settler", 6, 5)
    assert str(late) == "settler stands still for 6 s"


def test_a_part_that_gets_on_or_rests_is_never_late():
    clock = Clock()
    liveness = Liveness(clock)
    liveness.begin("settler", 5)
    clock.now += 4
    liveness.begin("settler", 5)
    clock.now += 4
    liveness.tick()
    assert names(liveness) == []
    liveness.rest("settler")
    liveness.rest("nobody")
    clock.now += 100
    liveness.tick()
    assert names(liveness) == []


def test_what_is_late_may_be_given_some_more_time():
    clock = Clock()
    liveness = Liveness(clock)
    liveness.begin("settler", 5)
    clock.now += 15
    liveness.tick()
    assert names(liveness) == ["settler"]
    assert liveness.late(10) == []
    clock.now += 1
    assert [late.part for late in liveness.late(10)] == ["settler"]


def test_when_a_part_last_got_on_is_known():
    clock = Clock()
    liveness = Liveness(clock)
    assert liveness.still("settler") is None
    liveness.begin("settler", 5)
    clock.now += 3
    assert liveness.still("settler") == 3
    liveness.rest("settler")
    assert liveness.still("settler") == 0
    clock.now += 7
    assert liveness.still("settler") == 7


def test_the_loop_comes_first():
    clock = Clock()
    liveness = Liveness(clock)
    liveness.begin("settler", 5)
    clock.now += LOOP_SECONDS + 1
    assert names(liveness) == [LOOP, "settler"]
    assert liveness.silence == LOOP_SECONDS + 1
    liveness.tick(lag=0.25)
    assert names(liveness) == ["settler"]
    assert (liveness.silence, liveness.lag) == (0, 0.25)
