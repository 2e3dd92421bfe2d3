"""How many posts of a tenant may be in flight: by slow start, by its fair share, by what is unsettled."""

import asyncio
from collections.abc import Coroutine
from functools import partial
from typing import Any

from relay.core.fair_share import TenantShare
from relay.core.slow_start import SlowStart
from relay.delivery.context import TenantContext, TenantRules
from relay.delivery.limits import MAX_UNSETTLED
from relay.delivery.tasks import Tasks

_PATIENCE_SECONDS = 2.0
"""A flight of one post that takes longer goes on without it, so that others need not wait for it."""


class PostSlots:
    """One tenant's slots. A slot is a task that posts one message after the other while its flight is on."""

    def __init__(self, rules: TenantRules, context: TenantContext, tasks: Tasks) -> None:
        self._tenant, self._context, self._tasks = rules.tenant_id, context, tasks
        self._share = TenantShare(tasks.wake)
        self.slow_start = SlowStart(rules.max_in_flight)
        self._now = asyncio.get_running_loop().time
        self._limit, self._late, self._began = rules.max_in_flight, 0, 0.0
        self._least_rate = rules.least_rate
        self.in_use = self.flight = self.bytes_in_flight = 0

    def new_flight(self) -> None:
        """Posts that are still in flight are late from now on: the flight grows without them."""
        self.flight += 1
        self._late = self.in_use

    @property
    def in_flight(self) -> int:
        """The slots in use without the late ones."""
        return self.in_use - self._late

    @property
    def patience_ends(self) -> float | None:
        """When the flight goes on without its only post; None where it does not wait for a single one."""
        if self._late or self.in_use != 1 or self.slow_start.size != 1:
            return None
        return self._began + _PATIENCE_SECONDS

    def end_patience(self, now: float) -> None:
        """Where a single post takes too long, begin a new flight beside it."""
        if self.patience_ends is not None and now >= self.patience_ends:
            self.new_flight()

    @property
    def has_free(self) -> bool:
        """Whether one more slot may be used."""
        return self.in_flight < self.slow_start.size and self.in_use < self._limit

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Use one slot for this work, until it ends."""
        self.in_use += 1
        self._tasks.start(work, partial(self._end, self.flight))

    def may_post(self) -> bool:
        """Whether another post may begin: few enough are unsettled, and the tenant is this process'."""
        unsettled = self._context.settler.unsettled(self._tenant)
        return self.in_use + len(unsettled) < MAX_UNSETTLED and self._context.holds()

    def begin_post(self) -> bool:
        """Take a place among all posts of the process; False: there is none now."""
        self._began = self._now()
        return self.may_post() and self._context.fair_share.begin(self._share)

    def begin_body(self, size: int) -> bool:
        """Whether so many bytes more may be in flight, as the link has borne; they count from now on."""
        if not self.slow_start.has_room(self.bytes_in_flight, size):
            return False
        self._change_bytes(size)
        return True

    def end_body(self, size: int) -> None:
        """The message was answered, or not sent."""
        self._change_bytes(-size)

    def _change_bytes(self, size: int) -> None:
        self.bytes_in_flight += size
        self._context.telemetry.liveness.extra = self.bytes_in_flight / self._least_rate

    def end_post(self) -> None:
        """The post was answered or not sent: its place is free."""
        self._context.fair_share.end(self._share)

    @property
    def is_queued(self) -> bool:
        """Whether the tenant waits for a place."""
        return self._share.since is not None

    def rest(self) -> None:
        """Leave a place that cannot be used now to another tenant."""
        if self._share.granted:
            self._context.fair_share.rest(self._share)

    def show_idle(self) -> None:
        """A request has ended; where no post is in flight, there is none that can be overdue."""
        if not self.in_use:
            self._context.telemetry.liveness.idle()

    def wait_no_more(self) -> None:
        """No post begins for now."""
        self._context.fair_share.rest(self._share)

    def leave(self) -> None:
        """No post is in flight any more."""
        self._context.fair_share.leave(self._share)

    def _end(self, flight: int) -> None:
        self.in_use -= 1
        if flight != self.flight:
            self._late -= 1
        self.show_idle()
