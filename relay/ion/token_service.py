"""Requests of access tokens, and what the token service's answers say."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import backoff
from yarl import URL

from relay.core import answers
from relay.core.replies import NoReply, Reply, TokenRefused, TokenUnavailable
from relay.ion import oauth, response_bodies, server_times
from relay.ion.oauth import IonApi, Token
from relay.ion.tokens import NoToken, TokenResult
from relay.ion.transport import HttpResponse, Transport
from relay.ion.wire import one_line

_MAX_BODY = 64 * 1024
_MAX_SECONDS = 20.0
_EXPECTED = 'expected {"access_token": "…"}'

Request = Callable[[Awaitable[HttpResponse | NoReply]], Awaitable[HttpResponse | NoReply]]


class TokenService:
    """Of one tenant. `basic`: the client's credentials as HTTP Basic instead of in the form.

    `total`: seconds that a request may take. `metered`: measures each request.
    """

    def __init__(
        self,
        transport: Transport,
        user_agent: str,
        total: float,
        metered: Request,
        scope: str | None,
        *,
        basic: bool,
    ) -> None:
        self._transport, self._user_agent, self._metered = transport, user_agent, metered
        self._total, self._scope, self._basic = min(_MAX_SECONDS, total), scope, basic

    async def token(self, credentials: IonApi, mask: Callable[[str], str]) -> TokenResult | NoToken:
        """A new token, or why there is none. `mask`: takes secrets out of the service's words."""
        response = await self._request(oauth.token_request(credentials, basic=self._basic, scope=self._scope))
        if isinstance(response, NoReply):
            return TokenUnavailable(response.detail)
        token = oauth.read_token(response.body)
        is_fine = answers.is_fine(Reply(response.status))
        if is_fine and isinstance(token, Token):
            return token
        error = oauth.read_token_error(response.body, mask)
        said = response_bodies.read_answer(response.body, response.content_type or "", mask)
        if is_fine and not error.code and said.form != "html":
            return NoToken(f"{said.detail or token}; {_EXPECTED}")
        return _failure(response, error, said.detail)

    @backoff.on_predicate(
        backoff.expo,
        lambda response: isinstance(response, NoReply) or _is_server_error(response),
        max_tries=3,
        max_time=5,
        factor=0.3,
        logger=None,
    )
    async def _request(self, request: oauth.TokenRequest) -> HttpResponse | NoReply:
        """Short failures of the token service are retried here; lasting ones are left to the protocol."""
        url = URL(request.url, encoded=True)
        headers = {**request.headers, "User-Agent": self._user_agent, "Accept-Encoding": "identity"}
        posted = self._transport.post(url, headers, _MAX_BODY, request.form, self._total)
        return await self._metered(posted)


def _failure(response: HttpResponse, error: oauth.TokenError, page: str) -> TokenRefused | TokenUnavailable:
    """`page`: what the body says where it has no error of OAuth."""
    words = one_line(error.text) or page
    if not words and response.location is not None:
        words = response_bodies.describe_redirect(response.location)
    now = datetime.now(UTC)
    clock = server_times.describe_clock(server_times.clock_off(response.date, now))
    detail = f"HTTP {response.status}" + (f": {words}" if words else "") + clock
    wait = server_times.read_retry_after(response.retry_after, now, response.date)
    return answers.token_answer(response.status, detail, wait, error.code)


def _is_server_error(response: HttpResponse) -> bool:
    return answers.row_of(Reply(response.status)) is answers.BROKEN
