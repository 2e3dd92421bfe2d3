"""Incidents and deliveries in the log: many events, few lines."""

import logging
from collections import Counter
from collections.abc import Callable
from itertools import groupby
from typing import Protocol, assert_never

from relay.core.answers import FaultOwner
from relay.core.error_digest import ErrorDigest, Line, Ongoing, Opened, Resolved
from relay.core.model import Message
from relay.observability.logs import Log, is_logged


class Timer(Protocol):
    """What `call_later` returns: asyncio's TimerHandle, or a test's own."""

    def cancel(self) -> None:
        """The callback is not called any more."""
        ...


CallLater = Callable[[float, Callable[[], None]], Timer]
"""`loop.call_later`: calls back once, after that many seconds."""


class Incidents:
    """The incidents of one tenant, or of the process (tenant None): opened, ongoing, resolved."""

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
        self._causes: dict[str, tuple[FaultOwner, str]] = {}
        self._timer: Timer | None = None
        self.is_held = False
        """Whoever reported it knows that it lasts, whatever else works again: nothing resolves it."""

    @property
    def open(self) -> bool:
        """Whether an incident is open."""
        return self._digest.open

    def report(self, kind: str, *, detail: str, fault: FaultOwner, hint: str) -> None:
        """Record an error. `kind`: one of few; `hint`: what an operator can do."""
        self._causes[kind] = (fault, hint)
        self._write(self._digest.report(self._clock(), kind, detail))
        self._schedule()

    def resolved(self) -> None:
        """It works again; cheap, and silent where no incident is open."""
        if self._digest.open and not self.is_held:
            self._write(self._digest.resolved(self._clock()))
            self._schedule()

    def close(self) -> None:
        """Cancel the timer; an open incident stays open in the log."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _tick(self) -> None:
        self._timer = None
        self._write(self._digest.tick(self._clock()))
        self._schedule()

    def _schedule(self) -> None:
        due = self._digest.next_tick
        if due is None:
            self.close()
        elif self._timer is None:
            self._timer = self._call_later(max(due - self._clock(), 0.0), self._tick)

    def _write(self, lines: tuple[Line, ...]) -> None:
        for line in lines:
            match line:
                case Opened(kind, detail):
                    fault, hint = self._causes[kind]
                    say = self._log.warning if fault is FaultOwner.ION else self._log.error
                    say("incident.opened", kind=kind, detail=detail, fault=fault.value, hint=hint)
                case Ongoing():
                    self._write_ongoing(line)
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

    def _write_ongoing(self, line: Ongoing) -> None:
        fault, hint = self._causes[line.kind]
        self._log.error(
            "incident.ongoing",
            kind=line.kind,
            count=line.count,
            total=line.total,
            seconds=round(line.seconds, 3),
            first=line.first,
            last=line.last,
            fault=fault.value,
            hint=hint,
        )


class Tally:
    """The deliveries of the process: a line each at debug, and a summary a period and tenant at info."""

    def __init__(self, log: Log, summary_seconds: float, call_later: CallLater) -> None:
        self._log, self._period, self._call_later = log, summary_seconds, call_later
        self._counts: Counter[tuple[str, str]] = Counter()
        self._timer: Timer | None = None

    def delivered(self, message: Message, seconds: float | None = None) -> None:
        """Count a delivery. `seconds`: how long the post took, where that is known."""
        self._counts[message.tenant_id, message.document_name] += 1
        if self._timer is None:
            self._timer = self._call_later(self._period, self.flush)
        if is_logged(logging.DEBUG):
            self._log_delivery(message, seconds)

    def flush(self) -> None:
        """Log the deliveries since the last summary; no timer runs until the next delivery."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        counted, self._counts = sorted(self._counts.items()), Counter()
        for tenant, group in groupby(counted, key=lambda item: item[0][0]):
            documents = {document: count for (_, document), count in group}
            self._log.info(
                "messages.delivered", tenant=tenant, count=sum(documents.values()), documents=documents
            )

    def _log_delivery(self, message: Message, seconds: float | None) -> None:
        duration = {} if seconds is None else {"seconds": round(seconds, 4)}
        self._log.debug(
            "message.delivered",
            tenant=message.tenant_id,
            document=message.document_name,
            message_id=message.message_id,
            bytes=message.size,
            **duration,
        )
