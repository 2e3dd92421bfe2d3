"""Opening the outbox at the start: a file must exist, a database that is away is waited for."""

import asyncio
import random

from relay.config.settings import Settings
from relay.core.ports import Store, StoreError
from relay.daemon.systemd import SystemdNotifier
from relay.daemon.telemetry import incidents_of
from relay.daemon.wiring import schedule_of
from relay.delivery.outbox_retry import report_outbox_incident
from relay.delivery.waiting import nap
from relay.observability.logs import Log
from relay.outbox import open_outbox

_HINT = "if it is not the first start, correct RELAY_OUTBOX__URL, or mount its folder"


async def open_when_available(
    settings: Settings, log: Log, systemd: SystemdNotifier, stop: asyncio.Event, end: float | None
) -> Store | None:
    """The outbox; None if the relay was stopped before it could be opened.

    A database that does not answer is one incident, tried again on the retry schedule, at most until `end`
    (in the loop's time). Raises StoreError where waiting will not help, or did not.
    """
    clock = asyncio.get_running_loop().time
    incidents = incidents_of(log, None, settings.log.summary_seconds)
    schedule, failures = schedule_of(settings), 0
    while not stop.is_set():
        try:
            outbox = await _open(settings, log)
        except StoreError as error:
            is_final = error.lasting or not settings.outbox.location.is_served
            if is_final or (end is not None and clock() >= end):
                incidents.close()
                raise
            failures += 1
            report_outbox_incident(incidents, str(error))
            delay = schedule.delay(failures, random.random())  # noqa: S311  # a delay is no secret
            systemd.waiting(delay, str(error))
            await nap(stop, delay if end is None else min(delay, max(end - clock(), 0)))
        else:
            incidents.resolved()
            return outbox
    incidents.close()
    return None


async def _open(settings: Settings, log: Log) -> Store:
    at = settings.outbox
    is_new = at.location.is_missing
    opened = await open_outbox(
        at.location,
        exclusive=True,
        notify=at.notify,
        lease_seconds=settings.lease_seconds,
        purging=settings.retention.payload_days == 0,
    )
    if is_new:
        log.warning("outbox.created", outbox=at.place, reason="there was no outbox at this place", hint=_HINT)
    return opened
