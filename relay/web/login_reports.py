"""Who came in, who left, and how many were refused: in the log and in the audit, few lines for many attempts.

The audit is written in the background: a store that does not answer keeps nobody from signing in.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable

from relay.core.admin import AuditAction
from relay.core.answers import FaultOwner
from relay.core.ports import Store, StoreError
from relay.observability import logs
from relay.observability.incidents import Incidents
from relay.web.sessions import Role

_ROUND_SECONDS = 60.0
_NAMED = 5
"""Addresses that are named; the others are counted."""
_MOST_CALLERS = 10_000


class LoginReports:
    """Of one port. `store()` opens the outbox; `incidents`: for the refusals."""

    def __init__(self, store: Callable[[], Awaitable[Store]], incidents: Callable[[], Incidents]) -> None:
        self._store, self._new_incidents = store, incidents
        self._incidents: Incidents | None = None
        self._refused: Counter[str] = Counter()
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def signed_in(self, role: Role, caller: str) -> None:
        """A token began a session."""
        logs.logger().info("session.opened", role=role, caller=caller)
        self._note(f"{role}@{caller}", "sign-in", "a session began")

    def signed_out(self, role: Role, caller: str) -> None:
        """An operator or a reader ended the session."""
        logs.logger().info("session.closed", role=role, caller=caller)
        self._note(f"{role}@{caller}", "sign-out", "the session was ended")

    def refused(self, caller: str, *, is_blocked: bool) -> None:
        """A token was wrong. `is_blocked`: further wrong ones of the address are answered 429."""
        if self._incidents is None:
            self._incidents = self._new_incidents()
        self._incidents.report(
            "login",
            detail=f"a token from {caller} was refused" + (", which is blocked now" if is_blocked else ""),
            fault=FaultOwner.CALLER,
            hint="if it is a program of yours, give it the token of the file; else find out who calls",
        )
        if caller in self._refused or len(self._refused) < _MOST_CALLERS:
            self._refused[caller] += 1
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_ROUND_SECONDS, self._end_round)

    def _end_round(self) -> None:
        """One entry of the audit for the refusals of a minute; after a minute without any it is over."""
        self._timer = None
        refused, self._refused = self._refused, Counter()
        if not refused:
            if self._incidents is not None:
                self._incidents.resolved()
            return
        named = ", ".join(caller for caller, _ in refused.most_common(_NAMED))
        more = f" and {len(refused) - _NAMED} more addresses" if len(refused) > _NAMED else ""
        self._note(
            f"unknown@{named.partition(',')[0]}", "refused", f"{refused.total()} tokens of {named}{more}"
        )
        self._timer = asyncio.get_running_loop().call_later(_ROUND_SECONDS, self._end_round)

    def _note(self, who: str, what: AuditAction, text: str) -> None:
        task = asyncio.get_running_loop().create_task(self._write(who, what, text))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _write(self, who: str, what: AuditAction, text: str) -> None:
        try:
            await (await self._store()).note(who, what, None, text)
        except StoreError as error:
            logs.logger().warning("audit.skipped", who=who, what=what, reason=str(error))
