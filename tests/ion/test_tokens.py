"""One token for all, fetched once, renewed in time, never in a loop; in virtual time."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest

from relay.core.replies import TokenRefused, TokenUnavailable
from relay.ion.oauth import Secret, Token
from relay.ion.tokens import Fetched, TokenCache
from tests.support import virtual


class SystemdNotifier:
    """A token service in words. `seconds`: how long it takes; `next`: its answers, else a token of `life`."""

    def __init__(self, seconds: float = 1.0, life: float = 1000.0) -> None:
        self.seconds, self.life = seconds, life
        self.next: list[Fetched] = []
        self.asked: list[float] = []

    async def fetch(self) -> Fetched:
        """Ask it."""
        self.asked.append(now())
        number = len(self.asked)
        answer = self.next.pop(0) if self.next else Token(Secret(f"token-{number}"), self.life)
        await asyncio.sleep(self.seconds)
        return answer


def now() -> float:
    return asyncio.get_running_loop().time()


def cache(service: SystemdNotifier) -> TokenCache:
    return TokenCache(service.fetch, now)


def in_virtual_time(test: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    def run() -> None:
        virtual.run(test())

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


async def text(tokens: TokenCache) -> str:
    token = await tokens.get()
    assert isinstance(token, Token)
    return token.text.reveal()


@in_virtual_time
async def test_fifty_who_wait_cause_one_fetch() -> None:
    service = SystemdNotifier()
    tokens = cache(service)
    assert set(await asyncio.gather(*(text(tokens) for _ in range(50)))) == {"token-1"}
    assert len(service.asked) == 1


@in_virtual_time
async def test_a_fetch_is_finished_for_the_others_when_whoever_began_it_is_cancelled() -> None:
    service = SystemdNotifier()
    tokens = cache(service)
    first, second = asyncio.create_task(text(tokens)), asyncio.create_task(text(tokens))
    await asyncio.sleep(0.5)
    first.cancel()
    assert await second == "token-1"
    assert first.cancelled()
    assert len(service.asked) == 1


@in_virtual_time
async def test_a_fetch_that_nobody_waits_for_any_more_is_not_wasted() -> None:
    service = SystemdNotifier()
    tokens = cache(service)
    only = asyncio.create_task(text(tokens))
    await asyncio.sleep(0.5)
    only.cancel()
    await asyncio.sleep(1)
    assert await text(tokens) == "token-1"
    assert len(service.asked) == 1


@in_virtual_time
async def test_a_token_is_renewed_once_nine_tenths_of_its_life_are_over() -> None:
    """Its life counts from before it was asked for."""
    service = SystemdNotifier(seconds=10, life=1000)
    tokens = cache(service)
    assert await text(tokens) == "token-1"
    await asyncio.sleep(889.9)
    assert not tokens.must_fetch
    assert await text(tokens) == "token-1"
    await asyncio.sleep(0.1)
    assert tokens.must_fetch
    assert set(await asyncio.gather(*(text(tokens) for _ in range(5)))) == {"token-2"}
    assert service.asked == [0.0, 900.0]


@pytest.mark.parametrize("failure", [TokenRefused("wrong"), TokenUnavailable("down", 5.0)])
def test_a_failure_is_everybodys_and_is_not_kept(failure: Fetched) -> None:
    async def test() -> None:
        service = SystemdNotifier()
        service.next = [failure]
        tokens = cache(service)
        assert await asyncio.gather(*(tokens.get() for _ in range(5))) == [failure] * 5
        assert tokens.cached is None
        assert await text(tokens) == "token-2"
        assert len(service.asked) == 2

    virtual.run(test())


@in_virtual_time
async def test_while_the_old_token_lives_a_failed_renewal_is_no_trouble_and_no_loop() -> None:
    """In the last tenth of a life of 1,000 s a service that is down is asked a handful of times."""
    service = SystemdNotifier(seconds=0, life=1000)
    tokens = cache(service)
    await tokens.get()
    await asyncio.sleep(900)
    service.next = [TokenUnavailable("down")] * 100
    while now() < 999:
        assert await text(tokens) == "token-1"
        await asyncio.sleep(0.25)
    assert 3 <= len(service.asked) - 1 <= 10
    await asyncio.sleep(1)
    assert await tokens.get() == TokenUnavailable("down")
    service.next = []
    assert (await text(tokens)).startswith("token-")


@in_virtual_time
async def test_a_renewal_after_a_failed_one_is_good_for_its_own_life() -> None:
    service = SystemdNotifier(seconds=0, life=1000)
    tokens = cache(service)
    await tokens.get()
    await asyncio.sleep(900)
    service.next = [TokenUnavailable("down")]
    assert await text(tokens) == "token-1"
    await asyncio.sleep(60)
    assert await text(tokens) == "token-3"
    await asyncio.sleep(899)
    assert await text(tokens) == "token-3"


@in_virtual_time
async def test_credentials_that_are_refused_at_renewal_are_refused() -> None:
    service = SystemdNotifier(seconds=0)
    tokens = cache(service)
    await tokens.get()
    await asyncio.sleep(950)
    service.next = [TokenRefused("revoked")]
    assert await tokens.get() == TokenRefused("revoked")


@in_virtual_time
async def test_only_the_token_that_was_refused_is_given_up() -> None:
    service = SystemdNotifier(seconds=0)
    tokens = cache(service)
    old = await tokens.get()
    assert isinstance(old, Token)
    tokens.refuse(old)
    assert tokens.cached is None
    assert await text(tokens) == "token-2"
    tokens.refuse(old)
    assert await text(tokens) == "token-2"
    assert len(service.asked) == 2


@in_virtual_time
async def test_what_is_under_way_for_former_credentials_is_not_kept() -> None:
    service = SystemdNotifier()
    tokens = cache(service)
    waiting = asyncio.create_task(text(tokens))
    await asyncio.sleep(0.5)
    tokens.forget()
    assert tokens.must_fetch
    later = asyncio.create_task(text(tokens))
    assert await waiting == "token-1"
    assert await later == "token-2"
    assert await text(tokens) == "token-2"


@in_virtual_time
async def test_a_close_cuts_the_fetch_and_whoever_waits() -> None:
    service = SystemdNotifier(seconds=10)
    tokens = cache(service)
    waiting = asyncio.create_task(tokens.get())
    await asyncio.sleep(1)
    await tokens.close()
    assert now() == 1.0
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert await text(tokens) == "token-2"


@in_virtual_time
async def test_a_bug_in_the_fetch_reaches_who_waits_and_blocks_nobody() -> None:
    asked = 0

    async def fetch() -> Fetched:
        nonlocal asked
        asked += 1
        if asked == 1:
            raise ZeroDivisionError
        return Token(Secret("t"), 10)

    fetching: Callable[[], Awaitable[Fetched]] = fetch
    tokens = TokenCache(fetching, now)
    with pytest.raises(ZeroDivisionError):
        await tokens.get()
    assert await text(tokens) == "t"
