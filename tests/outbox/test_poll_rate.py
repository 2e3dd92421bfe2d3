"""How often an outbox is polled."""

from relay.outbox.poll_rate import PollRate


def test_the_rest_depends_on_the_quickest_of_the_last_twenty_polls():
    now = 100.0
    pace = PollRate(5, lambda: now)
    assert pace.rest == 0.0
    pace.polled(2.0)
    assert pace.rest == 10.0
    pace.polled(1.0)
    pace.polled(8.0)
    assert pace.rest == 5.0
    now += 3.0
    assert pace.rest == 2.0
    now += 3.0
    assert pace.rest == 0.0
    for _ in range(20):
        pace.polled(4.0)
    assert pace.rest == 20.0
