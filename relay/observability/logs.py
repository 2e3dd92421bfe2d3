"""This file is the log: JSON or console lines on stderr, and the two ways the relay says much in few lines.

Events are `noun.verb_past`, data are keys. What a far side wrote can neither break a line nor begin one.
A log that cannot be written (a closed pipe, a full disk) is no reason to stop carrying messages.
"""

import json
import logging
import sys
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby, islice
from typing import Any, Literal, Protocol, TextIO, assert_never

import structlog
from structlog.typing import EventDict, FilteringBoundLogger, Processor, WrappedLogger

from relay.core.error_digest import ErrorDigest, Line, Ongoing, Opened, Resolved
from relay.core.model import Message
from relay.core.protocol import Fault
from relay.observability import error_codes

Log = FilteringBoundLogger
"""A bound logger; `log.bind(tenant=…)` gives one that says so in each line."""

Form = Literal["json", "console"]

_FIRST = ("timestamp", "level", "event", "tenant")
_TOLD_WITH_CODE = frozenset({"warning", "error", "critical"})
_LONGEST_VALUE = 2000

_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40, "critical": 50}
"""By the method that says a line; `exception` says it as `error`."""


# --- lines ------------------------------------------------------------------------------------------


def configure(level: str = "info", form: Form | None = None, stream: TextIO | None = None) -> None:
    """Send the relay's and the libraries' logs to `stream` (stderr); may be called again.

    `level`: debug, info, warning or error. `form` None: console on a terminal, json otherwise. Libraries
    are heard from warning on, or all of them at debug; OpenTelemetry, whose troubles `app.py` folds, at
    debug alone. It holds for every logger, made before or later.
    """
    out = stream if stream is not None else sys.stderr
    number = logging.getLevelNamesMapping()[level.upper()]
    is_console = (form or ("console" if out.isatty() else "json")) == "console"
    _voice.level, _voice.render, _voice.stream = number, _console(out) if is_console else as_json, out
    structlog.configure(
        processors=[_heard, *chain(_utc_now), _kept, _rendered],
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG),
        logger_factory=lambda *_: _Lines(_voice),
        cache_logger_on_first_use=False,
    )
    _hear_libraries(number if number <= logging.DEBUG else max(number, logging.WARNING))


