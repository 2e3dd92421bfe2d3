"""Which messages may go now, and which lanes are blocked: by messages that wait for their time."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from relay.core.admin import Record
from relay.core.model import DocumentName, MessageId, OrderingKey, RowId, TenantId
from relay.reports.delays import BlockedLane, blocked_lanes, blocker, held_until

NOW = datetime(2026, 1, 2, 12, 0, tzinfo=UTC)
SOON = NOW + timedelta(minutes=1)
K, L = OrderingKey("K"), OrderingKey("L")
ORDER, SHIPMENT = DocumentName("Sync.SalesOrder"), DocumentName("Sync.Shipment")


def record(
    row: int, key: OrderingKey | None, until: datetime | None = None, document: DocumentName = ORDER
) -> Record:
    return Record(
        row=RowId(row),
        tenant_id=TenantId("ACME"),
        document_name=document,
        message_id=MessageId(f"m{row}"),
        to_logical_id="lid://default",
        ordering_key=key,
        parameters={},
        size=4,
        state="pending",
        reason=None,
        attempts=0,
        not_before=until,
        created_at=NOW,
        queued_at=NOW,
        settled_at=None,
    )


HEAD = record(1, K, SOON)


def test_a_head_that_backs_off_blocks_its_lane_and_no_other() -> None:
    records = [HEAD, record(2, L), record(3, K), record(4, None), record(5, K)]
    assert blocked_lanes(records, "key", set(), NOW) == [BlockedLane(K, HEAD, 2)]
    assert blocked_lanes(records, "tenant", set(), NOW) == [BlockedLane(None, HEAD, 4)]
    assert blocked_lanes(records, "none", set(), NOW) == []


def test_a_back_off_that_is_over_blocks_nothing() -> None:
    assert blocked_lanes([replace(HEAD, not_before=NOW), record(3, K)], "key", set(), NOW) == []


def test_a_message_within_a_lane_blocks_what_is_behind_it_and_nothing_before_it() -> None:
    records = [record(0, K), HEAD, record(2, K), record(3, L)]
    assert blocked_lanes(records, "key", set(), NOW) == [BlockedLane(K, HEAD, 1)]
    assert blocked_lanes(records, "tenant", set(), NOW) == [BlockedLane(None, HEAD, 2)]
    held = {each.row: until for each, until in held_until(records, "key", set(), NOW)}
    assert held == {0: None, 1: SOON, 2: SOON, 3: None}
    assert {each.row for each, until in held_until(records, "none", set(), NOW) if until} == {1}


def test_the_time_of_a_lane_is_the_latest_of_those_before() -> None:
    records = [HEAD, record(2, K, NOW + timedelta(seconds=1)), record(3, K, NOW + timedelta(days=1))]
    held = [until for _, until in held_until(records, "key", set(), NOW)]
    assert held == [SOON, SOON, NOW + timedelta(days=1)]


def test_what_a_message_waits_for_is_the_first_that_waits_for_its_time_else_the_first() -> None:
    assert blocker([], NOW) is None
    assert blocker([record(0, K), record(2, K)], NOW) == record(0, K)
    assert blocker([record(0, K), HEAD, record(2, K)], NOW) == HEAD


@pytest.mark.parametrize("until", [None, SOON])
def test_a_message_whose_document_is_not_accepted_blocks_no_lane(until: datetime | None) -> None:
    records = [record(0, K, until, SHIPMENT), HEAD, record(2, K)]
    assert blocked_lanes(records, "key", {SHIPMENT}, NOW) == [BlockedLane(K, HEAD, 1)]
