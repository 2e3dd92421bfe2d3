"""Which of a tenant's documents must wait: not accepted by ION yet, or accepted and yet refused."""

import pytest

from relay.core.accepted_documents import DocumentHolds, PollSchedule, Unready, similar_name
from relay.core.model import DocumentName
from relay.core.retry import Schedule

ORDER, SHIPMENT = DocumentName("Sync.SalesOrder"), DocumentName("Sync.Shipment")
BOTH = frozenset({ORDER, SHIPMENT})


@pytest.fixture
def holds():
    return DocumentHolds(Schedule(2.0, 16.0), lambda: 0.5)


@pytest.fixture
def poll():
    return PollSchedule(Schedule(2.0, 16.0), lambda: 0.5)


# --- names that were probably meant -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("document", "meant"),
    [
        ("sync.salesorder", ORDER),
        ("Sync.SalesOrders", ORDER),
        ("Sync.Salesorder ", ORDER),
        ("SyncShipment", SHIPMENT),
        ("Process.Invoice", None),
        (ORDER, None),
    ],
)
def test_a_name_that_is_not_accepted_is_compared_with_those_that_are(document, meant):
    assert similar_name(DocumentName(document), BOTH) == meant


def test_of_a_very_long_list_only_a_name_in_another_case_is_found():
    many = {DocumentName(f"Sync.Document{number}") for number in range(3000)}
    assert similar_name(DocumentName("sync.document7"), many) == "Sync.Document7"
    assert similar_name(DocumentName("Sync.Documnet7"), many) is None


# --- accepted, and yet refused ----------------------------------------------------------------------


def test_what_was_refused_and_is_no_longer_listed_holds_nothing(holds):
    holds.refuse(ORDER, "a")
    assert holds.after_initialise(frozenset({SHIPMENT}), 0.0) == []
    assert holds.after_initialise(BOTH, 0.0) == []


def test_what_is_listed_all_the_same_holds_its_lane_longer_each_time(holds):
    ends = []
    for _ in range(3):
        holds.refuse(ORDER, "a")
        ends += holds.after_initialise(BOTH, 100.0)
    assert ends == [("a", 101.5), ("a", 103.0), ("a", 106.0)]
    assert not holds.any_held
    assert holds.next_end is None


def test_two_lanes_hold_the_whole_document(holds):
    holds.refuse(ORDER, "a")
    assert holds.after_initialise(BOTH, 0.0) == [("a", 1.5)]
    holds.refuse(ORDER, "b")
    assert holds.after_initialise(BOTH, 0.0) == []
    assert holds.any_held
    assert holds.next_end == 1.5
    assert holds.held(1.4) == ({ORDER}, False)
    assert holds.held(1.5) == (frozenset(), True)
    assert holds.held(1.6) == (frozenset(), False)


def test_a_delivery_makes_the_next_refusal_the_first_again(holds):
    holds.refuse(ORDER, "a")
    holds.after_initialise(BOTH, 0.0)
    holds.delivered(ORDER)
    holds.refuse(ORDER, "b")
    assert holds.after_initialise(BOTH, 0.0) == [("b", 1.5)]


def test_an_operators_change_ends_all_holds(holds):
    for lane in "ab":
        holds.refuse(ORDER, lane)
    holds.after_initialise(BOTH, 0.0)
    assert holds.any_held
    holds.clear()
    assert not holds.any_held


def test_one_lane_alone_never_holds_the_document():
    unready = Unready()
    assert [unready.count(ORDER, "a") for _ in range(3)] == [(1, False), (2, False), (3, False)]


def test_a_second_lane_holds_the_whole_document_for_the_longest_of_both():
    unready = Unready()
    unready.count(ORDER, "a")
    unready.count(ORDER, "a")
    assert unready.count(ORDER, "b") == (2, True)


def test_a_delivery_of_the_document_clears_its_refusals():
    unready = Unready()
    unready.count(ORDER, "a")
    unready.delivered(ORDER)
    unready.delivered(ORDER)
    assert unready.count(ORDER, "b") == (1, False)


# --- not accepted yet -------------------------------------------------------------------------------


def test_where_nothing_waits_nothing_is_polled(poll):
    assert poll.update(frozenset(), 0.0) == frozenset()
    assert poll.next_poll is None
    assert not poll.is_due(10.0**9)


def test_what_waits_is_new_once_and_polled_on_the_retry_schedule(poll):
    assert poll.update(frozenset({ORDER}), 0.0) == {ORDER}
    assert poll.update(frozenset({ORDER}), 1.0) == frozenset()
    times = []
    for _ in range(5):
        times.append(poll.next_poll)
        assert not poll.is_due(poll.next_poll - 0.1)
        assert poll.is_due(poll.next_poll)
        poll.polled(poll.next_poll)
    gaps = [later - earlier for earlier, later in zip([0.0, *times], times, strict=False)]
    assert gaps == [1.5, 3.0, 6.0, 12.0, 12.0]


def test_another_document_that_waits_starts_the_schedule_again(poll):
    poll.update(frozenset({ORDER}), 0.0)
    for _ in range(5):
        poll.polled(100.0)
    assert poll.update(BOTH, 100.0) == {SHIPMENT}
    assert poll.next_poll == 101.5
    assert poll.update(frozenset(), 100.0) == frozenset()
    assert poll.next_poll is None


def test_an_operators_change_polls_at_once_where_something_waits(poll):
    poll.poll_now()
    assert poll.next_poll is None
    poll.update(frozenset({ORDER}), 5.0)
    poll.poll_now()
    assert poll.is_due(5.0)
