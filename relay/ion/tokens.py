"""Cache of a tenant's access token: fetched once for all callers, and renewed before it expires.

Token services have quotas: 100 tokens a client a day on one licence tier. So nothing here fetches in a loop
(how often a refused token is replaced: `replacements.py`), and a fetch is completed for all callers, even if
the one that started it was cancelled.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from relay.core import answers
from relay.core.answers import FaultOwner
from relay.core.replies import IonCall, Reply, TokenRefused, TokenUnavailable
from relay.ion.oauth import Token, is_due_for_renewal
from relay.ion.replacements import Replacements

TokenResult = Token | TokenRefused | TokenUnavailable


@dataclass(frozen=True, slots=True)
class NoToken:
    """The token service reports a success, and its answer has no token that can be read: what it is instead.

    The quota has perhaps paid for it.
    """

    detail: str


_RECENT = 4
_FIRST_REST, _LONGEST_REST = 60.0, 3600.0
"""Seconds without a request after a second answer without a token; they double with each further one."""


@dataclass(frozen=True, slots=True)
class _CachedToken:
    """`renew_at`: when a failed renewal is tried again (0: none failed). Instants on the cache's clock."""

    token: Token
    fetched_at: float
    renew_at: float = 0.0

    def is_fresh(self, now: float) -> bool:
        return now < self.renew_at or not is_due_for_renewal(self.fetched_at, self.token.lifetime, now)

    def is_valid(self, now: float) -> bool:
        return now < self.fetched_at + self.token.lifetime


@dataclass(frozen=True, slots=True)
class _Rest:
    """After an answer without a token: no request before `until`. `seconds`: how long it takes in all."""

    what: str
    seconds: float
    until: float

    def answer(self, now: float) -> TokenUnavailable:
        return TokenUnavailable(self.what, self.until - now)


class TokenCache:
    """Holds one token. `fetch` never raises and is bounded in time; `now` is a monotonic clock in seconds.

    `a_day`: how many tokens the licence allows a day; None: unknown.
    """

    def __init__(
        self,
        fetch: Callable[[], Awaitable[TokenResult | NoToken]],
        now: Callable[[], float],
        a_day: int | None = None,
    ) -> None:
        self._fetch, self._now = fetch, now
        self._replacements = Replacements(a_day)
        self._rest: _Rest | None = None
        self._entry: _CachedToken | None = None
        self.recent: deque[Token] = deque(maxlen=_RECENT)
        """The last tokens, oldest first: those of requests in flight are among them."""
        self._fetching: asyncio.Task[TokenResult] | None = None
        self._tasks: set[asyncio.Task[TokenResult]] = set()

    @property
    def cached(self) -> Token | None:
        """The cached token, due for renewal or not."""
        return self._entry.token if self._entry is not None else None

    @property
    def fresh(self) -> Token | None:
        """The cached token, unless it is due for renewal."""
        entry = self._entry
        return entry.token if entry is not None and entry.is_fresh(self._now()) else None

    @property
    def must_fetch(self) -> bool:
        """Whether the next `get` starts a fetch."""
        return self._fetching is None and self.fresh is None and not self._rests

    @property
    def _valid(self) -> Token | None:
        entry = self._entry
        return entry.token if entry is not None and entry.is_valid(self._now()) else None

    @property
    def _rests(self) -> bool:
        return self._rest is not None and self._now() < self._rest.until

    async def get(self) -> TokenResult:
        """The fresh token, or the result of one fetch that all callers share."""
        fresh = self.fresh
        if fresh is not None:
            return fresh
        if self._fetching is None and self._rest is not None and self._rests:
            return self._valid or self._rest.answer(self._now())
        if self._fetching is None:
            self._fetching = asyncio.create_task(self._renew())
            self._tasks.add(self._fetching)
            self._fetching.add_done_callback(self._tasks.discard)
        return await asyncio.shield(self._fetching)

    def note(self, token: Token | None, call: IonCall, reply: Reply, *, may_drop: bool = True) -> bool:
        """What the server answered to a call with this token: whether another token may help.

        A token that it refused is dropped then, if `may_drop`; a newer one stays.
        """
        is_current, row = token is not None and token is self.cached, answers.row_of(reply)
        if row is answers.OK:
            if is_current:
                self._replacements.succeeded(call)
            return False
        if token is not None and may_drop and answers.asks_for_fresh_token(reply):
            if is_current and not self._replacements.may_replace(call, self._now()):
                return False
            self._entry = None if is_current else self._entry
            return True
        if is_current and row.fault is FaultOwner.CREDENTIALS:
            self._replacements.suspect(call)
        return False

    def drop_refused(self) -> None:
        """An operator acted: drop a token that was refused since it last served, and ask for one again."""
        if (self._rest is not None or self._replacements.is_suspect) and self._replacements.take(self._now()):
            self._entry = self._rest = None

    def clear(self) -> None:
        """The credentials changed: later callers get neither the cached token nor that of a running fetch."""
        self._entry = self._fetching = self._rest = None

    async def close(self) -> None:
        """Cancel running fetches."""
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self.clear()

    async def _renew(self) -> TokenResult:
        requested_at = self._now()
        try:
            result = await self._fetch()
        finally:
            is_current = self._fetching is asyncio.current_task()
            if is_current:
                self._fetching = None
        if is_current:
            return self._store(result, requested_at)
        return TokenUnavailable(result.detail) if isinstance(result, NoToken) else result

    def _store(self, result: TokenResult | NoToken, requested_at: float) -> TokenResult:
        now = self._now()
        if isinstance(result, NoToken):
            result = self._begin_rest(result.detail, now)
        match result:
            case Token():
                self._entry, self._rest = _CachedToken(result, requested_at), None
                self.recent.append(result)
            case TokenUnavailable() if self._entry is not None and self._entry.is_valid(now):
                # renewal starts early so that it may fail: wait half of the remaining lifetime, try again
                remaining = self._entry.fetched_at + self._entry.token.lifetime - now
                self._entry = replace(self._entry, renew_at=now + remaining / 2)
                return self._entry.token
        return result

    def _begin_rest(self, what: str, now: float) -> TokenUnavailable:
        before = self._rest
        seconds = 0.0 if before is None else min(max(2 * before.seconds, _FIRST_REST), _LONGEST_REST)
        self._rest = _Rest(what, seconds, now + seconds)
        return self._rest.answer(now)
