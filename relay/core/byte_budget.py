"""The memory of a process for messages: how many bytes each tenant may prefetch, and have in bodies.

Pure. Small payloads are prefetched, in a quarter of the budget, which the tenants share equally: where there
is no room, a tenant that has more than its share discards what it has prefetched, which costs a further read
and nothing else. Large payloads are read one by one when their post is due; each has its memory before it is
read, from the rest of the budget, in turns (`fair_share.py`). Nothing that has memory waits for more of it,
so nothing is ever stuck.
"""

from collections.abc import Callable
from dataclasses import dataclass

from relay.core.fair_share import FairShare
from relay.core.ports import LARGE_PAYLOAD

BODY_COPIES = 3
"""Of a large payload while its body is built: as it was read, compressed, and joined to the body."""

SEND_BUFFER = 2**20
"""Of a body that is sent, the connection holds so much a second time, at most."""

_SMALL_COPIES = 2
"""Of a small payload: as it was read, and in the body."""

_PREFETCH_FRACTION = 4
"""One byte in four is for what is prefetched."""

_READS = 8
"""Reads that run at the same time may reserve the whole room: each knows only afterwards what it needed."""


class ByteBudget:
    """The bytes of one process, for all tenants together."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.prefetch = PrefetchBudget(limit // _PREFETCH_FRACTION)
        self.bodies = FairShare(limit - limit // _PREFETCH_FRACTION)

    def resize(self, limit: int) -> None:
        """Change the limit; what is in use stays in use."""
        self.prefetch.resize(limit // _PREFETCH_FRACTION)
        self.bodies.resize(limit - limit // _PREFETCH_FRACTION)

    @property
    def taken(self) -> int:
        """The bytes that are in use or reserved now."""
        return self.prefetch.taken + self.bodies.taken


@dataclass(slots=True, eq=False)
class TenantBuffer:
    """What one tenant has prefetched or not settled yet, and what its running read may add.

    `wake` is called when a reservation that was refused may succeed. `discard` discards what is prefetched
    and reports what is left by `PrefetchBudget.update`.
    """

    wake: Callable[[], None]
    discard: Callable[[], None]
    held: int = 0
    reserved: int = 0


class PrefetchBudget:
    """Shares the memory for prefetched messages. Sizes are of payloads; `limit` and `taken` count copies."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.taken = 0
        self._buffers: dict[TenantBuffer, None] = {}
        self._waiting: dict[TenantBuffer, None] = {}

    def resize(self, limit: int) -> None:
        """Change the limit."""
        self._limit = limit
        self._wake()

    def reserve(self, buffer: TenantBuffer, wanted: int) -> int:
        """How much payload may be read now, at most `wanted`; 0: no room, or the share is used up."""
        self._waiting.pop(buffer, None)
        others = len(self._buffers) - (buffer in self._buffers)
        share = max(self._limit // _SMALL_COPIES // (others + 1), LARGE_PAYLOAD)
        wanted = min(wanted, share - buffer.held, max(self._limit // _SMALL_COPIES // _READS, LARGE_PAYLOAD))
        if wanted < LARGE_PAYLOAD:  # a message might not fit; it tries again as its own messages are settled
            return 0
        self._reclaim(share)
        granted = min(wanted, self._room)
        if granted < LARGE_PAYLOAD:
            self._waiting[buffer] = None
            return 0
        self._buffers[buffer] = None
        buffer.reserved = granted
        self.taken += _SMALL_COPIES * granted
        return granted

    def end_read(self, buffer: TenantBuffer, held: int) -> None:
        """The read is over, and this is what the tenant holds now."""
        self.taken -= _SMALL_COPIES * buffer.reserved
        buffer.reserved = 0
        self.update(buffer, held)

    def update(self, buffer: TenantBuffer, held: int) -> None:
        """The tenant holds so much payload now."""
        self.taken += _SMALL_COPIES * (held - buffer.held)
        buffer.held = held
        if not held:
            self._drop_empty(buffer)
        if self._waiting:
            self._wake()

    def leave(self, buffer: TenantBuffer, held: int) -> None:
        """The tenant's worker ends; what it still holds is not settled yet."""
        self._waiting.pop(buffer, None)
        self.end_read(buffer, held)

    @property
    def _room(self) -> int:
        return (self._limit - self.taken) // _SMALL_COPIES

    def _reclaim(self, share: int) -> None:
        """Where there is no room, have tenants discard what is beyond their share, the largest first."""
        if self._room >= LARGE_PAYLOAD:
            return
        over = sorted((one for one in self._buffers if one.held > share), key=lambda one: one.held)
        while over and self._room < LARGE_PAYLOAD:
            over.pop().discard()

    def _drop_empty(self, buffer: TenantBuffer) -> None:
        if not buffer.held and not buffer.reserved:
            self._buffers.pop(buffer, None)

    def _wake(self) -> None:
        """All that wait try again, the longest waiting first: whoever needs no room any more takes none."""
        if self._room >= LARGE_PAYLOAD:
            waiting, self._waiting = self._waiting, {}
            for buffer in waiting:
                buffer.wake()
