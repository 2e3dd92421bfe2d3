"""One token for all callers, fetched once, renewed in time, never in a loop; in virtual time."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from relay.core.replies import Reply, TokenRefused, TokenUnavailable
from relay.ion.oauth import Secret, Token
from relay.ion.tokens import NoToken, TokenCache, TokenResult
from tests.support import virtual


class TokenService:
    """`seconds`: its response time. `results`: its next results, else a token of `lifetime`."""

    def __init__(self, seconds: float = 1.0, lifetime: float = 1000.0) -> None:
        self.seconds, self.lifetime = seconds, lifetime
        self.results: list[TokenResult | NoToken] = []
        self.requests: list[float] = []

    async def fetch(self) -> TokenResult | NoToken:
        """One request, recorded with its time."""
        self.requests.append(now())
        number = len(self.requests)
        result = self.results.pop(0) if self.results else Token(Secret(f"token-{number}"), self.lifetime)
        await asyncio.sleep(self.seconds)
        return result


def now() -> float:
    return asyncio.get_running_loop().time()


def cache(service: TokenService) -> TokenCache:
    return TokenCache(service.fetch, now)


def in_virtual_time(test: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    def run() -> None:
        virtual.run(test())

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


async def one(tokens: TokenCache) -> Token:
    token = await tokens.get()
    assert isinstance(token, Token)
    return token


async def text(tokens: TokenCache) -> str:
    return (await one(tokens)).value.reveal()


@in_virtual_time
async def test_fifty_callers_cause_one_fetch() -> None:
    service = TokenService()
    tokens = cache(service)
    assert set(await asyncio.gather(*(text(tokens) for _ in range(50)))) == {"token-1"}
    assert len(service.requests) == 1


@in_virtual_time
async def test_a_fetch_is_completed_for_the_others_when_the_caller_that_started_it_is_cancelled() -> None:
    service = TokenService()
    tokens = cache(service)
    first, second = asyncio.create_task(text(tokens)), asyncio.create_task(text(tokens))
    await asyncio.sleep(0.5)
    first.cancel()
    assert await second == "token-1"
    assert first.cancelled()
    assert len(service.requests) == 1


@in_virtual_time
async def test_the_token_of_a_fetch_whose_callers_were_cancelled_is_cached() -> None:
    service = TokenService()
    tokens = cache(service)
    only = asyncio.create_task(text(tokens))
    await asyncio.sleep(0.5)
    only.cancel()
    await asyncio.sleep(1)
    assert await text(tokens) == "token-1"
    assert len(service.requests) == 1


@in_virtual_time
async def test_a_token_is_renewed_after_nine_tenths_of_its_lifetime() -> None:
    """Its lifetime counts from before it was requested."""
    service = TokenService(seconds=10, lifetime=1000)
    tokens = cache(service)
    assert await text(tokens) == "token-1"
    await asyncio.sleep(889.9)
    assert not tokens.must_fetch
    assert await text(tokens) == "token-1"
    await asyncio.sleep(0.1)
    assert tokens.must_fetch
    assert set(await asyncio.gather(*(text(tokens) for _ in range(5)))) == {"token-2"}
    assert service.requests == [0.0, 900.0]


@pytest.mark.parametrize("failure", [TokenRefused("wrong"), TokenUnavailable("down", 5.0)])
def test_all_callers_get_a_failure_and_it_is_not_cached(failure: TokenResult) -> None:
    async def test() -> None:
        service = TokenService()
        service.results = [failure]
        tokens = cache(service)
        assert await asyncio.gather(*(tokens.get() for _ in range(5))) == [failure] * 5
        assert tokens.cached is None
        assert await text(tokens) == "token-2"
        assert len(service.requests) == 2

    virtual.run(test())


@in_virtual_time
async def test_while_the_old_token_is_valid_a_failed_renewal_is_no_failure_and_no_loop() -> None:
    """In the last tenth of a lifetime of 1,000 s a service that is down gets a handful of requests."""
    service = TokenService(seconds=0, lifetime=1000)
    tokens = cache(service)
    await tokens.get()
    await asyncio.sleep(900)
    service.results = [TokenUnavailable("down")] * 100
    while now() < 999:
        assert await text(tokens) == "token-1"
        await asyncio.sleep(0.25)
    assert 3 <= len(service.requests) - 1 <= 10
    await asyncio.sleep(1)
    assert await tokens.get() == TokenUnavailable("down")
    service.results = []
    assert (await text(tokens)).startswith("token-")


@in_virtual_time
async def test_a_renewal_after_a_failed_one_is_fresh_for_its_own_lifetime() -> None:
    service = TokenService(seconds=0, lifetime=1000)
    tokens = cache(service)
    await tokens.get()
    await asyncio.sleep(900)
    service.results = [TokenUnavailable("down")]
    assert await text(tokens) == "token-1"
    await asyncio.sleep(60)
    assert await text(tokens) == "token-3"
    await asyncio.sleep(899)
    assert await text(tokens) == "token-3"


@in_virtual_time
async def test_credentials_that_are_refused_at_renewal_are_refused() -> None:
    service = TokenService(seconds=0)
    tokens = cache(service)
    await tokens.get()
    await asyncio.sleep(950)
    service.results = [TokenRefused("revoked")]
    assert await tokens.get() == TokenRefused("revoked")


@in_virtual_time
async def test_only_the_token_that_was_refused_is_dropped() -> None:
    service = TokenService(seconds=0)
    tokens = cache(service)
    old = await tokens.get()
    assert isinstance(old, Token)
    assert tokens.note(old, "post", Reply(401))
    assert tokens.cached is None
    assert await text(tokens) == "token-2"
    assert tokens.note(old, "ping", Reply(401))
    assert await text(tokens) == "token-2"
    assert len(service.requests) == 2


@in_virtual_time
async def test_a_new_token_that_is_refused_as_well_is_kept() -> None:
    service = TokenService(seconds=0)
    tokens = cache(service)
    assert tokens.note(await one(tokens), "post", Reply(401))
    assert not tokens.note(await one(tokens), "post", Reply(401))
    assert await text(tokens) == "token-2"


@in_virtual_time
async def test_an_operator_has_a_token_dropped_that_was_refused_since_it_last_served() -> None:
    service = TokenService(seconds=0)
    tokens = cache(service)
    tokens.drop_refused()
    tokens.note(await one(tokens), "post", Reply(403))
    tokens.note(await one(tokens), "post", Reply(202))
    tokens.drop_refused()
    assert await text(tokens) == "token-1"
    tokens.note(await one(tokens), "post", Reply(403))
    tokens.note(await one(tokens), "ping", Reply(202))
    tokens.drop_refused()
    assert await text(tokens) == "token-2"


@in_virtual_time
async def test_what_is_said_of_a_former_token_does_not_concern_the_new_one() -> None:
    service = TokenService(seconds=0)
    tokens = cache(service)
    old = await one(tokens)
    assert tokens.note(old, "post", Reply(401))
    new = await one(tokens)
    tokens.note(old, "post", Reply(202))  # a post in flight that was answered late
    assert not tokens.note(new, "post", Reply(401))
    tokens.note(new, "post", Reply(202))
    tokens.note(old, "post", Reply(403))
    tokens.drop_refused()
    assert await text(tokens) == "token-2"


@in_virtual_time
async def test_answers_without_a_token_cause_ever_fewer_requests() -> None:
    """The quota may have paid for each: 100 tokens a client and day."""
    service = TokenService(seconds=0)
    service.results = [NoToken("the answer has no access_token")] * 1000
    tokens = cache(service)
    while now() < 86400:
        answer = await tokens.get()
        assert isinstance(answer, TokenUnavailable)
        assert answer.detail == "the answer has no access_token"
        assert answer.retry_after is not None
        await asyncio.sleep(1)
    assert service.requests[:5] == [0, 1, 61, 181, 421]
    assert len(service.requests) <= 30
    tokens.drop_refused()
    await tokens.get()
    assert service.requests[-1] == now()


@in_virtual_time
async def test_after_a_token_the_next_answer_without_one_is_the_first() -> None:
    service = TokenService(seconds=0, lifetime=100)
    service.results = [NoToken("odd"), NoToken("odd"), Token(Secret("good"), 100), NoToken("odd")]
    tokens = cache(service)
    for _ in range(3):
        await tokens.get()
        await asyncio.sleep(120)
    assert await tokens.get() == TokenUnavailable("odd", 0.0)


@in_virtual_time
async def test_a_valid_token_serves_while_the_renewal_brings_none() -> None:
    service = TokenService(seconds=0, lifetime=10_000)
    tokens = cache(service)
    await tokens.get()
    service.results = [NoToken("odd")] * 20
    await asyncio.sleep(9000)
    while now() < 9999:
        assert await text(tokens) == "token-1"
        await asyncio.sleep(1)
    assert len(service.requests) <= 6
    await asyncio.sleep(1)
    assert isinstance(await tokens.get(), TokenUnavailable)


@in_virtual_time
async def test_an_answer_without_a_token_for_former_credentials_does_not_hinder_the_new_ones() -> None:
    service = TokenService()
    service.results = [NoToken("odd")]
    tokens = cache(service)
    waiting = asyncio.create_task(tokens.get())
    await asyncio.sleep(0.5)
    tokens.clear()
    assert await waiting == TokenUnavailable("odd")
    assert await text(tokens) == "token-2"
    service.results = [NoToken("odd")] * 2
    tokens.clear()
    await tokens.get()
    await tokens.get()
    tokens.clear()
    assert await text(tokens) == "token-5"


@in_virtual_time
async def test_a_token_fetched_for_former_credentials_is_not_cached() -> None:
    service = TokenService()
    tokens = cache(service)
    waiting = asyncio.create_task(text(tokens))
    await asyncio.sleep(0.5)
    tokens.clear()
    assert tokens.must_fetch
    later = asyncio.create_task(text(tokens))
    assert await waiting == "token-1"
    assert await later == "token-2"
    assert await text(tokens) == "token-2"


@in_virtual_time
async def test_close_cancels_the_fetch_and_its_callers() -> None:
    service = TokenService(seconds=10)
    tokens = cache(service)
    waiting = asyncio.create_task(tokens.get())
    await asyncio.sleep(1)
    await tokens.close()
    assert now() == 1.0
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert await text(tokens) == "token-2"


@in_virtual_time
async def test_an_exception_in_the_fetch_reaches_its_callers_and_blocks_nobody() -> None:
    fetches = 0

    async def fetch() -> TokenResult:
        nonlocal fetches
        fetches += 1
        if fetches == 1:
            raise ZeroDivisionError
        return Token(Secret("t"), 10)

    tokens = TokenCache(fetch, now)
    with pytest.raises(ZeroDivisionError):
        await tokens.get()
    assert await text(tokens) == "t"
