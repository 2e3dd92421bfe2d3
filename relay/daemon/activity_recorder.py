"""Writes what this process counted, by minute and tenant, into the outbox, for the page of every replica."""

import asyncio
from collections.abc import Callable
from contextlib import suppress

from relay.core.activity import MINUTES
from relay.core.answers import FaultOwner
from relay.core.ports import Store, StoreError
from relay.observability.activity import ActivityLedger
from relay.observability.incidents import Incidents

RECORDER = "activity"
"""The name of the component."""

EVERY_SECONDS = 10.0
"""What was counted so long before a crash is not in the outbox."""

_BATCH = 250
"""Counts of a transaction: settlements are written in between."""

_STEP = 25
"""Tenants whose counts are merged at once: about a millisecond, in which no message is sent."""

_HINT = "relay outbox upgrade, and the rights on the table relay_activity; messages are delivered as usual"


class ActivityRecorder:
    """`now`: seconds since 1970. `incidents`: of this component alone."""

    def __init__(
        self, store: Store, ledger: ActivityLedger, now: Callable[[], float], incidents: Incidents
    ) -> None:
        self._store, self._ledger, self._now, self._incidents = store, ledger, now, incidents

    async def run(self) -> None:
        """For ever; once more at each full minute, so that no count is assigned to the minute after it."""
        while True:
            await self.record()
            now = self._now()
            full_minute = MINUTES.start(now) + MINUTES.seconds - now
            await asyncio.sleep(min(EVERY_SECONDS, full_minute))

    async def record(self) -> None:
        """Write what changed. Counts that the outbox does not take are kept, as long as it would keep them.

        An outbox that takes no writes at all is the incident of whoever needs it more.
        """
        now = self._now()
        self._ledger.collect(now)
        while self._ledger.merge(_STEP):  # noqa: ASYNC110 — not a wait: each call does a step
            await asyncio.sleep(0)
        try:
            counts = list(self._ledger.unwritten().items())
            for first in range(0, len(counts), _BATCH):
                await self._store.record_activity(dict(counts[first : first + _BATCH]))
            await self._store.record_waiting(now)
        except StoreError as error:
            with suppress(StoreError):
                await self._store.may_write()
                self._incidents.report("activity", detail=str(error), fault=FaultOwner.OUTBOX, hint=_HINT)
        else:
            self._ledger.written()
            self._incidents.resolved()

    async def close(self, within: float) -> None:
        """Write what is left at the end of the process, within so many seconds; no more timers."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within):
                await self.record()
        self._incidents.close()
