"""What both stores do alike: heartbeats, polling, bulk actions, and rows that a store refuses set apart."""

import asyncio
import os
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from typing_extensions import override

from relay.core.admin import BulkAction, Moment
from relay.core.model import AuditId, MessageKey, RowId, Settlement
from relay.core.ports import CALL_SECONDS, Notification, NotSettled, RefusedRows, RestoredBackup, Store
from relay.outbox.bulk import run_to_end
from relay.outbox.isolation import isolate
from relay.outbox.poll_rate import PollRate
from relay.outbox.retention import Place, RetentionWalk
from relay.outbox.values import HeartbeatRow

_ISOLATING_SECONDS = CALL_SECONDS / 4
"""So long the rows that a store refuses are looked for one by one, among those to be settled together."""


class Watch(Protocol):
    """How a store learns of changes that other processes commit."""

    async def change(self, within: float) -> None:
        """Return once there may be something, at the latest after `within` seconds."""


class OutboxFacade(Store):
    """The methods of a store that need no statement of its own. Made inside a running loop."""

    def __init__(self, *, rest_times: float, purging: bool) -> None:
        """`rest_times`: how many times as long as a poll took none follows. `purging`: see `open_outbox`."""
        self._purging = purging
        self._token = os.urandom(16).hex()
        """Distinguishes this process from every other one, also from an earlier one of the same name."""
        self._relay = self._token  # until the first heartbeat brings the name
        self._found_unclean = False
        self._loop = asyncio.get_running_loop()
        self._poll_rate = PollRate(rest_times, self._loop.time)
        self._report_change: Callable[[str], None] = lambda _: None
        self._restart_walks()

    @override
    def when_changed(self, changed: Callable[[str], None]) -> None:
        self._report_change = changed

    def _restart_walks(self) -> None:
        """In another store, what was examined before may be there again."""
        self._pruning = RetentionWalk(self._settled_long_ago, self._delete, removes=True)
        self._purging_payloads = RetentionWalk(self._settled_long_ago, self._purge, removes=False)

    # --- settlements ------------------------------------------------------------------------------

    @abstractmethod
    async def _settle(self, settlements: Sequence[tuple[MessageKey, Settlement]]) -> NotSettled:
        """As `settle`, in one transaction; raises RowRefusedError where a row is refused."""

    @override
    async def settle(self, settlements: Sequence[tuple[MessageKey, Settlement]]) -> NotSettled:
        results, refused = await isolate(settlements, self._settle, _ISOLATING_SECONDS)
        if len(results) == 1 and not refused:
            return results[0]
        left = {key: words for result in results for key, words in result.refused.items()}
        replaced = frozenset().union(*(result.replaced for result in results))
        return NotSettled(replaced, left | {key: words for (key, _), words in refused})

    # --- retention --------------------------------------------------------------------------------

    @abstractmethod
    async def _settled_long_ago(self, after: Place | None, older_than: float, limit: int) -> Sequence[Place]:
        """The next rows that were settled so many seconds ago, in the order of settling."""

    @abstractmethod
    async def _delete(self, ids: Sequence[RowId]) -> int:
        """Delete those that are settled still; how many."""

    @abstractmethod
    async def _purge(self, ids: Sequence[RowId]) -> int:
        """Purge the payloads of those that are delivered still; how many."""

    @override
    async def prune(self, older_than: float, limit: int) -> int:
        return await self._pruning.step(older_than, limit)

    @override
    async def purge_payloads(self, older_than: float, limit: int) -> int:
        return await self._purging_payloads.step(older_than, limit)

    @property
    @override
    def refused_rows(self) -> Sequence[RefusedRows]:
        found = (self._pruning.refused, self._purging_payloads.refused)
        return [one for one in found if one is not None]

    # --- notifications ----------------------------------------------------------------------------

    @abstractmethod
    def _get_watch(self) -> Watch:
        """The watch, started with the first call."""

    @override
    async def arrivals(self, within: float) -> Notification:
        loop = asyncio.get_running_loop()
        watch, end = self._get_watch(), loop.time() + within
        await asyncio.sleep(min(within, self._poll_rate.rest))
        await watch.change(max(0.0, end - loop.time()))
        return await self.notification()

    # --- this process -----------------------------------------------------------------------------

    @abstractmethod
    async def _beat(self, relay: str, token: str, details: Mapping[str, str], before: str) -> HeartbeatRow:
        """Write the heartbeat. States that were reported `before` it had a name get the name."""

    @abstractmethod
    async def _sweep(self, token: str) -> bool:
        """Remove what ended processes left; whether there was anything."""

    @override
    async def beat(self, relay: str, details: Mapping[str, str]) -> bool:
        beat = await self._beat(relay, self._token, dict(details), self._relay)
        self._found_unclean = self._found_unclean or beat.found_unclean
        self._relay = relay
        return beat.again

    @override
    async def unclean(self) -> bool:
        return await self._sweep(self._token) or self._found_unclean

    # --- a file's own; a database has none of it ------------------------------------------------------

    @override
    async def restored(self) -> RestoredBackup | None:
        return None

    @override
    async def log_bytes(self) -> int | None:
        return None

    # --- bulk actions -----------------------------------------------------------------------------

    @abstractmethod
    async def _now(self) -> Moment:
        """What is there now."""

    @abstractmethod
    async def _begin(self, order: BulkAction) -> AuditId:
        """Write the action, which has its moment, into the audit."""

    @override
    async def begin(self, order: BulkAction) -> AuditId:
        if order.wanted.moment is None:
            order = replace(order, wanted=replace(order.wanted, moment=await self._now()))
        return await self._begin(order)

    @override
    async def decide(self, order: BulkAction) -> int:
        return await run_to_end(self, order)
