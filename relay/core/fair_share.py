"""Fair sharing of the process-wide limit on concurrent posts among tenants.

Pure. A free slot goes to the waiting tenant with the fewest posts in flight, the longest waiting first; a
quarter of the slots is reserved for tenants that have none. So a few tenants may have many slots each, many
busy tenants converge on the same number each, and one message never waits behind another tenant's million.
"""

import heapq
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count

_RESERVED_FRACTION = 4
"""One slot in four is for first posts only: tenants whose ION does not respond must not block the others."""


@dataclass(slots=True, eq=False)
class TenantShare:
    """One tenant's slots. `wake` is called when it was granted a slot that it had to wait for.

    `granted`: a slot is reserved for it, until it begins a post or rests. `since`: its place in the queue
    while it waits.
    """

    wake: Callable[[], None]
    in_flight: int = 0
    granted: bool = False
    since: int | None = None


class FairShare:
    """All slots of a process. `limit`: maximum number of posts in flight."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._taken = 0  # in flight, and granted
        self._queue: list[tuple[int, int, TenantShare]] = []
        self._turns = count()

    def resize(self, limit: int) -> None:
        """Change the limit; posts in flight are not affected."""
        self._limit = limit
        self._grant()

    def begin(self, share: TenantShare) -> bool:
        """Take a slot for a post. False: there is none, and the tenant is now queued for one."""
        if share.granted:
            share.granted = False
        elif share.since is None and self._has_room_for(share.in_flight):
            self._taken += 1
        else:
            if share.since is None:
                self._push(share)
            return False
        share.in_flight += 1
        return True

    def end(self, share: TenantShare) -> None:
        """Free the slot of a post that was answered, or was not sent."""
        share.in_flight -= 1
        self._taken -= 1
        if share.since is not None:  # it has fewer in flight now, and goes behind those that have as many
            self._push(share)
        self._grant()

    def rest(self, share: TenantShare) -> None:
        """The tenant needs no further slot for now."""
        share.since = None
        if share.granted:
            share.granted = False
            self._taken -= 1
            self._grant()

    def leave(self, share: TenantShare) -> None:
        """Free all of the tenant's slots, however its posts ended."""
        self._taken -= share.in_flight
        share.in_flight = 0
        self.rest(share)
        self._grant()

    def _has_room_for(self, in_flight: int) -> bool:
        reserved = 0 if in_flight == 0 else min(max(self._limit // _RESERVED_FRACTION, 1), self._limit - 1)
        return self._taken < self._limit - reserved

    def _push(self, share: TenantShare) -> None:
        share.since = next(self._turns)
        heapq.heappush(self._queue, (share.in_flight, share.since, share))

    def _grant(self) -> None:
        while self._queue:
            in_flight, since, share = self._queue[0]
            is_current = share.since == since
            if is_current and not self._has_room_for(in_flight):
                return
            heapq.heappop(self._queue)
            if is_current:
                self._taken += 1
                share.since, share.granted = None, True
                share.wake()
