"""The log: its format, its levels, and text that cannot forge a line."""

import io
import json
import logging
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from relay.observability import logs


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    own_level = logging.getLogger("relay").level
    yield
    structlog.reset_defaults()
    logging.captureWarnings(capture=False)
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.getLogger("relay").setLevel(own_level)


def lines_of(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


HOSTILE = 'he said "hi"\nline two\r\t\x1b[31mred\x9b \u2028 \u202e \ud800 Grüße 你好'


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


def test_a_new_level_and_format_apply_to_existing_loggers() -> None:
    """A reload changes what every component of the relay logs."""
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


def test_the_default_is_the_console_on_a_terminal_and_json_elsewhere() -> None:
    piped, terminal = io.StringIO(), _Terminal()
    logs.configure("info", None, piped)
    logs.logger().info("relay.started")
    logs.configure("info", None, terminal)
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


def test_warnings_and_errors_carry_their_code_and_other_lines_none() -> None:
    stream = io.StringIO()
    logs.configure("debug", "json", stream)
    log = logs.logger()
    log.error("incident.ongoing", kind="outbox")
    log.warning("relay.ended")
    log.info("relay.ended")
    log.warning("never.seen", kind="nothing")
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
    assert lines[1].endswith("component=settler code=RELAY-155")
    assert lines[2].startswith("    Traceback")


def test_lines_below_the_level_are_not_written() -> None:
    stream = io.StringIO()
    logs.configure("warning", "json", stream)
    logs.logger().info("a.happened")
    logs.logger().warning("b.happened")
    assert [line["event"] for line in lines_of(stream)] == ["b.happened"]


@pytest.mark.parametrize("form", ["json", "console"])
@pytest.mark.parametrize("where", ["value", "event", "nested", "exception"])
def test_text_from_a_server_cannot_begin_a_line_or_move_the_cursor(form: logs.Format, where: str) -> None:
    stream = io.StringIO()
    logs.configure("info", form, stream)
    log = logs.logger()
    forged = HOSTILE + "\n2026-01-01T00:00:00Z [info     ] all.fine"
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


def test_json_round_trips_every_character() -> None:
    stream = io.StringIO()
    logs.configure("info", "json", stream)
    logs.logger().info("x.happened", detail=HOSTILE)
    assert lines_of(stream)[0]["detail"] == HOSTILE
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


def test_a_very_long_value_is_cut() -> None:
    stream = io.StringIO()
    logs.configure("info", "json", stream)
    logs.logger().info("x.happened", detail="x" * 100_000)
    assert len(stream.getvalue()) < 2200


def test_libraries_log_in_the_same_format_from_warning_on() -> None:
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


def test_at_debug_libraries_log_everything() -> None:
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


def test_configuring_twice_writes_nothing_twice() -> None:
    stream = io.StringIO()
    logs.configure("info", "json", io.StringIO())
    logs.configure("info", "json", stream)
    logging.getLogger("asyncio").warning("once")
    assert len(lines_of(stream)) == 1


class _Broken(io.StringIO):
    def write(self, _: str) -> int:
        raise BrokenPipeError


def test_a_log_that_cannot_be_written_raises_nothing() -> None:
    logs.configure("info", "json", _Broken())
    logs.logger().info("a.happened")
    closed = io.StringIO()
    logs.configure("info", "json", closed)
    closed.close()
    logs.logger().info("b.happened")


def test_an_ascii_stream_still_gets_the_line() -> None:
    raw = io.BytesIO()
    logs.configure("info", "json", io.TextIOWrapper(raw, encoding="ascii"))
    logs.logger().info("x.happened", detail="Grüße")
    assert json.loads(raw.getvalue())["detail"] == "Grüße"


def test_a_librarys_bad_call_is_reported_and_raises_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    stream = io.StringIO()
    logging.getLogger().handlers.clear()  # pytest's own handlers raise
    logs.configure("info", "json", stream)
    logging.getLogger("aiohttp").warning("%d requests", "many")
    assert stream.getvalue() == ""
    assert "--- Logging error ---" in capsys.readouterr().err


def test_recent_lines_of_a_tenant_are_the_newest_first_and_only_what_was_written() -> None:
    logs.configure("info", "json", io.StringIO())
    log = logs.logger(tenant="RECENT")
    for number in range(3):
        log.info("x.happened", number=number)
    log.debug("x.happened", number=3)
    logs.logger(tenant="OTHER").info("x.happened")
    assert [line["number"] for line in logs.recent_lines("RECENT")] == [2, 1, 0]
    assert len(logs.recent_lines("RECENT", limit=2)) == 2


@pytest.mark.parametrize("form", ["json", "console"])
def test_a_long_traceback_keeps_its_end(form: logs.Format) -> None:
    """The frames next to the error and the error itself are what one needs."""
    out = io.StringIO()
    logs.configure("info", form, out)

    def dive(depth: int) -> None:
        if depth:
            other[depth % 2](depth - 1)
        raise ValueError("the last words")

    def dive_deeper(depth: int) -> None:
        dive(depth)

    other = (dive, dive_deeper)  # so that the frames differ, and are not folded

    try:
        dive(150)
    except ValueError:
        logging.getLogger("a.library").exception("it failed")
    text = out.getvalue()
    assert "the last words" in text[-200:]
    assert "it failed" in text
    assert len(text) < 20_000
