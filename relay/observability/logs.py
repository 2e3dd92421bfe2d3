"""The log: JSON or console lines on stderr, for the relay and for the libraries it uses.

Events are `noun.verb_past`, data are keys. Text from a server can neither break a line nor begin one.
A log that cannot be written (a closed pipe, a full disk) never stops the relay, and one that is not read
(a full pipe) never holds it up: `write_in_background`.
"""

import atexit
import io
import json
import logging
import sys
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from itertools import islice
from typing import Any, Literal, TextIO

import structlog
from structlog.stdlib import ProcessorFormatter
from structlog.typing import EventDict, FilteringBoundLogger, Processor, WrappedLogger
from typing_extensions import override

from relay.observability import error_codes
from relay.observability.log_writer import LogWriter

Log = FilteringBoundLogger
"""A bound logger; the lines of `log.bind(tenant=…)` carry the tenant."""

Format = Literal["json", "console"]

_RELAY = "relay"
"""The standard library's logger behind every line of the relay's own."""
_FIRST_KEYS = ("timestamp", "level", "event", "tenant")
_LEVELS_WITH_CODE = frozenset({"warning", "error", "critical"})
_MAX_VALUE_LENGTH = 2000
_MAX_TRACEBACK_LENGTH = 8000

_DRAIN_SECONDS = 1.0
"""At the end of the process, a reader that has stopped reading is waited for so long."""


def write_in_background() -> None:
    """From now on the process' stderr is written by a thread: no reader of it can hold up the process."""
    try:
        sys.stderr.fileno()
    except io.UnsupportedOperation:  # a stream in memory, which nobody reads
        return
    sys.stderr = writer = LogWriter(sys.stderr, _report_dropped)
    atexit.register(writer.drain, _DRAIN_SECONDS)


def dropped_lines() -> int:
    """How many lines could not be written since the start."""
    return sys.stderr.dropped_lines if isinstance(sys.stderr, LogWriter) else 0


def _report_dropped(lines: int) -> None:
    hint = "let something read the log faster: what reads stderr had stopped, or its disk was full"
    logger().warning("log.dropped", lines=lines, hint=hint)


def configure(level: str, form: Format | None, stream: TextIO | None = None) -> None:
    """Send the relay's and the libraries' logs to `stream` (stderr); may be called again.

    `level`: debug, info, warning or error. `form` None: console on a terminal, json otherwise. Libraries
    log from warning on, or everything at debug; OpenTelemetry, whose failures are reported as one incident,
    at debug alone. The settings hold for every logger, made before or later.
    """
    out = stream if stream is not None else sys.stderr
    number = logging.getLevelNamesMapping()[level.upper()]
    is_console = (form or ("console" if out.isatty() else "json")) == "console"
    handler = _Handler(out)
    handler.setFormatter(
        ProcessorFormatter(
            processors=[ProcessorFormatter.remove_processors_meta, _console(out) if is_console else as_json],
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *processors(_utc_now)],
        )
    )
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *processors(_utc_now),
            _remember,
            ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG),
        logger_factory=lambda *_: logging.getLogger(_RELAY),
        cache_logger_on_first_use=False,
    )
    _install(handler, number)


def _install(handler: logging.Handler, level: int) -> None:
    root = logging.getLogger()
    root.handlers[:] = [*(old for old in root.handlers if not isinstance(old, _Handler)), handler]
    is_debug = level <= logging.DEBUG
    root.setLevel(level if is_debug else max(level, logging.WARNING))
    logging.getLogger(_RELAY).setLevel(level)
    logging.getLogger("opentelemetry").setLevel(level if is_debug else logging.CRITICAL)
    logging.captureWarnings(capture=True)


def logger(**facts: object) -> Log:
    """A logger whose lines carry these facts; to be called after `configure`."""
    bound: Log = structlog.get_logger().bind(**facts)
    return bound


def is_logged(level: int) -> bool:
    """Whether the relay's lines of this level are written now."""
    return logging.getLogger(_RELAY).isEnabledFor(level)


