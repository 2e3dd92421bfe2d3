"""What both stores do alike: the process' name and heartbeat, polling, bulk actions step by step."""

import asyncio
import os
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from typing import Protocol

from typing_extensions import override

from relay.core.admin import BulkAction, Moment
from relay.core.model import AuditId
from relay.core.ports import Notification, RestoredBackup, Store
from relay.outbox.bulk import run_to_end
from relay.outbox.poll_rate import PollRate
from relay.outbox.values import HeartbeatRow


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
        self._poll_rate = PollRate(rest_times, asyncio.get_running_loop().time)

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
