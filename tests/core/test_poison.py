"""What is remembered about messages that may themselves be the trouble."""

from relay.core.model import DocumentName, RowId
from relay.core.poison import CountedAttempts, PoisonDetector, Unready

ROW, OTHER = RowId(1), RowId(2)
ORDER = DocumentName("Sync.SalesOrder")


def test_a_message_never_blamed_has_only_its_attempts():
    assert PoisonDetector().of(ROW, 3, 100.0, alone=True) == CountedAttempts(attempts=3, alone=True)


def test_time_counts_from_the_first_blame():
    blames = PoisonDetector()
    blames.counted(ROW, "a", 10.0)
    blames.counted(ROW, "a", 50.0)
    assert blames.of(ROW, 2, 60.0, alone=False) == CountedAttempts(2, 50.0)


def test_a_delivery_from_another_lane_speaks_against_it():
    blames = PoisonDetector()
    blames.counted(ROW, "a", 0.0)
    blames.delivered("b")
    blames.delivered("b")
    assert blames.of(ROW, 1, 1.0, alone=False).delivered_elsewhere


def test_a_delivery_from_its_own_lane_or_before_the_blame_does_not():
    blames = PoisonDetector()
    blames.delivered("b")
    blames.counted(ROW, "a", 0.0)
    blames.delivered("a")
    assert not blames.of(ROW, 1, 1.0, alone=False).delivered_elsewhere


def test_what_was_delivered_or_parked_is_forgotten():
    blames = PoisonDetector()
    blames.counted(ROW, "a", 0.0)
    blames.cleared(ROW)
    blames.cleared(OTHER)
    assert blames.of(ROW, 1, 9.0, alone=False) == CountedAttempts(1)


def test_one_lane_alone_never_holds_the_document():
    unready = Unready()
    assert [unready.met(ORDER, "a") for _ in range(3)] == [(1, False), (2, False), (3, False)]


def test_a_second_lane_holds_the_whole_document_for_the_longest_of_both():
    unready = Unready()
    unready.met(ORDER, "a")
    unready.met(ORDER, "a")
    assert unready.met(ORDER, "b") == (2, True)


def test_a_delivery_of_the_document_clears_it():
    unready = Unready()
    unready.met(ORDER, "a")
    unready.delivered(ORDER)
    unready.delivered(ORDER)
    assert unready.met(ORDER, "b") == (1, False)
