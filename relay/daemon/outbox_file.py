"""What is watched of an outbox that is a file: its write-ahead log, other relays, and where it lies."""

import asyncio

from relay.config.settings import Settings
from relay.core.admin import WriteAheadLog
from relay.core.ports import Store
from relay.core.protocol import FaultOwner
from relay.daemon.telemetry import incidents_of
from relay.delivery.limits import MAX_UNSETTLED
from relay.delivery.outbox_retry import OutboxRetry
from relay.delivery.waiting import nap
from relay.observability.logs import Log
from relay.outbox import risks_of
from relay.reports.outbox_file import describe_log, describe_relays

OUTBOX_FILE = "outbox file"
"""The name of the component that watches."""

_LOOK_SECONDS = 5.0
"""Between two looks; a log that nobody needs shrinks between them."""

_LOG_HINT = "end the transaction that stays open: commit, or close the connection or the result that it reads"
_OTHERS_HINT = "stop one of them: messages are sent twice, and their order is lost"


async def report_start(settings: Settings, store: Store, outbox_retry: OutboxRetry, log: Log) -> None:
    """Report where the outbox lies, if that is a risk, and what goes out again after the last end."""
    for problem in await asyncio.to_thread(risks_of, settings.outbox.location):
        log.warning("outbox.endangered", reason=f"{problem.field} {problem.what}", hint=problem.hint)
    in_flight = f"at most {MAX_UNSETTLED} messages a tenant"
    restored = await outbox_retry.ask(store.restored)
    is_unclean = await outbox_retry.ask(store.unclean)
    if restored is not None:
        least = "" if restored.exact else "at least "
        again = "an unknown number of" if restored.sent_again is None else f"{least}{restored.sent_again}"
        log.warning(
            "outbox.restored",
            reason="the outbox is older than when a relay last used it: a backup was put in its place",
            sent_again=restored.sent_again,
            detail=f"{again} messages that were delivered since are sent again under the same message ids, "
            f"and what was in flight when the last relay ended, {in_flight}",
        )
    elif is_unclean:
        log.warning(
            "relay.recovered",
            reason="the relay before this one ended without settling its last posts",
            detail=f"{in_flight} are sent again under the same message ids",
        )


class OutboxFileWatch:
    """Looks every few seconds; two incidents of their own, which end when their cause does."""

    def __init__(self, name: str, store: Store, log: Log, summary_seconds: float) -> None:
        self._name, self._store = name, store
        self._log_incidents = incidents_of(log, None, summary_seconds)
        self._relay_incidents = incidents_of(log, None, summary_seconds)
        self._was_large = False

    async def run(self, stopping: asyncio.Event) -> None:
        """Look until the end; at once the end of an outbox that is no file."""
        while (log := await self._store.write_ahead_log()) is not None:
            self._report_log(log)
            await self._report_others()
            if log.is_large:
                await self._store.shrink_log()
            if await nap(stopping, _LOOK_SECONDS):
                break
        self._log_incidents.close()
        self._relay_incidents.close()

    def _report_log(self, log: WriteAheadLog) -> None:
        """Only a log that stayed large although a relay tried to let it shrink."""
        if log.is_large and self._was_large:
            detail = describe_log(log)
            self._log_incidents.report("log-grown", detail=detail, fault=FaultOwner.OUTBOX, hint=_LOG_HINT)
        elif not log.is_large:
            self._log_incidents.resolved()
        self._was_large = log.is_large

    async def _report_others(self) -> None:
        alive = [beat for beat in await self._store.relays() if beat.alive]
        if any(beat.relay != self._name for beat in alive):
            detail = describe_relays(alive)
            self._relay_incidents.report(
                "shared", detail=detail, fault=FaultOwner.CONFIGURATION, hint=_OTHERS_HINT
            )
        else:
            self._relay_incidents.resolved()
