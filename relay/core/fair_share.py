"""Fair sharing of a process-wide limit among tenants: of the posts in flight, and of the memory for bodies.

Pure. What is free goes to the waiting tenant that has the least, the longest waiting first; a quarter of the
limit is reserved for tenants that have none. So a few tenants may have much each, many busy tenants converge
on the same amount each, and one message never waits behind another tenant's million. An amount larger than
the limit has it alone, in its turn: nobody waits forever.
"""

import heapq
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count

_RESERVED_FRACTION = 4
"""One slot in four is for first posts only: tenants whose ION does not respond must not block the others."""


@dataclass(slots=True, eq=False)
class TenantShare:
    """One tenant's part of the limit. `wake` is called when it was granted what it had to wait for.

    `taken`: by its posts. `granted`: reserved for it, until it begins a post or rests. `since`: its place in
    the queue while it waits for `wanted`.
    """

    wake: Callable[[], None]
    taken: int = 0
    granted: int = 0
    wanted: int = 0
    since: int | None = None


class FairShare:
    """The limit of a process, in posts or in bytes."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.taken = 0
        """By all posts, and granted."""
        self._queue: list[tuple[int, int, TenantShare]] = []
        self._turns = count()

    def resize(self, limit: int) -> None:
        """Change the limit; posts in flight are not affected."""
        self._limit = limit
        self._grant()

    def begin(self, share: TenantShare, amount: int = 1) -> bool:
        """Take the amount for a post. False: it is not free, and the tenant is now queued for it."""
        if share.granted >= amount:
            excess, share.granted = share.granted - amount, 0
            if excess:
                self.taken -= excess
                self._grant()
        elif not share.granted and share.since is None and self._may_begin(share.taken, amount):
            self.taken += amount
        else:
            self._wait(share, amount)
            return False
        share.taken += amount
        return True

    def end(self, share: TenantShare, amount: int = 1) -> None:
        """Free what a post has taken, or a part of it: it was answered, was not sent, or needs less now."""
        share.taken -= amount
        self.taken -= amount
        if share.since is not None:  # it has less now, and goes behind those that have as much
            self._push(share)
        self._grant()

    def rest(self, share: TenantShare) -> None:
        """The tenant needs no more for now."""
        share.since = None
        if share.granted:
            self.taken -= share.granted
            share.granted = 0
            self._grant()

    def leave(self, share: TenantShare) -> None:
        """Free all that the tenant has, however its posts ended."""
        self.taken -= share.taken
        share.taken = 0
        self.rest(share)
        self._grant()

    def _may_begin(self, taken: int, amount: int) -> bool:
        first = self._first()
        return (first is None or first.taken > taken) and self._has_room_for(taken, amount)

    def _has_room_for(self, taken: int, amount: int) -> bool:
        reserved = 0 if taken == 0 else min(max(self._limit // _RESERVED_FRACTION, 1), self._limit - 1)
        return self.taken + amount <= self._limit - reserved or self.taken == 0

    def _wait(self, share: TenantShare, amount: int) -> None:
        if share.since is not None and share.wanted == amount:
            return
        share.wanted = amount
        if share.since is None:
            self._push(share)
        self.taken -= share.granted  # too little for this post
        share.granted = 0
        self._grant()

    def _push(self, share: TenantShare) -> None:
        share.since = next(self._turns)
        heapq.heappush(self._queue, (share.taken, share.since, share))

    def _first(self) -> TenantShare | None:
        """The tenant whose turn is next."""
        while self._queue:
            _, since, share = self._queue[0]
            if share.since == since:
                return share
            heapq.heappop(self._queue)
        return None

    def _grant(self) -> None:
        while (share := self._first()) is not None and self._has_room_for(share.taken, share.wanted):
            heapq.heappop(self._queue)
            self.taken += share.wanted
            share.since, share.granted = None, share.wanted
            share.wake()
