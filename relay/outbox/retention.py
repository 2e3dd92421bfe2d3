"""Walks over what was settled long ago, from the oldest row on, and passes by what the store refuses.

An application's foreign key or trigger may keep rows from being deleted: the others are deleted all the same.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

from relay.core.model import RowId
from relay.core.ports import RefusedRows
from relay.outbox.isolation import isolate

Place: TypeAlias = tuple[Any, RowId]
"""Of a row in the order of settling: when, as the store compares it, and which."""

Page = Callable[[Place | None, float, int], Awaitable[Sequence[Place]]]
"""The next rows behind a place that were settled so many seconds ago."""

Change = Callable[[Sequence[RowId]], Awaitable[int]]
"""Returns how many it changed; raises RowRefusedError where a row is refused."""

_ISOLATING_SECONDS = 1.0
"""A step looks for the refused rows so long; those of its rows that are left then are passed by too."""

_AGAIN_SECONDS = 3600.0
"""After this time a walk that passed rows by begins anew."""


class RetentionWalk:
    """Deletes rows, or purges their payloads, step by step.

    `removes`: what was changed is no longer found, so that the walk may begin at the oldest each time.
    """

    def __init__(self, page: Page, change: Change, *, removes: bool) -> None:
        self._page, self._change, self._removes = page, change, removes
        self._now = asyncio.get_running_loop().time
        self._after: Place | None = None
        self._began = 0.0
        self.refused: RefusedRows | None = None
        """The rows that were passed by, on this walk."""

    async def step(self, older_than: float, limit: int) -> int:
        """Change the next rows, at most `limit`; how many it dealt with, fewer where the rest can wait."""
        if self.refused is not None and self._now() >= self._began + _AGAIN_SECONDS:
            self.refused, self._after = None, None
        places = await self._page(self._after, older_than, limit)
        if not places:
            return 0
        end = self._now() + _ISOLATING_SECONDS
        changed, refused = await isolate([row for _, row in places], self._change, _ISOLATING_SECONDS)
        if refused:
            self._pass_by(refused)
        if self.refused is not None or not self._removes:
            self._after = places[-1]
        if refused and self._now() >= end:
            return sum(changed)
        return sum(changed) + len(refused) if self._removes else len(places)

    def _pass_by(self, refused: Sequence[tuple[RowId, str]]) -> None:
        if self.refused is None:
            self._began = self._now()
            row, reason = refused[0]
            self.refused = RefusedRows(len(refused), row, reason)
        else:
            self.refused = replace(self.refused, count=self.refused.count + len(refused))
