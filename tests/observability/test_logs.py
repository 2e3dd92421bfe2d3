"""The log: its form, and how it says much in few lines."""

import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import structlog

from relay.core.model import DocumentName, Message, MessageId, RowId, TenantId
from relay.core.protocol import Fault
from relay.observability import logs


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _undone() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    structlog.reset_defaults()
    logging.captureWarnings(capture=False)
    root.handlers[:], root.level = handlers, level


def lines_of(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


EVIL = 'he said "hi"\nline two\r\t\x1b[31mred\x9b \u2028 \u202e \ud800 Grüße 你好'


def fail(text: str) -> None:
    raise ValueError(text)


# --- form -------------------------------------------------------------------------------------------


def test_json_lines_carry_timestamp_level_event_tenant_first() -> None:
    stream = io.StringIO()
    logs.configure("info", "json", stream)
    logs.logger(tenant="ACME").warning("message.parked", reason="400", message_id="m1")
    (line,) = lines_of(stream)
    assert list(line) == ["timestamp", "level", "event", "tenant", "reason", "message_id", "code"]
    assert line["timestamp"].endswith("Z")
    assert (line["level"], line["event"], line["tenant"]) == ("warning", "message.parked", "ACME")


def test_a_new_level_and_form_hold_for_loggers_that_were_there_before() -> None:
    """A reload changes what every part of the relay says."""
    before, after = io.StringIO(), io.StringIO()
    logs.configure("warning", "json", before)
    log = logs.logger(tenant="ACME")
    log.info("documents.changed")
    logs.configure("info", "console", after)
    log.info("documents.changed")
    log.debug("message.delivered")
    assert before.getvalue() == ""
    (line,) = after.getvalue().splitlines()
    assert "documents.changed" in line
    assert not line.startswith("{")


def test_json_is_the_default_where_nobody_watches_and_the_console_on_a_terminal() -> None:
    piped, terminal = io.StringIO(), _Terminal()
    logs.configure(stream=piped)
    logs.logger().info("relay.started")
    logs.configure(stream=terminal)
    logs.logger().info("relay.started")
    assert lines_of(piped)[0]["event"] == "relay.started"
    assert not terminal.getvalue().startswith("{")
    assert "\x1b[" in terminal.getvalue()


def test_a_piped_console_has_no_colour() -> None:
    stream = io.StringIO()
    logs.configure("info", "console", stream)
    logs.logger(tenant="ACME").error("incident.opened", detail="two words", n=None)
    assert "\x1b" not in stream.getvalue()
    assert "incident.opened" in stream.getvalue()
    assert "tenant=ACME detail='two words' n=None" in stream.getvalue()


def test_what_needs_a_person_carries_its_code_and_nothing_else_does() -> None:
    stream = io.StringIO()
    logs.configure("debug", "json", stream)
    log = logs.logger()
    log.error("incident.ongoing", kind="outbox")
    log.warning("relay.ended")
    log.info("relay.ended")
    log.warning("nobody.knows", kind="nothing")
    assert [line.get("code") for line in lines_of(stream)] == ["RELAY-131", "RELAY-152", None, None]


def test_the_console_shows_the_code_at_the_end_of_the_line() -> None:
    stream = io.StringIO()
    logs.configure("info", "console", stream)
    logs.logger(tenant="ACME").error("incident.opened", kind="busy", detail="HTTP 503")
    try:
        fail("no")
    except ValueError:
        logs.logger().exception("component.crashed", component="settler")
    lines = stream.getvalue().splitlines()
    assert lines[0].endswith("detail='HTTP 503' code=RELAY-101")
    assert lines[1].endswith("part=ledger code=RELAY-155")
    assert lines[2].startswith("    Traceback")


def test_lines_below_the_level_are_not_said() -> None:
    stream = io.StringIO()
    logs.configure("warning", "json", stream)
    logs.logger().info("a.happened")
    logs.logger().warning("b.happened")
    assert [line["event"] for line in lines_of(stream)] == ["b.happened"]


@pytest.mark.parametrize("form", ["json", "console"])
@pytest.mark.parametrize("where", ["value", "event", "nested", "exception"])
def test_what_a_far_side_wrote_cannot_begin_a_line_or_move_the_cursor(form: logs.Form, where: str) -> None:
    stream = io.StringIO()
    logs.configure("info", form, stream)
    log = logs.logger()
    forged = EVIL + "\n2026-01-01T00:00:00Z [info     ] all.fine"
    match where:
        case "value":
            log.info("x.happened", detail=forged)
        case "event":
            log.info(forged)
        case "nested":
            log.info("x.happened", detail={forged: [forged]})
        case _:
            try:
                fail(forged)
            except ValueError:
                log.exception("component.crashed")
    written = stream.getvalue()
    assert all(c.isprintable() for c in written.replace("\n", ""))
    assert not any(line.startswith("2026-01-01T00:00:00Z") for line in written.splitlines())
    if form == "json" or where != "exception":
        assert written.count("\n") == 1


def test_json_gives_back_exactly_what_was_said() -> None:
    stream = io.StringIO()
    logs.configure("info", "json", stream)
    logs.logger().info("x.happened", detail=EVIL)
    assert lines_of(stream)[0]["detail"] == EVIL
    assert "Grüße 你好" in stream.getvalue()


def test_an_exception_is_one_field_with_its_traceback() -> None:
    stream = io.StringIO()
    logs.configure("info", "json", stream)
    try:
        fail("boo")
    except ValueError:
        logs.logger().exception("component.crashed", component="ACME")
    (line,) = lines_of(stream)
    assert line["level"] == "error"
    assert line["exception"].startswith("Traceback (most recent call last):\n")
    assert line["exception"].endswith("ValueError: boo")


def test_a_value_without_end_is_cut() -> None:
    stream = io.StringIO()
    logs.configure("info", "json", stream)
    logs.logger().info("x.happened", detail="x" * 100_000)
    assert len(stream.getvalue()) < 2200


def test_libraries_speak_in_the_same_form_from_warning_on() -> None:
    stream = io.StringIO()
    logs.configure("info", "json", stream)
    logging.getLogger("aiohttp.client").info("chatter")
    logging.getLogger("asyncio").error(
        "Task exception was never retrieved\nfuture: %s", "x", exc_info=ValueError("v")
    )
    (line,) = lines_of(stream)
    assert line["logger"] == "asyncio"
    assert line["level"] == "error"
    assert "ValueError: v" in line["exception"]


def test_at_debug_all_of_the_libraries_is_heard() -> None:
    stream = io.StringIO()
    logs.configure("debug", "json", stream)
    logging.getLogger("asyncio").debug("Using selector: EpollSelector")
    assert [line["event"] for line in lines_of(stream)] == ["Using selector: EpollSelector"]


def test_python_warnings_go_to_the_log() -> None:
    stream = io.StringIO()
    logs.configure("info", "json", stream)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(capture=True)
        warnings.warn("careful", UserWarning, stacklevel=1)
    assert "careful" in lines_of(stream)[0]["event"]


def test_configuring_twice_says_nothing_twice() -> None:
    stream = io.StringIO()
    logs.configure("info", "json", io.StringIO())
    logs.configure("info", "json", stream)
    logging.getLogger("asyncio").warning("once")
    assert len(lines_of(stream)) == 1


class _Broken(io.StringIO):
    def write(self, _: str) -> int:
        raise BrokenPipeError


def test_a_log_that_cannot_be_written_stops_nobody() -> None:
    logs.configure("info", "json", _Broken())
    logs.logger().info("a.happened")
    closed = io.StringIO()
    logs.configure("info", "json", closed)
    closed.close()
    logs.logger().info("b.happened")


def test_a_stream_that_knows_only_ascii_still_gets_the_line() -> None:
    raw = io.BytesIO()
    logs.configure("info", "json", io.TextIOWrapper(raw, encoding="ascii"))
    logs.logger().info("x.happened", detail="Grüße")
    assert json.loads(raw.getvalue())["detail"] == "Grüße"


# --- troubles -----------------------------------------------------------------------------------------


class _Bell:
    """A clock and its timers, by hand."""

    def __init__(self) -> None:
        self.now = 0.0
        self.due: dict[int, tuple[float, Callable[[], None]]] = {}
        self._last = 0

    def call_later(self, seconds: float, ring: Callable[[], None]) -> "_Ring":
        self._last += 1
        self.due[self._last] = (self.now + seconds, ring)
        return _Ring(self, self._last)

    def pass_to(self, now: float) -> None:
        while self.due:
            at, (when, ring) = min(self.due.items(), key=lambda item: item[1][0])
            if when > now:
                break
            del self.due[at]
            self.now = when
            ring()
        self.now = now


class _Ring:
    def __init__(self, bell: _Bell, number: int) -> None:
        self._bell, self._number = bell, number

    def cancel(self) -> None:
        self._bell.due.pop(self._number, None)


class _Scene:
    def __init__(self, level: str = "info", tenant: str | None = "ACME") -> None:
        self.stream, self.bell = io.StringIO(), _Bell()
        logs.configure(level, "json", self.stream)
        self.incidents = logs.Incidents(
            logs.logger(), tenant, lambda: self.bell.now, 60, self.bell.call_later
        )
        self.tally = logs.Tally(logs.logger(), 60, self.bell.call_later)

    def met(self, kind: str = "busy", fault: str = Fault.ION.value, detail: str = "HTTP 503") -> None:
        self.incidents.report(kind, detail=detail, fault=fault, hint="wait")

    def said(self) -> list[dict[str, Any]]:
        lines = lines_of(self.stream)
        self.stream.seek(0)
        self.stream.truncate()
        for line in lines:
            del line["timestamp"]
        return lines


def test_a_trouble_opens_is_summarised_on_the_timer_and_is_resolved() -> None:
    scene = _Scene()
    scene.met()
    assert scene.said() == [
        {
            "level": "warning",
            "event": "incident.opened",
            "tenant": "ACME",
            "kind": "busy",
            "detail": "HTTP 503",
        }
        | {"fault": "ION's or the network's", "hint": "wait", "code": "RELAY-101"}
    ]
    scene.bell.now = 5
    scene.met(detail="HTTP 503 again")
    scene.bell.pass_to(60)
    assert scene.said() == [
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
    scene.bell.pass_to(72.5)
    assert scene.incidents.open
    scene.incidents.resolved()
    assert not scene.incidents.open
    assert scene.said() == [
        {"level": "info", "event": "incident.resolved", "tenant": "ACME", "seconds": 72.5, "count": 2}
        | {"kinds": ["busy"], "last": "HTTP 503 again"}
    ]
    assert not scene.bell.due


def test_what_a_person_must_mend_opens_as_an_error() -> None:
    scene = _Scene()
    scene.met("forbidden", fault=Fault.CREDENTIALS.value)
    assert scene.said()[0]["level"] == "error"


def test_a_trouble_that_lasts_is_told_once_a_period_by_itself() -> None:
    scene = _Scene()
    scene.met()
    scene.bell.pass_to(600)
    assert [line["event"] for line in scene.said()] == ["incident.opened"] + ["incident.ongoing"] * 10
    assert len(scene.bell.due) == 1


def test_resolving_without_trouble_says_nothing_and_sets_no_timer() -> None:
    scene = _Scene()
    scene.incidents.resolved()
    assert scene.said() == []
    assert not scene.bell.due


def test_a_flood_that_comes_and_goes_ends_with_the_timer_and_no_timer_remains() -> None:
    scene = _Scene()
    for second in range(30):
        scene.bell.pass_to(second)
        scene.met()
        scene.incidents.resolved()
    assert len(scene.said()) == 10
    scene.bell.pass_to(1000)
    assert [line["event"] for line in scene.said()] == ["incident.ongoing", "incident.resolved"]
    assert not scene.bell.due


def test_closing_leaves_no_timer() -> None:
    scene = _Scene()
    scene.met()
    scene.incidents.close()
    assert not scene.bell.due
    scene.incidents.close()


def test_the_process_own_troubles_name_no_tenant() -> None:
    scene = _Scene(tenant=None)
    scene.met("outbox")
    assert "tenant" not in scene.said()[0]


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
    assert scene.said() == []
    scene.bell.pass_to(60)
    assert scene.said() == [
        {"level": "info", "event": "messages.delivered", "tenant": "ACME", "count": 6}
        | {"documents": {"Sync.SalesOrder": 5, "Sync.Shipment": 1}},
        {"level": "info", "event": "messages.delivered", "tenant": "OTHER", "count": 1}
        | {"documents": {"Sync.SalesOrder": 1}},
    ]


def test_while_nothing_is_delivered_there_is_no_timer_and_no_line() -> None:
    scene = _Scene()
    assert not scene.bell.due
    scene.tally.delivered(message(1))
    scene.bell.pass_to(600)
    assert len(scene.said()) == 1
    assert not scene.bell.due


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
    assert scene.said() == [
        expected | {"message_id": "m1", "bytes": 4},
        expected | {"message_id": "m2", "bytes": 4, "seconds": 0.0123},
    ]


def test_flushing_says_what_the_last_minute_brought_and_leaves_no_timer() -> None:
    scene = _Scene()
    scene.tally.delivered(message(1))
    scene.tally.flush()
    assert [line["count"] for line in scene.said()] == [1]
    assert not scene.bell.due
    scene.tally.flush()
    assert scene.said() == []
