"""This file is a tenant's access token: fetched once however many wait, renewed before it expires.

Token services count: on one licence tier 100 tokens a client a day. So nothing here fetches in a loop, and
a fetch that somebody began is finished for everybody, also when whoever began it no longer waits.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from relay.core.replies import TokenRefused, TokenUnavailable
from relay.ion.oauth import Token, due_for_renewal

Fetched = Token | TokenRefused | TokenUnavailable


@dataclass(frozen=True, slots=True)
class _Held:
    """`look_at`: when a failed renewal is tried again (0: it did not fail). Instants on the cache's clock."""

    token: Token
    fetched_at: float
    look_at: float = 0.0

    def is_good(self, now: float) -> bool:
        return now < self.look_at or not due_for_renewal(self.fetched_at, self.token.life, now)

    def is_alive(self, now: float) -> bool:
        return now < self.fetched_at + self.token.life


class TokenCache:
    """Holds one token. `fetch` never raises and is bounded in time; `now` is a monotonic clock in seconds."""

    def __init__(self, fetch: Callable[[], Awaitable[Fetched]], now: Callable[[], float]) -> None:
        self._fetch, self._now = fetch, now
        self._held: _Held | None = None
        self._fetching: asyncio.Task[Fetched] | None = None
        self._tasks: set[asyncio.Task[Fetched]] = set()

    @property
    def cached(self) -> Token | None:
        """The token that is held, due for renewal or not."""
        return self._held.token if self._held is not None else None

    @property
    def good(self) -> Token | None:
        """The token that is held and not yet due for renewal."""
        held = self._held
        return held.token if held is not None and held.is_good(self._now()) else None

    @property
    def must_fetch(self) -> bool:
        """Whether the next `get` begins a fetch."""
        return self._fetching is None and self.good is None

    async def get(self) -> Fetched:
        """The good token, or what one fetch brought to all who wait for it."""
        good = self.good
        if good is not None:
            return good
        if self._fetching is None:
            self._fetching = asyncio.create_task(self._renew())
            self._tasks.add(self._fetching)
            self._fetching.add_done_callback(self._tasks.discard)
        return await asyncio.shield(self._fetching)

    def refuse(self, token: Token) -> None:
        """The far side refused this token; a newer one, if there is one by now, stays."""
        if self.cached is token:
            self._held = None

    def forget(self) -> None:
        """The credentials changed: what is held, or under way for those who wait, is not for anybody else."""
        self._held = self._fetching = None

    async def close(self) -> None:
        """Cut the fetches under way."""
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self.forget()

    async def _renew(self) -> Fetched:
        asked_at = self._now()
        try:
            fetched = await self._fetch()
        finally:
            is_wanted = self._fetching is asyncio.current_task()
            if is_wanted:
                self._fetching = None
        return self._keep(fetched, asked_at) if is_wanted else fetched

    def _keep(self, fetched: Fetched, asked_at: float) -> Fetched:
        now = self._now()
        match fetched:
            case Token():
                self._held = _Held(fetched, asked_at)
            case TokenUnavailable() if self._held is not None and self._held.is_alive(now):
                # renewed early on purpose: what is held still lives, so half of the rest may pass first
                rest = self._held.fetched_at + self._held.token.life - now
                self._held = replace(self._held, look_at=now + rest / 2)
                return self._held.token
        return fetched
