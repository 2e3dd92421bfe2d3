"""This file is who may come in where: tokens, sessions, forms of one's own, and the headers of every answer.

The address that is listened on decides, not where a request comes from: off loopback a token is needed.
"""

import asyncio
import hmac
import math
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from aiohttp import web

from relay.config import problems
from relay.ion.oauth import Secret
from relay.web.login_throttle import LoginThrottle
from relay.web.sessions import Role, Session, Sessions

COOKIE = "relay_session"
MARK = "mark"
"""The field of every form that says it is this session's own."""

SESSION = web.RequestKey("session", Session)

MAY_LEAVE = web.RequestKey("may_leave", bool)
"""Whether the session began with a token, and so may be ended."""

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; "
    "img-src 'self' data:; connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
}
"""What every answer carries, whatever it is."""

FORM_SECONDS = 10.0
"""A form has so long to come."""

_NOT_OWN = "the form is not of this session; load the page again\n"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Tokens:
    """What lets a caller in, by role. Both None: whoever reaches the address is the operator."""

    operator: Secret | None = None
    reader: Secret | None = None


class Access:
    """Tells callers' roles. `local`: only this machine reaches the address that is listened on."""

    def __init__(self, tokens: Tokens, *, local: bool) -> None:
        self._tokens, self._local = tokens, local
        self._failures = LoginThrottle()
        self.sessions = Sessions(lambda: secrets.token_urlsafe(32))

    @property
    def open(self) -> bool:
        """Whether no token is asked for."""
        return self._tokens.operator is None and self._tokens.reader is None

    # --- tokens -------------------------------------------------------------------------------------

    def role_of(self, token: str, caller: str) -> Role | None:
        """The role that a token gives, compared in constant time; none to who failed too often."""
        now = _now()
        if self.wait(caller):
            return None
        given, found = token.encode(errors="backslashreplace"), None
        if _is(self._tokens.reader, given):
            found = "reader"
        if _is(self._tokens.operator, given):
            found = "operator"
        if found is None:
            self._failures.failed(caller, now)
        return found  # type: ignore[return-value]  # one of the two, or None

    def wait(self, caller: str) -> float:
        """Seconds until the tokens of this caller are looked at again."""
        return self._failures.wait(caller, _now())

    def bearer(self, request: web.Request) -> Role | None:
        """The role of a program: by its `Authorization: Bearer` header, or by a browser's session."""
        if self.open:
            return "operator" if self.is_meant(request) else None
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "bearer" and token:
            return self.role_of(token.strip(), request.remote or "")
        session = self.session(request)
        return session.role if session is not None else None

    def refusal(self, request: web.Request) -> web.Response:
        """To a program that shows no token, or a wrong one."""
        wait = self.wait(request.remote or "")
        if wait:
            return _too_often(wait)
        return web.Response(status=401, text="a token is needed\n", headers={"WWW-Authenticate": "Bearer"})

    # --- browsers -----------------------------------------------------------------------------------

    def is_meant(self, request: web.Request) -> bool:
        """Whether the host that is asked for can be this one: a page of another name must not reach in.

        Where a token is asked for, such a page has no session of its name, and a proxy may pass on any.
        """
        if not self._local or not self.open:
            return True
        try:
            return problems.is_loopback(request.host)
        except ValueError:  # no host at all
            return False

    def session(self, request: web.Request) -> Session | None:
        """The browser's session, if it has one."""
        return self.sessions.find(request.cookies.get(COOKIE, ""), _now())

    def guarded(self, handler: Handler, needed: Role = "operator") -> Handler:
        """A session first; for whatever changes something its own form, and the role that is `needed`."""

        async def answer(request: web.Request) -> web.StreamResponse:
            self.require_meant(request)
            session = self.session(request)
            is_new = session is None and self.open and request.method in ("GET", "HEAD")
            if is_new:
                session = self.sessions.begin("operator", _now())
            if session is None and self.open:
                raise web.HTTPForbidden(text=_NOT_OWN)
            if session is None:
                raise web.HTTPSeeOther("/login")
            request[SESSION], request[MAY_LEAVE] = session, not self.open
            if request.method not in ("GET", "HEAD"):
                await _require_own_form(request, session)
                if needed == "operator" and session.role != "operator":
                    raise web.HTTPForbidden(text="this needs an operator's token\n")
            response = await handler(request)
            if is_new and not response.prepared:
                remember(response, session, request)
            return response

        return answer

    def require_meant(self, request: web.Request) -> None:
        """Refuse what was asked of another host."""
        if not self.is_meant(request):
            raise web.HTTPMisdirectedRequest(text="this is not the host that was asked for")


async def read_form(request: web.Request) -> Mapping[str, object]:
    """What a form says; who sends it too slowly is turned away."""
    try:
        async with asyncio.timeout(FORM_SECONDS):
            return await request.post()
    except TimeoutError:
        raise web.HTTPRequestTimeout(text="the form did not come to its end\n") from None
    except (web.RequestPayloadError, LookupError, ValueError):  # neither fields nor text
        raise web.HTTPBadRequest(text="the form cannot be read\n") from None


async def _require_own_form(request: web.Request, session: Session) -> None:
    if request.headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none"):
        raise web.HTTPForbidden(text="the form came from another site\n")
    origin = request.headers.get("Origin")
    if origin is not None and origin.partition("://")[2] != request.host:
        raise web.HTTPForbidden(text="the form came from another site\n")
    mark = (await read_form(request)).get(MARK)
    if not isinstance(mark, str) or not session.sent(mark):
        raise web.HTTPForbidden(text=_NOT_OWN)


def remember(answer: web.StreamResponse, session: Session, request: web.Request) -> None:
    """Give the browser its cookie; one for https alone where a proxy says that the browser came by it."""
    is_secure = request.headers.get("X-Forwarded-Proto", request.scheme) == "https"
    answer.set_cookie(COOKIE, session.key, httponly=True, samesite="Strict", path="/", secure=is_secure)


async def add_headers(_: web.Request, answer: web.StreamResponse) -> None:
    """Give an answer what every answer carries."""
    for name, value in HEADERS.items():
        answer.headers.setdefault(name, value)
    answer.headers.pop("Server", None)


def _too_often(wait: float) -> web.Response:
    headers = {"Retry-After": str(math.ceil(wait))}
    return web.Response(status=429, text="too many wrong tokens; wait\n", headers=headers)


def _is(secret: Secret | None, given: bytes) -> bool:
    return secret is not None and hmac.compare_digest(secret.reveal().encode(), given)


def _now() -> float:
    return asyncio.get_running_loop().time()
