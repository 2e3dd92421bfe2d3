"""The report on one message: its history, its state, and what an operator can do."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from relay.core.admin import MessageState, Record
from relay.core.model import DocumentName, MessageId, RowId, TenantId
from relay.reports.message import HistoryEntry, MessageReport
from relay.reports.wait_reasons import WaitContext

NOW = datetime(2026, 1, 2, 12, 0, tzinfo=UTC)

RECORD = Record(
    row=RowId(7),
    tenant_id=TenantId("ACME"),
    document_name=DocumentName("Sync.SalesOrder"),
    message_id=MessageId("m7"),
    to_logical_id="lid://default",
    ordering_key=None,
    parameters={},
    size=4,
    state="pending",
    reason=None,
    attempts=0,
    not_before=None,
    created_at=NOW - timedelta(hours=1),
    queued_at=NOW - timedelta(hours=1),
    settled_at=None,
)


def report(**changed: Any) -> MessageReport:
    """The report on such a message, whose tenant is not configured."""
    context = WaitContext(NOW, ordering=None, state=None, paused=None, running=False)
    return MessageReport(replace(RECORD, **changed), context)


@pytest.mark.parametrize("state", ["delivered", "parked", "dropped"])
def test_a_settled_message_waits_for_nothing(state: MessageState) -> None:
    found = report(state=state, reason="HTTP 400", settled_at=NOW)
    assert found.waits_for == []
    assert found.history[-1] == HistoryEntry(NOW, f"{state}: HTTP 400")


def test_the_commands_fit_the_state_and_the_summary_names_none() -> None:
    parked = report(state="parked", reason="HTTP 400")
    assert "parked: HTTP 400" in parked.summary
    assert parked.commands == [
        "relay messages retry m7",
        "relay messages drop m7",
        "relay explain RELAY-123",
    ]
    dropped = report(state="dropped", reason="x")
    assert dropped.commands == ["relay messages retry m7"]
    assert not any("relay messages" in one.summary for one in (parked, dropped))
    assert "ION took custody" in report(state="delivered").summary
    assert report(state="delivered").commands == report().commands == []


def test_an_event_in_the_history_is_listed_once_with_its_detail() -> None:
    parked = report(state="parked", reason="HTTP 400", history=((NOW, "parked", "HTTP 400"),))
    assert [entry.text for entry in parked.history] == ["enqueued, 4 bytes", "parked: HTTP 400"]
    counted = report(history=((NOW, "counted", ""),))
    assert counted.history[-1].text.startswith("not delivered, counted as an attempt")


def test_a_parked_message_has_the_code_of_parked_messages_and_no_other_has() -> None:
    parked = report(state="parked", reason="HTTP 400")
    assert (parked.code, report().code) == ("RELAY-123", None)
    assert (parked.as_json()["code"], report().as_json()["code"]) == ("RELAY-123", None)
