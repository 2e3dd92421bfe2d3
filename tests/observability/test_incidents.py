"""Incidents and deliveries: many events become few lines of the log."""

import io
import json
from collections.abc import Callable
from typing import Any

from relay.core.answers import FaultOwner
from relay.core.model import DocumentName, Message, MessageId, RowId, TenantId
from relay.observability import logs
from relay.observability.incidents import Incidents, Tally


class _FakeTimers:
    """A clock and its timers, advanced by hand."""

    def __init__(self) -> None:
        self.now = 0.0
        self.due: dict[int, tuple[float, Callable[[], None]]] = {}
        self._last = 0

    def call_later(self, seconds: float, callback: Callable[[], None]) -> "_FakeTimer":
        self._last += 1
        self.due[self._last] = (self.now + seconds, callback)
        return _FakeTimer(self, self._last)

    def advance_to(self, now: float) -> None:
        while self.due:
            number, (when, callback) = min(self.due.items(), key=lambda item: item[1][0])
            if when > now:
                break
            del self.due[number]
            self.now = when
            callback()
        self.now = now


class _FakeTimer:
    def __init__(self, timers: _FakeTimers, number: int) -> None:
        self._timers, self._number = timers, number

    def cancel(self) -> None:
        self._timers.due.pop(self._number, None)


class _Scene:
    def __init__(self, level: str = "info", tenant: str | None = "ACME") -> None:
        self.stream, self.timers = io.StringIO(), _FakeTimers()
        logs.configure(level, "json", self.stream)
        self.incidents = Incidents(logs.logger(), tenant, lambda: self.timers.now, 60, self.timers.call_later)
        self.tally = Tally(logs.logger(), 60, self.timers.call_later)

    def fail(self, kind: str = "busy", fault: FaultOwner = FaultOwner.ION, detail: str = "HTTP 503") -> None:
        self.incidents.report(kind, detail=detail, fault=fault, hint="wait")

    def lines(self) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in self.stream.getvalue().splitlines()]
        self.stream.seek(0)
        self.stream.truncate()
        for line in lines:
            del line["timestamp"]
        return lines


def test_an_incident_opens_is_summarised_on_the_timer_and_is_resolved() -> None:
    scene = _Scene()
    scene.fail()
    assert scene.lines() == [
        {
            "level": "warning",
            "event": "incident.opened",
            "tenant": "ACME",
            "kind": "busy",
            "detail": "HTTP 503",
        }
        | {"fault": "ION's or the network's", "hint": "wait", "code": "RELAY-101"}
    ]
    scene.timers.now = 5
    scene.fail(detail="HTTP 503 again")
    scene.timers.advance_to(60)
    assert scene.lines() == [
        {
            "level": "error",
            "event": "incident.ongoing",
            "tenant": "ACME",
            "kind": "busy",
            "count": 1,
            "total": 2,
        }
        | {"seconds": 60.0, "first": "HTTP 503", "last": "HTTP 503 again"}
        | {"fault": "ION's or the network's", "hint": "wait", "code": "RELAY-101"}
    ]
    scene.timers.advance_to(72.5)
    assert scene.incidents.open
    scene.incidents.resolved()
    assert not scene.incidents.open
    assert scene.lines() == [
        {"level": "info", "event": "incident.resolved", "tenant": "ACME", "seconds": 72.5, "count": 2}
        | {"kinds": ["busy"], "last": "HTTP 503 again"}
    ]
    assert not scene.timers.due


def test_what_an_operator_must_fix_opens_as_an_error() -> None:
    scene = _Scene()
    scene.fail("forbidden", fault=FaultOwner.CREDENTIALS)
    assert scene.lines()[0]["level"] == "error"


def test_an_ongoing_incident_is_logged_once_a_period() -> None:
    scene = _Scene()
    scene.fail()
    scene.timers.advance_to(600)
    assert [line["event"] for line in scene.lines()] == ["incident.opened"] + ["incident.ongoing"] * 10
    assert len(scene.timers.due) == 1


def test_resolving_without_an_incident_logs_nothing_and_sets_no_timer() -> None:
    scene = _Scene()
    scene.incidents.resolved()
    assert scene.lines() == []
    assert not scene.timers.due


def test_an_intermittent_incident_ends_with_the_timer_and_leaves_none() -> None:
    scene = _Scene()
    for second in range(30):
        scene.timers.advance_to(second)
        scene.fail()
        scene.incidents.resolved()
    assert len(scene.lines()) == 10
    scene.timers.advance_to(1000)
    assert [line["event"] for line in scene.lines()] == ["incident.ongoing", "incident.resolved"]
    assert not scene.timers.due


def test_closing_leaves_no_timer() -> None:
    scene = _Scene()
    scene.fail()
    scene.incidents.close()
    assert not scene.timers.due
    scene.incidents.close()


def test_incidents_of_the_process_name_no_tenant() -> None:
    scene = _Scene(tenant=None)
    scene.fail("outbox")
    assert "tenant" not in scene.lines()[0]


# --- deliveries ---------------------------------------------------------------------------------------


def message(number: int, tenant: str = "ACME", document: str = "Sync.SalesOrder") -> Message:
    return Message(
        RowId(number), TenantId(tenant), DocumentName(document), MessageId(f"m{number}"), b"<x/>", 4
    )


def test_deliveries_are_one_line_a_minute_and_tenant_at_info() -> None:
    scene = _Scene()
    for number in range(5):
        scene.tally.delivered(message(number))
    scene.tally.delivered(message(5, document="Sync.Shipment"))
    scene.tally.delivered(message(6, tenant="OTHER"))
    assert scene.lines() == []
    scene.timers.advance_to(60)
    assert scene.lines() == [
        {"level": "info", "event": "messages.delivered", "tenant": "ACME", "count": 6}
        | {"documents": {"Sync.SalesOrder": 5, "Sync.Shipment": 1}},
        {"level": "info", "event": "messages.delivered", "tenant": "OTHER", "count": 1}
        | {"documents": {"Sync.SalesOrder": 1}},
    ]


def test_without_deliveries_there_is_no_timer_and_no_line() -> None:
    scene = _Scene()
    assert not scene.timers.due
    scene.tally.delivered(message(1))
    scene.timers.advance_to(600)
    assert len(scene.lines()) == 1
    assert not scene.timers.due


def test_at_debug_each_delivery_is_a_line() -> None:
    scene = _Scene("debug")
    scene.tally.delivered(message(1))
    scene.tally.delivered(message(2), 0.01234567)
    expected = {
        "level": "debug",
        "event": "message.delivered",
        "tenant": "ACME",
        "document": "Sync.SalesOrder",
    }
    assert scene.lines() == [
        expected | {"message_id": "m1", "bytes": 4},
        expected | {"message_id": "m2", "bytes": 4, "seconds": 0.0123},
    ]


def test_flushing_logs_the_deliveries_since_the_last_summary_and_leaves_no_timer() -> None:
    scene = _Scene()
    scene.tally.delivered(message(1))
    scene.tally.flush()
    assert [line["count"] for line in scene.lines()] == [1]
    assert not scene.timers.due
    scene.tally.flush()
    assert scene.lines() == []
