"""Lanes that are held: by the delay of their head, and by nothing else."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from relay.core.admin import Record
from relay.core.model import DocumentName, MessageId, OrderingKey, RowId, TenantId
from relay.reports.delays import HeldLane, held_lanes

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


def test_a_head_whose_delay_runs_holds_those_behind_it_and_no_other_lane() -> None:
    records = [HEAD, record(2, L), record(3, K), record(4, None), record(5, K)]
    assert held_lanes(records, "key", set(), NOW) == [HeldLane(K, HEAD, 2)]
    assert held_lanes(records, "tenant", set(), NOW) == [HeldLane(None, HEAD, 4)]
    assert held_lanes(records, "none", set(), NOW) == []


def test_a_delay_that_is_over_holds_nothing() -> None:
    assert held_lanes([replace(HEAD, not_before=NOW), record(3, K)], "key", set(), NOW) == []


def test_one_that_is_not_the_head_holds_nothing() -> None:
    assert held_lanes([record(0, K), HEAD], "key", set(), NOW) == []


@pytest.mark.parametrize("until", [None, SOON])
def test_a_message_whose_document_is_not_accepted_holds_no_lane(until: datetime | None) -> None:
    records = [record(0, K, until, SHIPMENT), HEAD, record(2, K)]
    assert held_lanes(records, "key", {SHIPMENT}, NOW) == [HeldLane(K, HEAD, 1)]