class _Handler(logging.StreamHandler[TextIO]):
    """Writes to a stream that may be broken, closed, or unable to encode a character."""

    @override
    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record) + self.terminator
        except Exception:  # noqa: BLE001  # logging's own contract: a library's bad call is reported, not raised
            self.handleError(record)
            return
        with suppress(OSError, ValueError):
            try:
                self.stream.write(line)
            except UnicodeEncodeError:
                self.stream.write(_escaped(line, str.isascii))
            self.stream.flush()


# --- processors ---------------------------------------------------------------------------------------


def processors(wall: Callable[[], datetime]) -> list[Processor]:
    """Applied to every line before it is rendered; `wall` returns the current time."""

    def add_timestamp(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
        now = wall().isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return {"timestamp": now, **event}

    return [
        structlog.processors.add_log_level,
        add_timestamp,
        structlog.processors.format_exc_info,
        _add_code,
    ]


def _utc_now() -> datetime:
    return datetime.now(UTC)


def _add_code(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Warnings and errors end with the code of their run book page."""
    if event.get("level") in _LEVELS_WITH_CODE:
        code = error_codes.of_line(str(event.get("event")), event.get("kind"))
        if code is not None:
            return {**event, "code": code}
    return event


RECENT_LINES = 1000
"""Lines that are kept in memory, for the operator's page."""

_recent: deque[EventDict] = deque(maxlen=RECENT_LINES)


def _remember(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    _recent.append({key: value for key, value in event.items() if key != "exception"})
    return event


def recent_lines(tenant: str, limit: int = 30) -> list[EventDict]:
    """The last lines about a tenant, the newest first; safe to call from any thread."""
    lines = (line for line in reversed(list(_recent)) if line.get("tenant") == tenant)
    return list(islice(lines, limit))


# --- rendering ----------------------------------------------------------------------------------------


def as_json(_: WrappedLogger, __: str, event: EventDict) -> str:
    """The line as JSON, the renderer for machines."""
    ordered = {key: _shortened(event[key]) for key in _FIRST_KEYS if key in event}
    ordered |= {key: _bounded(key, value) for key, value in event.items() if key not in ordered}
    return printable(json.dumps(ordered, ensure_ascii=False, default=str))


def _console(stream: TextIO) -> Callable[[WrappedLogger, str, EventDict], str]:
    from structlog.dev import ConsoleRenderer, plain_traceback

    pretty = ConsoleRenderer(
        colors=stream.isatty(), pad_event_to=22, sort_keys=False, exception_formatter=plain_traceback
    )

    def render(log: WrappedLogger, name: str, event: EventDict) -> str:
        return str(pretty(log, name, {key: _for_console(key, value) for key, value in event.items()}))

    return render


def _for_console(key: str, value: object) -> object:
    """A traceback keeps its lines, indented so that none can pass for a line of the log."""
    if key == "exception" and isinstance(value, str):
        return "\n".join("    " + printable(line) for line in _end_of(value).splitlines())
    if not isinstance(value, str) or value.isprintable():
        return _shortened(value)
    return _Escaped(printable(_shortened(value)))


class _Escaped(str):
    """The console renderer quotes by `repr` a text that contains a space; this one is escaped already."""

    __slots__ = ()

    @override
    def __repr__(self) -> str:
        return f"'{self}'"


def _bounded(key: str, value: Any) -> Any:
    return _end_of(value) if key == "exception" and isinstance(value, str) else _shortened(value)


def _end_of(traceback: str) -> str:
    """Its last lines: the frames next to the error, and the error itself."""
    if len(traceback) <= _MAX_TRACEBACK_LENGTH:
        return traceback
    return "…\n" + traceback[-_MAX_TRACEBACK_LENGTH:].partition("\n")[2]


def _shortened(value: Any) -> Any:
    return (
        f"{value[:_MAX_VALUE_LENGTH]}…"
        if isinstance(value, str) and len(value) > _MAX_VALUE_LENGTH
        else value
    )


def printable(text: str) -> str:
    """The text with every character escaped that could break a line or move the cursor."""
    return _escaped(text, str.isprintable)


def _escaped(text: str, is_kept: Callable[[str], bool]) -> str:
    r"""Every character that `is_kept` refuses, as JSON writes it (`\n`, `\u202e`)."""
    return text if is_kept(text) else "".join(c if is_kept(c) else json.dumps(c)[1:-1] for c in text)
