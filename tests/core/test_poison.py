"""Poison-message detection: which messages fail while others are delivered."""

import pytest

from relay.core.model import DocumentName, Message, MessageId, RowId, TenantId
from relay.core.poison import CountedAttempts, Lane, PoisonDetector

ORDER, SHIPMENT = DocumentName("Sync.SalesOrder"), DocumentName("Sync.Shipment")


def message(row: int, document: DocumentName = ORDER, attempts: int = 0) -> Message:
    return Message(
        RowId(row), TenantId("ACME_PRD"), document, MessageId(f"m-{row}"), b"<x/>", 4, attempts=attempts
    )


POISON = message(1)


class History:
    """A detector, and what happened to whom, one answer after the other."""

    def __init__(self) -> None:
        self.detector = PoisonDetector()

    def failed(self, one: Message, lane: Lane, now: float = 0.0, *, alike: bool = True) -> None:
        self.detector.failed(one, lane, now, alike=alike)

    def known(self, *, alone: bool = False, by_document: bool = False, now: float = 9.0) -> CountedAttempts:
        return self.detector.attempts_of(POISON, "a", now, alone=alone, by_document=by_document)


def test_a_message_that_did_not_fail_here_has_only_the_attempts_of_the_outbox() -> None:
    one = message(1, attempts=3)
    known = PoisonDetector().attempts_of(one, "a", 100.0, alone=True)
    assert known == CountedAttempts(3, alone=True, message_id=MessageId("m-1"))


def test_time_counts_from_the_first_failure() -> None:
    history = History()
    history.failed(POISON, "a", 10.0)
    history.failed(POISON, "a", 50.0)
    known = history.known(now=60.0)
    assert known == CountedAttempts(0, 50.0, again=True, message_id=MessageId("m-1"))


def test_a_delivery_of_another_lane_is_noted() -> None:
    history = History()
    history.failed(POISON, "a")
    history.detector.delivered(message(2), "b")
    history.detector.delivered(message(3), "b")
    assert history.known().delivered_elsewhere


def test_a_delivery_of_its_own_lane_or_before_its_first_failure_is_none() -> None:
    history = History()
    history.detector.delivered(message(2), "b")
    history.failed(POISON, "a")
    history.detector.delivered(message(3), "a")
    assert not history.known().delivered_elsewhere


def test_a_delivery_of_another_lane_counts_also_when_its_own_delivered_last() -> None:
    history = History()
    history.failed(POISON, "a")
    for lane in ("b", "a", "a"):
        history.detector.delivered(message(2), lane)
    assert history.known().delivered_elsewhere


def test_where_another_lane_failed_last_it_is_not_the_messages_own() -> None:
    history = History()
    history.failed(POISON, "a")
    assert not history.known().failed_elsewhere
    history.detector.delivered(message(2), "b")
    history.failed(message(3), "c")
    history.failed(POISON, "a")
    known = history.known()
    assert (known.delivered_elsewhere, known.failed_elsewhere) == (False, True)
    history.detector.delivered(message(4), "b")
    assert history.known().delivered_elsewhere


def test_another_message_that_alone_fails_says_nothing_about_this_one() -> None:
    history = History()
    history.failed(POISON, "a")
    history.detector.delivered(message(2), "b")
    history.failed(message(3), "c", alike=False)
    known = history.known()
    assert (known.delivered_elsewhere, known.failed_elsewhere) == (True, False)


@pytest.mark.parametrize(("document", "is_evidence"), [(ORDER, True), (SHIPMENT, False)])
def test_of_an_answer_about_a_document_only_the_same_document_is_evidence(
    document: DocumentName, is_evidence: bool
) -> None:
    history = History()
    history.failed(POISON, "a")
    history.detector.delivered(message(2, document), "b")
    assert history.known().delivered_elsewhere
    assert history.known(by_document=True).delivered_elsewhere == is_evidence
    history.failed(message(3, document), "c")
    assert history.known(by_document=True).failed_elsewhere == is_evidence


def test_it_is_reported_once_that_only_this_message_fails() -> None:
    history = History()
    history.failed(POISON, "a")
    assert [history.detector.report(POISON.row) for _ in range(3)] == [True, False, False]


def test_what_was_delivered_or_parked_is_forgotten() -> None:
    history = History()
    history.failed(POISON, "a")
    history.detector.forget(POISON.row)
    history.detector.forget(RowId(7))
    assert not history.known().again
    history.failed(POISON, "a")
    history.detector.delivered(POISON, "a")
    assert not history.known().again
