"""The counts of one process by time, until the outbox has them."""

from relay.core.activity import EVERYONE, MINUTES, QUARTERS, bucket_of
from relay.core.model import TenantId
from relay.observability.activity import ActivityLedger
from relay.observability.metrics import Meters

ACME, GLOBEX = TenantId("ACME_PRD"), TenantId("GLOBEX_TST")
NOON = 1_800_000_000


def unwritten(ledger):
    while ledger.merge(1):
        pass
    return ledger.unwritten()


def by_minute(ledger):
    """What is unwritten of the minutes: (source, start, tenant, delivered, failed, parked)."""
    return sorted(
        (key.source, key.start - NOON, key.tenant, one.delivered, one.failed, one.parked)
        for key, one in unwritten(ledger).items()
        if key.span == MINUTES
    )


def test_counts_belong_to_the_minute_and_the_quarter_in_which_they_were_made():
    ledger = ActivityLedger("p")
    ledger.collect(NOON + 50)
    ledger.of(ACME).add_delivery(0.5)
    ledger.collect(NOON + 60)
    ledger.of(ACME).failed += 1
    ledger.of(GLOBEX).parked += 1
    ledger.collect(NOON + 70)
    assert by_minute(ledger) == [
        ("p-0", 0, "", 1, 0, 0),
        ("p-0", 0, ACME, 1, 0, 0),
        ("p-0", 60, "", 0, 1, 1),
        ("p-0", 60, ACME, 0, 1, 0),
        ("p-0", 60, GLOBEX, 0, 0, 1),
    ]
    (quarter,) = (
        one for key, one in unwritten(ledger).items() if key.span == QUARTERS and key.tenant == EVERYONE
    )
    assert (quarter.delivered, quarter.failed, quarter.parked) == (1, 1, 1)
    assert quarter.queued == {bucket_of(0.5): 1}


def test_a_minute_without_any_message_is_recorded_as_one_of_nothing():
    ledger = ActivityLedger("p")
    ledger.collect(NOON)
    assert by_minute(ledger) == [("p-0", 0, "", 0, 0, 0)]


def test_what_is_written_is_not_written_again_until_it_changes_and_then_in_whole():
    ledger = ActivityLedger("p")
    ledger.collect(NOON)
    ledger.of(ACME).add_delivery(0.5)
    ledger.collect(NOON + 10)
    assert len(by_minute(ledger)) == 2
    ledger.written()
    assert by_minute(ledger) == []
    ledger.of(ACME).add_delivery(0.5)
    ledger.collect(NOON + 20)
    assert by_minute(ledger) == [("p-0", 0, "", 2, 0, 0), ("p-0", 0, ACME, 2, 0, 0)]


def test_what_could_not_be_written_is_kept_for_the_next_time():
    ledger = ActivityLedger("p")
    ledger.collect(NOON)
    ledger.of(ACME).add_delivery(0.5)
    ledger.collect(NOON + 60)
    ledger.collect(NOON + 120)
    assert ("p-0", 0, ACME, 1, 0, 0) in by_minute(ledger)


def test_memory_is_bounded_while_the_outbox_takes_nothing_for_days():
    ledger = ActivityLedger("p")
    for minute in range(3 * 24 * 60):
        ledger.of(ACME).add_delivery(0.5)
        ledger.collect(NOON + 60 * minute)
        ledger.merge(1)
    assert len(unwritten(ledger)) <= 2 * (MINUTES.kept / 60 + QUARTERS.kept / 900 + 2)


def test_memory_is_bounded_while_the_outbox_takes_everything():
    ledger = ActivityLedger("p")
    for minute in range(100):
        ledger.of(ACME).add_delivery(0.5)
        ledger.collect(NOON + 60 * minute)
        assert unwritten(ledger)
        ledger.written()
    ledger.of(ACME).add_delivery(0.5)
    ledger.collect(NOON + 60 * 100)
    assert len(unwritten(ledger)) <= 8


def test_a_clock_that_is_set_back_replaces_nothing_that_was_written():
    ledger = ActivityLedger("p")
    ledger.collect(NOON)
    ledger.of(ACME).add_delivery(0.5)
    ledger.collect(NOON + 130)
    assert by_minute(ledger)
    ledger.written()
    ledger.collect(NOON + 5)
    ledger.of(ACME).add_delivery(0.5)
    ledger.collect(NOON + 10)
    assert by_minute(ledger) == [("p-1", 0, "", 1, 0, 0), ("p-1", 0, ACME, 1, 0, 0)]


def test_a_clock_that_jumps_ahead_leaves_the_counts_in_their_minute():
    ledger = ActivityLedger("p")
    ledger.collect(NOON)
    ledger.of(ACME).add_delivery(0.5)
    ledger.collect(NOON + 3600)
    assert ("p-0", 0, ACME, 1, 0, 0) in by_minute(ledger)
    assert ("p-0", 3600, "", 0, 0, 0) in by_minute(ledger)


def test_the_meter_of_a_tenant_counts_here_too():
    meters = Meters()
    meters.activity.collect(NOON)
    meter = meters.of(ACME)
    meter.delivered(0.25)
    meter.released("busy", counted=False)
    meter.parked("invalid")
    meter.called("post", 201, 0.1)
    meter.called("post", None, 9.0)
    meter.called("ping", 200, 9.0)
    meters.activity.collect(NOON + 1)
    (one,) = (
        one for key, one in unwritten(meters.activity).items() if (key.span, key.tenant) == (MINUTES, ACME)
    )
    assert (one.delivered, one.failed, one.parked, one.waiting) == (1, 1, 1, None)
    assert (one.queued, one.answered) == ({bucket_of(0.25): 1}, {bucket_of(0.1): 1})


def test_tenants_beyond_the_bound_of_the_metrics_have_counts_of_their_own():
    meters = Meters(bound=1)
    meters.activity.collect(NOON)
    for tenant in (ACME, GLOBEX):
        meters.of(tenant).delivered(0.1)
    meters.activity.collect(NOON + 1)
    assert [row[2:4] for row in by_minute(meters.activity)] == [("", 2), (ACME, 1), (GLOBEX, 1)]
