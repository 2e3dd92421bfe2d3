"""Cache of a tenant's access token: fetched once for all callers, and renewed before it expires.

Token services have quotas: 100 tokens a client a day on one licence tier. So nothing here fetches in a loop,
and a fetch is completed for all callers, even if the one that started it was cancelled.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from relay.core.replies import TokenRefused, TokenUnavailable
from relay.ion.oauth import Token, is_due_for_renewal

TokenResult = Token | TokenRefused | TokenUnavailable


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


class TokenCache:
    """Holds one token. `fetch` never raises and is bounded in time; `now` is a monotonic clock in seconds."""

    def __init__(self, fetch: Callable[[], Awaitable[TokenResult]], now: Callable[[], float]) -> None:
        self._fetch, self._now = fetch, now
        self._entry: _CachedToken | None = None
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
        return self._fetching is None and self.fresh is None

    async def get(self) -> TokenResult:
        """The fresh token, or the result of one fetch that all callers share."""
        fresh = self.fresh
        if fresh is not None:
            return fresh
        if self._fetching is None:
            self._fetching = asyncio.create_task(self._renew())
            self._tasks.add(self._fetching)
            self._fetching.add_done_callback(self._tasks.discard)
        return await asyncio.shield(self._fetching)

    def invalidate(self, token: Token) -> None:
        """Drop this token, which the server rejected; a newer one stays."""
        if self.cached is token:
            self._entry = None

    def clear(self) -> None:
        """The credentials changed: later callers get neither the cached token nor that of a running fetch."""
        self._entry = self._fetching = None

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
        return self._store(result, requested_at) if is_current else result

    def _store(self, result: TokenResult, requested_at: float) -> TokenResult:
        now = self._now()
        match result:
            case Token():
                self._entry = _CachedToken(result, requested_at)
            case TokenUnavailable() if self._entry is not None and self._entry.is_valid(now):
                # renewal starts early so that it may fail: wait half of the remaining lifetime, try again
                remaining = self._entry.fetched_at + self._entry.token.lifetime - now
                self._entry = replace(self._entry, renew_at=now + remaining / 2)
                return self._entry.token
        return result
