"""The tenants' live states, written for `relay status` at most once a second, off the hot path."""

import asyncio
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta

from relay.core.model import BACK_OFF, NOT_ACCEPTED, DocumentName, StateName, TenantId, TenantState
from relay.core.ports import Housekeeping

_WRITE_SECONDS = 1.0
_FARTHEST_SECONDS = 1000 * 365.25 * 86400.0
"""A `not_before` that an application gave may lie behind the last year that a date can have."""
_OUTAGE = frozenset({"initialising", "pinging", "backing-off", "halted"})
"""These alternate while ION is away: an operator wants to know since when it is."""
_NO_FAILURE = frozenset({"", NOT_ACCEPTED, BACK_OFF})
"""Kinds of a tenant that sends; any other is of a failure that no delivery has ended yet."""


class TenantStates:
    """What each tenant of this process does now. `wall`: the time of day."""

    def __init__(self, wall: Callable[[], datetime]) -> None:
        self._wall = wall
        self._current: dict[TenantId, TenantState] = {}
        self._unwritten: set[TenantId] = set()
        self._changed = asyncio.Event()

    def report(
        self,
        tenant: TenantId,
        state: StateName,
        reason: str,
        next_try: float | None,
        *,
        kind: str = "",
        documents: tuple[DocumentName, ...] = (),
    ) -> None:
        """The tenant does this now. `next_try`: in the loop's time."""
        before = self._current.get(tenant)
        known = None if before is None else (before.state, before.reason, before.kind, before.documents)
        if known == (state, reason, kind, documents) and next_try is None:
            return
        wall = self._wall()
        since = before.since if before is not None and _is_continued(before, state, kind) else wall
        due = (
            None if next_try is None else wall + timedelta(seconds=min(next_try - _now(), _FARTHEST_SECONDS))
        )
        self._current[tenant] = TenantState(tenant, state, reason, since, due, kind=kind, documents=documents)
        self._unwritten.add(tenant)
        self._changed.set()

    def current(self) -> Mapping[TenantId, TenantState]:
        """All states that are known."""
        return dict(self._current)

    def forget(self, tenant: TenantId) -> None:
        """The tenant is not configured any more."""
        self._current.pop(tenant, None)
        self._unwritten.discard(tenant)

    def rewrite(self) -> None:
        """Write all of them again: the outbox has lost them."""
        self._unwritten.update(self._current)
        self._changed.set()

    async def run(self, outbox: Housekeeping) -> None:
        """Write what changed, for ever. What could not be written is kept for the next attempt."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            tenants = list(self._unwritten)
            self._unwritten.clear()
            try:
                await outbox.report([self._current[tenant] for tenant in tenants])
            except BaseException:
                self._unwritten.update(tenant for tenant in tenants if tenant in self._current)
                self._changed.set()
                raise
            await asyncio.sleep(_WRITE_SECONDS)


def _is_continued(before: TenantState, state: StateName, kind: str) -> bool:
    if before.state == state == "sending":
        return _is_outage(state, before.kind) == _is_outage(state, kind)
    if before.state == state:
        return True
    if "halted" in (before.state, state) and before.kind != kind:
        return False  # another failure than the one that halted it
    return _is_outage(before.state, before.kind) and _is_outage(state, kind)


def _is_outage(state: StateName, kind: str) -> bool:
    return state in _OUTAGE or (state == "sending" and kind not in _NO_FAILURE)


def _now() -> float:
    return asyncio.get_running_loop().time()