def chain(wall: Callable[[], datetime]) -> list[Processor]:
    """What each line goes through before it is rendered; `wall`: what time it is."""

    def stamp(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
        now = wall().isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return {"timestamp": now, **event}

    return [structlog.processors.add_log_level, stamp, structlog.processors.format_exc_info, _coded]


def logger(**facts: object) -> Log:
    """A logger whose lines carry these facts; ask for it after `configure`."""
    bound: Log = structlog.get_logger().bind(**facts)
    return bound


class _Lines:
    """What structlog calls with a finished line. Never raises: a broken stderr must not stop the relay."""

    def __init__(self, voice: "_Voice") -> None:
        self._voice = voice

    def _write(self, line: str) -> None:
        stream = self._voice.stream
        try:
            try:
                stream.write(line + "\n")
            except UnicodeEncodeError:
                stream.write(_escaped(line, str.isascii) + "\n")
            stream.flush()
        except (OSError, ValueError):
            return

    debug = info = warning = warn = error = critical = fatal = exception = msg = _write


class _Libraries(logging.Handler):
    """Brings what libraries log into the same form."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            log = structlog.get_logger().bind(logger=record.name)
            log.log(max(record.levelno, logging.DEBUG), record.getMessage(), exc_info=record.exc_info or None)
        except Exception:  # noqa: BLE001  # logging's own contract: a handler reports its bugs and goes on
            self.handleError(record)


def _hear_libraries(level: int) -> None:
    root = logging.getLogger()
    for handler in [handler for handler in root.handlers if isinstance(handler, _Libraries)]:
        root.removeHandler(handler)
    root.addHandler(_Libraries())
    root.setLevel(level)
    logging.getLogger("opentelemetry").setLevel(level if level <= logging.DEBUG else logging.CRITICAL)
    logging.captureWarnings(capture=True)


def _utc_now() -> datetime:
    return datetime.now(UTC)


def _coded(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """What needs a person leads to its page of the run book, at the end of the line."""
    if event.get("level") in _TOLD_WITH_CODE:
        code = error_codes.of_line(str(event.get("event")), event.get("kind"))
        if code is not None:
            return {**event, "code": code}
    return event


def as_json(_: WrappedLogger, __: str, event: EventDict) -> str:
    """The line as JSON, the renderer for machines."""
    ordered = {key: _shortened(event[key]) for key in _FIRST if key in event}
    ordered |= {key: _shortened(value) for key, value in event.items() if key not in ordered}
    return printable(json.dumps(ordered, ensure_ascii=False, default=str))


@dataclass(slots=True)
class _Voice:
    """How lines are written now, whichever logger they come from."""

    level: int
    render: Processor
    stream: TextIO


_voice = _Voice(logging.INFO, as_json, sys.stderr)


def hears(level: int) -> bool:
    """Whether lines of this level are written now."""
    return level >= _voice.level


def _heard(_: WrappedLogger, method: str, event: EventDict) -> EventDict:
    if not hears(_LEVELS[method]):
        raise structlog.DropEvent
    return event


LATELY = 1000
"""Lines that are kept in memory, for who asks what was said of late."""

_lately: deque[EventDict] = deque(maxlen=LATELY)


def _kept(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    _lately.append({key: value for key, value in event.items() if key != "exception"})
    return event


def lately(tenant: str, most: int = 30) -> list[EventDict]:
    """The last lines about a tenant, the newest first; may be asked in any thread."""
    lines = (line for line in reversed(list(_lately)) if line.get("tenant") == tenant)
    return list(islice(lines, most))


def _rendered(log: WrappedLogger, method: str, event: EventDict) -> Any:
    return _voice.render(log, method, event)


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
        return "\n".join("    " + printable(line) for line in value.splitlines())
    if not isinstance(value, str) or value.isprintable():
        return _shortened(value)
    return _Escaped(printable(_shortened(value)))


class _Escaped(str):
    """The console renderer quotes by `repr` what has a space in it; this is escaped already."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"'{self}'"


def _shortened(value: Any) -> Any:
    return f"{value[:_LONGEST_VALUE]}…" if isinstance(value, str) and len(value) > _LONGEST_VALUE else value


def printable(text: str) -> str:
    """For a line that is written elsewhere: nothing in it can break the line or move the cursor."""
    return _escaped(text, str.isprintable)


def _escaped(text: str, keeps: Callable[[str], bool]) -> str:
    r"""Every character that `keeps` refuses, as JSON writes it (`\n`, `\u202e`)."""
    return text if keeps(text) else "".join(c if keeps(c) else json.dumps(c)[1:-1] for c in text)


# --- troubles ---------------------------------------------------------------------------------------


class Timer(Protocol):
    """What `call_later` answers: asyncio's TimerHandle, or a test's own."""

    def cancel(self) -> None:
        """It will not ring."""
        ...


CallLater = Callable[[float, Callable[[], None]], Timer]
"""`loop.call_later`: ring once, after so many seconds."""


class Incidents:
    """One tenant's troubles (or the process' own: tenant None): each opens, is summarised, is resolved."""

    def __init__(
        self,
        log: Log,
        tenant: str | None,
        clock: Callable[[], float],
        summary_seconds: float,
        call_later: CallLater,
    ) -> None:
        self._log = log if tenant is None else log.bind(tenant=tenant)
        self._clock, self._call_later = clock, call_later
        self._digest = ErrorDigest(summary_seconds)
        self._about: dict[str, tuple[str, str]] = {}
        self._timer: Timer | None = None

    @property
    def open(self) -> bool:
        """Whether a trouble lasts now."""
        return self._digest.open

    def report(self, kind: str, *, detail: str, fault: str, hint: str) -> None:
        """An error happened. `kind`: one of few; `fault`: whose, `hint`: what a person can do."""
        self._about[kind] = (fault, hint)
        self._say(self._digest.report(self._clock(), kind, detail))
        self._wind()

    def resolved(self) -> None:
        """It works again; cheap, and silent where there was no trouble."""
        if self._digest.open:
            self._say(self._digest.resolved(self._clock()))
            self._wind()

    def close(self) -> None:
        """No more timers; a trouble that is still open stays open in the log."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _ring(self) -> None:
        self._timer = None
        self._say(self._digest.tick(self._clock()))
        self._wind()

    def _wind(self) -> None:
        due = self._digest.next_tick
        if due is None:
            self.close()
        elif self._timer is None:
            self._timer = self._call_later(max(due - self._clock(), 0.0), self._ring)

    def _say(self, lines: tuple[Line, ...]) -> None:
        for line in lines:
            match line:
                case Opened(kind, detail):
                    fault, hint = self._about[kind]
                    say = self._log.warning if fault == Fault.ION.value else self._log.error
                    say("incident.opened", kind=kind, detail=detail, fault=fault, hint=hint)
                case Ongoing():
                    self._ongoing(line)
                case Resolved(seconds, count, kinds, last):
                    self._log.info(
                        "incident.resolved",
                        seconds=round(seconds, 3),
                        count=count,
                        kinds=list(kinds),
                        last=last,
                    )
                case _:
                    assert_never(line)

    def _ongoing(self, line: Ongoing) -> None:
        fault, hint = self._about[line.kind]
        self._log.error(
            "incident.ongoing",
            kind=line.kind,
            count=line.count,
            total=line.total,
            seconds=round(line.seconds, 3),
            first=line.first,
            last=line.last,
            fault=fault,
            hint=hint,
        )


# --- deliveries -------------------------------------------------------------------------------------


class Tally:
    """The process' deliveries: each one a line at debug, and a summary a period and tenant at info."""

    def __init__(self, log: Log, summary_seconds: float, call_later: CallLater) -> None:
        self._log, self._period, self._call_later = log, summary_seconds, call_later
        self._counts: Counter[tuple[str, str]] = Counter()
        self._timer: Timer | None = None

    def delivered(self, message: Message, seconds: float | None = None) -> None:
        """ION took it. `seconds`: how long the post took, where that is known."""
        self._counts[message.tenant_id, message.document_name] += 1
        if self._timer is None:
            self._timer = self._call_later(self._period, self.flush)
        if hears(logging.DEBUG):
            self._say_each(message, seconds)

    def flush(self) -> None:
        """Say what was delivered since the last summary; no timer runs until the next delivery."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        counted, self._counts = sorted(self._counts.items()), Counter()
        for tenant, group in groupby(counted, key=lambda item: item[0][0]):
            documents = {document: count for (_, document), count in group}
            self._log.info(
                "messages.delivered", tenant=tenant, count=sum(documents.values()), documents=documents
            )

    def _say_each(self, message: Message, seconds: float | None) -> None:
        took = {} if seconds is None else {"seconds": round(seconds, 4)}
        self._log.debug(
            "message.delivered",
            tenant=message.tenant_id,
            document=message.document_name,
            message_id=message.message_id,
            bytes=message.size,
            **took,
        )
