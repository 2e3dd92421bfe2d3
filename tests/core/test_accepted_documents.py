"""Which of a tenant's documents must wait."""

import pytest

from relay.core.accepted_documents import Documents
from relay.core.model import DocumentName
from relay.core.retry import Schedule

ORDER, SHIPMENT = DocumentName("Sync.SalesOrder"), DocumentName("Sync.Shipment")
BOTH = frozenset({ORDER, SHIPMENT})


@pytest.fixture
def documents():
    return Documents(Schedule(2.0, 16.0), lambda: 0.5)


def test_what_was_refused_and_is_listed_no_more_holds_nothing(documents):
    documents.refused(ORDER, "a")
    assert documents.initialised(frozenset({SHIPMENT}), 0.0) == []
    assert documents.initialised(BOTH, 0.0) == []


def test_what_is_listed_all_the_same_holds_its_lane_longer_each_time(documents):
    ends = []
    for _ in range(3):
        documents.refused(ORDER, "a")
        ends += documents.initialised(BOTH, 100.0)
    assert ends == [("a", 101.5), ("a", 103.0), ("a", 106.0)]
    assert not documents.holding
    assert documents.next_hold_end is None


def test_two_lanes_hold_the_whole_document(documents):
    documents.refused(ORDER, "a")
    assert documents.initialised(BOTH, 0.0) == [("a", 1.5)]
    documents.refused(ORDER, "b")
    assert documents.initialised(BOTH, 0.0) == []
    assert documents.holding
    assert documents.next_hold_end == 1.5
    assert documents.held(1.4) == ({ORDER}, False)
    assert documents.held(1.5) == (frozenset(), True)
    assert documents.held(1.6) == (frozenset(), False)


def test_a_delivery_makes_the_next_refusal_the_first_again(documents):
    documents.refused(ORDER, "a")
    documents.initialised(BOTH, 0.0)
    documents.delivered(ORDER)
    documents.refused(ORDER, "b")
    assert documents.initialised(BOTH, 0.0) == [("b", 1.5)]


def test_nothing_waits_nothing_is_asked(documents):
    assert documents.waiting(frozenset(), 0.0) == frozenset()
    assert documents.ask_at is None
    assert not documents.is_ask_due(10.0**9)


def test_what_waits_is_told_once_and_asked_for_on_the_retry_schedule(documents):
    assert documents.waiting(frozenset({ORDER}), 0.0) == {ORDER}
    assert documents.waiting(frozenset({ORDER}), 1.0) == frozenset()
    times = []
    for _ in range(5):
        times.append(documents.ask_at)
        assert not documents.is_ask_due(documents.ask_at - 0.1)
        assert documents.is_ask_due(documents.ask_at)
        documents.asked(documents.ask_at)
    gaps = [later - earlier for earlier, later in zip([0.0, *times], times, strict=False)]
    assert gaps == [1.5, 3.0, 6.0, 12.0, 12.0]


def test_another_document_that_waits_starts_the_schedule_anew(documents):
    documents.waiting(frozenset({ORDER}), 0.0)
    for _ in range(5):
        documents.asked(100.0)
    assert documents.waiting(BOTH, 100.0) == {SHIPMENT}
    assert documents.ask_at == 101.5
    assert documents.waiting(frozenset(), 100.0) == frozenset()
    assert documents.ask_at is None


def test_a_persons_change_lets_go_and_asks_at_once(documents):
    for lane in "ab":
        documents.refused(ORDER, lane)
    documents.initialised(BOTH, 0.0)
    documents.revised()
    assert not documents.holding
    assert documents.ask_at is None
    documents.waiting(frozenset({ORDER}), 5.0)
    documents.revised()
    assert documents.is_ask_due(5.0)
