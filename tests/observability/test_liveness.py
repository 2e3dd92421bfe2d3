"""What stands still, by the time that is handed in."""

from relay.observability.liveness import LOOP, LOOP_SECONDS, Pulse


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def names(pulse: Pulse) -> list[str]:
    return [late.part for late in pulse.late()]


def test_a_part_is_late_once_its_time_is_over():
    clock = Clock()
    pulse = Pulse(clock)
    pulse.begin("ledger", 5)
    clock.now += 5
    pulse.tick()
    assert names(pulse) == []
    clock.now += 1
    (late,) = pulse.late()
    assert (late.part, late.seconds, late.allowed) == ("ledger", 6, 5)
    assert str(late) == "ledger stands still for 6 s"


def test_a_part_that_gets_on_or_rests_is_never_late():
    clock = Clock()
    pulse = Pulse(clock)
    pulse.begin("ledger", 5)
    clock.now += 4
    pulse.begin("ledger", 5)
    clock.now += 4
    pulse.tick()
    assert names(pulse) == []
    pulse.rest("ledger")
    pulse.rest("nobody")
    clock.now += 100
    pulse.tick()
    assert names(pulse) == []


def test_what_is_late_may_be_given_some_more_time():
    clock = Clock()
    pulse = Pulse(clock)
    pulse.begin("ledger", 5)
    clock.now += 15
    pulse.tick()
    assert names(pulse) == ["ledger"]
    assert pulse.late(10) == []
    clock.now += 1
    assert [late.part for late in pulse.late(10)] == ["ledger"]


def test_when_a_part_last_got_on_is_known():
    clock = Clock()
    pulse = Pulse(clock)
    assert pulse.still("ledger") is None
    pulse.begin("ledger", 5)
    clock.now += 3
    assert pulse.still("ledger") == 3
    pulse.rest("ledger")
    assert pulse.still("ledger") == 0
    clock.now += 7
    assert pulse.still("ledger") == 7


def test_the_loop_comes_first():
    clock = Clock()
    pulse = Pulse(clock)
    pulse.begin("ledger", 5)
    clock.now += LOOP_SECONDS + 1
    assert names(pulse) == [LOOP, "ledger"]
    assert pulse.silence == LOOP_SECONDS + 1
    pulse.tick(lag=0.25)
    assert names(pulse) == ["ledger"]
    assert (pulse.silence, pulse.lag) == (0, 0.25)
