"""Sessions of the page: when they end."""

import asyncio
from typing import cast

import pytest
from aiohttp.test_utils import make_mocked_request

from relay.ion.oauth import Secret
from relay.web.access_control import COOKIE, Access, AccessTokens
from relay.web.login_reports import LoginReports
from relay.web.sessions import IDLE_SECONDS, MOST, Sessions


def test_a_page_that_is_only_left_open_does_not_keep_its_session():
    tokens = iter("abcd")
    sessions = Sessions(lambda: next(tokens))
    key = sessions.begin("reader", 0.0).key
    for hour in range(1, 12):
        assert sessions.find(key, hour * 3600.0, is_use=False) is not None
    assert sessions.find(key, IDLE_SECONDS + 1, is_use=False) is None


def test_sessions_that_were_never_used_end_none_that_was():
    tokens = map(str, range(10_000))
    sessions = Sessions(lambda: next(tokens))
    used = sessions.begin("operator", 0.0)
    sessions.find(used.key, 1.0)
    known = sessions.begin("reader", 0.0, "a token")
    first = sessions.begin("operator", 2.0)
    for _ in range(MOST):
        sessions.begin("operator", 3.0)
    assert sessions.find(first.key, 4.0) is None
    assert sessions.find(used.key, 4.0) is used
    assert sessions.find(known.key, 4.0) is known


def test_a_page_that_is_used_keeps_its_session():
    tokens = iter("abcd")
    sessions = Sessions(lambda: next(tokens))
    key = sessions.begin("reader", 0.0).key
    for day in range(1, 5):
        assert sessions.find(key, day * (IDLE_SECONDS - 1)) is not None


@pytest.mark.parametrize(
    ("path", "is_use"),
    [
        ("/activity/ACME_PRD?range=day", False),
        ("/activity", False),
        ("/events", False),
        ("/", True),
        ("/audit", True),
    ],
)
async def test_what_an_open_page_requests_by_itself_is_no_use_of_the_session(path: str, is_use: bool) -> None:
    token = "operator-token-of-a-test"
    access = Access(lambda: AccessTokens(Secret(token)), cast("LoginReports", None), local=False)
    before = asyncio.get_running_loop().time() - 100.0
    session = access.sessions.begin("operator", before, token)
    request = make_mocked_request("GET", path, headers={"Cookie": f"{COOKIE}={session.key}"})
    assert access.session(request) is session
    assert (session.seen_at > before) is is_use
