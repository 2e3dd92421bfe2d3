"""Logins with credentials that change: in virtual time, against a server that the test plays."""

import asyncio
from dataclasses import dataclass, field

import pytest
from typing_extensions import override

from relay.core.ports import StoreError
from relay.outbox.postgres.errors import LoginRefusedError
from relay.outbox.postgres.logins import Logins
from tests.support.virtual import run

HOUR = 3600.0
DAY = 24 * HOUR


@dataclass
class Site:
    """A server with a password, and the file where the relay finds it."""

    password: str = "first"
    file: str = "first"
    error: StoreError | None = None
    tries: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.logins = PlayedLogins(self)

    async def log_in(self) -> str:
        return await self.logins.attempt(self._connect)

    async def _connect(self) -> str:
        self.tries.append(asyncio.get_running_loop().time())
        await asyncio.sleep(0.01)
        if self.error is not None:
            raise self.error
        if self.file != self.password:
            raise LoginRefusedError(f"it refused {self.file}")
        return self.password

    async def rotate(self, password: str, late_seconds: float) -> None:
        """The server's password, and then the file; the other way round where that is negative."""
        first, second = (
            (self._set_server, self._set_file) if late_seconds >= 0 else (self._set_file, self._set_server)
        )
        first(password)
        await asyncio.sleep(abs(late_seconds))
        second(password)

    def _set_server(self, password: str) -> None:
        self.password = password

    def _set_file(self, password: str) -> None:
        self.file = password


class PlayedLogins(Logins):
    """Logins whose file the test plays."""

    def __init__(self, site: Site) -> None:
        super().__init__()
        self._site = site

    @property
    @override
    def credentials(self) -> str:
        return self._site.file


async def refused(site: Site) -> str:
    with pytest.raises(LoginRefusedError) as caught:
        await site.log_in()
    return str(caught.value)


def test_a_first_login_that_is_refused_fails_at_once() -> None:
    """A command of an operator says so and ends."""

    async def scene() -> None:
        site = Site(file="wrong")
        assert await refused(site) == "it refused wrong"
        assert len(site.tries) == 1
        assert asyncio.get_running_loop().time() < 0.1

    run(scene())


def test_a_refused_login_is_repeated_after_growing_pauses_however_often_it_is_asked_for() -> None:
    async def scene() -> None:
        site = Site(file="wrong")
        clock = asyncio.get_running_loop().time
        while clock() < HOUR:
            assert await refused(site) == "it refused wrong"
            await asyncio.sleep(0.1)
        pauses = [after - before for before, after in zip(site.tries, site.tries[1:], strict=False)]
        assert [round(pause) for pause in pauses[:6]] == [1, 2, 4, 8, 16, 32]
        assert all(60 <= pause < 61 for pause in pauses[6:])
        assert len(site.tries) < 70

    run(scene())


def test_logins_that_are_refused_at_the_same_time_are_one_refusal() -> None:
    async def scene() -> None:
        site = Site(file="wrong")
        await asyncio.gather(*(refused(site) for _ in range(4)))
        await asyncio.sleep(1.1)
        await asyncio.gather(*(refused(site) for _ in range(4)))
        assert len(site.tries) == 8
        await asyncio.sleep(2.1)
        await refused(site)
        assert len(site.tries) == 9

    run(scene())


def test_a_new_password_is_tried_at_once_and_ends_the_pauses() -> None:
    async def scene() -> None:
        site = Site(file="wrong")
        for _ in range(6):
            await refused(site)
            await asyncio.sleep(60)
        site.file = "wrong too"
        assert await refused(site) == "it refused wrong too"
        site.file = "first"
        assert await site.log_in() == "first"
        site.password = "second"
        await refused(site)
        before = len(site.tries)
        await asyncio.sleep(1.1)
        await refused(site)
        assert len(site.tries) == before + 1  # the pauses are short again

    run(scene())


@pytest.mark.parametrize("late_seconds", [-2.5, 0.0, 2.5])
def test_passwords_of_a_quarter_of_an_hour_work_for_a_day(late_seconds: float) -> None:
    """The file and the server get the new one one after the other; logins meet each such moment."""

    async def scene() -> int:
        site, clock = Site(), asyncio.get_running_loop().time
        asyncio.get_running_loop().create_task(rotations(site))
        done = 0
        while clock() < DAY:
            assert await site.log_in() == site.password
            done += 1
            await asyncio.sleep(2.3)
        return done

    async def rotations(site: Site) -> None:
        for number in range(96):
            await asyncio.sleep(900 - abs(late_seconds))
            await site.rotate(f"password {number}", late_seconds)

    assert run(scene()) > 35_000


def test_where_the_caller_waits_no_longer_the_refusal_counts_all_the_same() -> None:
    async def scene() -> None:
        site = Site()
        await site.log_in()
        site.password = "second"
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await site.log_in()
        before = len(site.tries)
        await refused(site)
        assert len(site.tries) == before

    run(scene())


def test_a_server_that_is_away_is_no_refusal_and_is_asked_each_time() -> None:
    async def scene() -> None:
        site = Site(error=StoreError("nobody is there"))
        for number in range(5):
            with pytest.raises(StoreError, match="nobody is there"):
                await site.log_in()
            assert len(site.tries) == number + 1
        site.error = None
        assert await site.log_in() == "first"

    run(scene())
