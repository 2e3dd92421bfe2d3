"""This file is how a relay gets at its outbox: a file must be there, a database that is away is awaited."""

import asyncio
import random

from relay.config.settings import Settings
from relay.core.ports import Store, StoreError
from relay.daemon.systemd import SystemdNotifier
from relay.daemon.wiring import schedule_of
from relay.delivery.outbox_retry import report_outbox_incident
from relay.delivery.waiting import nap
from relay.observability.incidents import Incidents
from relay.observability.logs import Log
from relay.outbox import open_outbox


async def opened(
    settings: Settings, log: Log, service: SystemdNotifier, stop: asyncio.Event, end: float | None
) -> Store | None:
    """The outbox; None if the relay was to stop before it could be opened.

    A database that does not answer is said once and tried again after growing delays, at most until `end`
    (in the loop's time). Raises StoreError where waiting will not help, or did not.
    """
    loop = asyncio.get_running_loop()
    incidents = Incidents(log, None, loop.time, settings.log.summary_seconds, loop.call_later)
    schedule, failures = schedule_of(settings), 0
    while not stop.is_set():
        try:
            outbox = await _open(settings)
        except StoreError as error:
            if (
                error.lasting
                or not settings.outbox.location.is_served
                or (end is not None and loop.time() >= end)
            ):
                incidents.close()
                raise
            failures += 1
            report_outbox_incident(incidents, str(error))
            rest = schedule.delay(failures, random.random())  # noqa: S311  # a delay is no secret
            service.waiting(rest, str(error))
            await nap(stop, rest if end is None else min(rest, max(end - loop.time(), 0)))
            continue
        incidents.resolved()
        return outbox
    incidents.close()
    return None


async def _open(settings: Settings) -> Store:
    at = settings.outbox
    return await open_outbox(
        at.location,
        exclusive=True,
        notify=at.notify,
        lease_seconds=settings.lease_seconds,
        purging=settings.retention.payload_days == 0,
    )
