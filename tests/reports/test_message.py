"""One message's story: what happened to it, how it stands, what a person can do."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from relay.core.admin import MessageState, Record
from relay.core.model import DocumentName, MessageId, RowId, TenantId
from relay.reports.message import Happening, MessageReport
from relay.reports.wait_reasons import Around

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


def told(**changed: Any) -> MessageReport:
    """The story of such a message, whose tenant is not configured."""
    around = Around(NOW, ordering=None, state=None, paused=None, running=False)
    return MessageReport(replace(RECORD, **changed), around)


@pytest.mark.parametrize("state", ["delivered", "parked", "dropped"])
def test_what_is_settled_waits_for_nothing(state: MessageState) -> None:
    story = told(state=state, reason="HTTP 400", settled_at=NOW)
    assert story.waits_for == []
    assert story.happened[-1] == Happening(NOW, f"{state}: HTTP 400")


def test_a_parked_message_says_how_it_goes_on() -> None:
    parked = told(state="parked", reason="HTTP 400").now
    assert "parked: HTTP 400" in parked
    assert "relay messages retry m7" in parked
    assert "relay messages drop m7" in parked
    assert "relay messages retry m7" in told(state="dropped", reason="x").now
    assert "ION took custody" in told(state="delivered").now


def test_what_is_in_the_history_is_told_once_with_its_detail() -> None:
    parked = told(state="parked", reason="HTTP 400", history=((NOW, "parked", "HTTP 400"),))
    assert [happening.text for happening in parked.happened] == ["handed over, 4 bytes", "parked: HTTP 400"]
    counted = told(history=((NOW, "counted", ""),))
    assert counted.happened[-1].text.startswith("not delivered, counted as an attempt")


def test_a_parked_message_leads_to_the_page_of_parked_messages_and_no_other_does() -> None:
    parked = told(state="parked", reason="HTTP 400")
    assert parked.now.endswith("; see: relay explain RELAY-123")
    assert (parked.as_json()["code"], told().as_json()["code"]) == ("RELAY-123", None)
