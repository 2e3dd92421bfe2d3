"""Calls to the outbox that are repeated until they succeed, and the incident that is reported meanwhile."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from relay.core.answers import FaultOwner
from relay.core.ports import StoreError
from relay.core.retry import Schedule
from relay.delivery.waiting import nap
from relay.observability.incidents import Incidents

T = TypeVar("T")


def report_outbox_incident(incidents: Incidents, detail: str) -> None:
    """Report that the outbox failed: always in the same words, so that it is one incident."""
    hint = "fix the cause; the relay retries automatically, nothing is lost"
    incidents.report("outbox", detail=detail, fault=FaultOwner.OUTBOX, hint=hint)


class OutboxRetry:
    """Repeats a call to the outbox on the retry schedule; a failure is reported as an incident."""

    def __init__(
        self, incidents: Incidents, schedule: Schedule, chance: Callable[[], float], stopping: asyncio.Event
    ) -> None:
        self._incidents, self._schedule, self._chance, self._stopping = incidents, schedule, chance, stopping

    async def ask(self, call: Callable[[], Awaitable[T]]) -> T | None:
        """The result; None if the relay stops meanwhile."""
        failures = 0
        while not self._stopping.is_set():
            try:
                result = await call()
            except StoreError as error:
                failures += 1
                report_outbox_incident(self._incidents, str(error))
                await nap(self._stopping, self._schedule.delay(failures, self._chance()))
                continue
            if failures:
                self._incidents.resolved()
            return result
        return None
