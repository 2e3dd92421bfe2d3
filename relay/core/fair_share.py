"""This file is who may have the next post, where all tenants together may have only so many under way.

Pure. A place that comes free goes to the waiting tenant with the fewest posts under way, the longest waiting
first; a part of the places is kept back for tenants that have none. So few tenants may have many each, many
at work come to the same number each, and one message of a tenant never waits behind another's million.
"""

import heapq
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count

_KEPT_BACK = 4
"""A quarter of the places is for first posts alone: tenants whose ION hangs must not stop the others."""


@dataclass(slots=True, eq=False)
class TenantShare:
    """One tenant's places. `wake` is called when it was granted one after it had to wait.

    `granted`: a place is kept for it, until it begins a post or rests. `since`: its turn, while it waits.
    """

    wake: Callable[[], None]
    under_way: int = 0
    granted: bool = False
    since: int | None = None


class FairShare:
    """All places of a process. `most`: posts under way at a time."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._taken = 0  # under way, and granted
        self._queue: list[tuple[int, int, TenantShare]] = []
        self._turns = count()

    def resize(self, most: int) -> None:
        """Another number from now on; what is under way goes on."""
        self._most = most
        self._grant()

    def begin(self, share: TenantShare) -> bool:
        """Take a place for a post; False: there is none, it waits for one from now on."""
        if share.granted:
            share.granted = False
        elif share.since is None and self._has_room_for(share.under_way):
            self._taken += 1
        else:
            if share.since is None:
                self._queue_up(share)
            return False
        share.under_way += 1
        return True

    def end(self, share: TenantShare) -> None:
        """A post landed, or did not go: its place is free."""
        share.under_way -= 1
        self._taken -= 1
        if share.since is not None:  # it has fewer under way now, and just had its turn among those
            self._queue_up(share)
        self._grant()

    def rest(self, share: TenantShare) -> None:
        """It wants no further place now."""
        share.since = None
        if share.granted:
            share.granted = False
            self._taken -= 1
            self._grant()

    def leave(self, share: TenantShare) -> None:
        """Nothing of it is under way any more, however that came."""
        self._taken -= share.under_way
        share.under_way = 0
        self.rest(share)
        self._grant()

    def _has_room_for(self, under_way: int) -> bool:
        kept_back = 0 if under_way == 0 else min(max(self._most // _KEPT_BACK, 1), self._most - 1)
        return self._taken < self._most - kept_back

    def _queue_up(self, share: TenantShare) -> None:
        share.since = next(self._turns)
        heapq.heappush(self._queue, (share.under_way, share.since, share))

    def _grant(self) -> None:
        while self._queue:
            under_way, since, share = self._queue[0]
            is_current = share.since == since
            if is_current and not self._has_room_for(under_way):
                return
            heapq.heappop(self._queue)
            if is_current:
                self._taken += 1
                share.since, share.granted = None, True
                share.wake()
