"""Access control: tokens, sessions, forms against forgery, and the security headers of every response.

The listening address decides, not the address of the caller: beyond loopback a token is required.
"""

import asyncio
import hmac
import math
import re
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from urllib.parse import quote

from aiohttp import web

from relay.config import problems
from relay.ion.oauth import Secret
from relay.web.login_reports import LoginReports
from relay.web.login_throttle import LoginThrottle
from relay.web.sessions import Role, Session, Sessions

COOKIE = "relay_session"
MARK = "mark"
"""The field of every form that holds the session's anti-forgery token."""

SESSION = web.RequestKey("session", Session)

MAY_LEAVE = web.RequestKey("may_leave", bool)
"""Whether the session began with a token, so that the operator can sign out."""

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; "
    "img-src 'self' data:; connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
}
"""The headers of every response."""

FORM_SECONDS = 10.0
"""The time in which a form must arrive."""

_LOCAL_PATH = re.compile(r"/(?!/)[A-Za-z0-9._~!$&'()*+,;=:@%/?-]{0,2000}")
_FORM_TYPE = "application/x-www-form-urlencoded"
_AUTOMATIC = ("/activity", "/events")
"""What an open page requests automatically: that is no use of the session."""

_NOT_OWN = "the form does not belong to this session; reload the page\n"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class AccessTokens:
    """The tokens by role. Both None: whoever reaches the address is an operator."""

    operator: Secret | None = None
    reader: Secret | None = None

    def role_of(self, token: str) -> Role | None:
        """The role of this token, compared in constant time; None: it is wrong."""
        given = token.encode(errors="backslashreplace")
        is_reader, is_operator = _matches(self.reader, given), _matches(self.operator, given)
        return "operator" if is_operator else "reader" if is_reader else None


def _matches(secret: Secret | None, given: bytes) -> bool:
    return secret is not None and hmac.compare_digest(secret.reveal().encode(), given)


class Access:
    """Determines the role of a caller. `local`: only this machine reaches the listening address.

    `tokens()`: those in effect.
    """

    def __init__(self, tokens: Callable[[], AccessTokens], reports: LoginReports, *, local: bool) -> None:
        self._tokens, self._reports, self._local = tokens, reports, local
        self._failures = LoginThrottle()
        self.sessions = Sessions(lambda: secrets.token_urlsafe(32))

    @property
    def open(self) -> bool:
        """Whether no token is required."""
        return self._tokens() == AccessTokens()

    # --- tokens -------------------------------------------------------------------------------------

    def role_of(self, token: str, caller: str) -> Role | None:
        """The role of a token, compared in constant time. A right one counts however many were wrong."""
        found = self._tokens().role_of(token)
        if found is None:
            self._failures.failed(caller, _now())
            self._reports.refused(caller, is_blocked=self.wait(caller) > 0)
        return found

    def wait(self, caller: str) -> float:
        """Seconds until a wrong token of this caller is answered as such again."""
        return self._failures.wait(caller, _now())

    def bearer(self, request: web.Request) -> Role | None:
        """The role of an API client: by its `Authorization: Bearer` header, or by a browser's session."""
        if self.open:
            return "operator" if self.is_own_host(request) else None
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "bearer" and token:
            return self.role_of(token.strip(), request.remote or "")
        session = self.session(request)
        return session.role if session is not None else None

    def is_known(self, request: web.Request) -> bool:
        """Whether details may be shown: the caller gave a token, or none is required; none is no failure."""
        has_token = "Authorization" in request.headers or COOKIE in request.cookies
        return (self.open or has_token) and self.bearer(request) is not None

    def refusal(self, request: web.Request) -> web.Response:
        """The response to an API client without a token, or with a wrong one."""
        wait = self.wait(request.remote or "")
        if wait:
            return _too_many_failures(wait)
        return web.Response(status=401, text="a token is required\n", headers={"WWW-Authenticate": "Bearer"})

    # --- browsers -----------------------------------------------------------------------------------

    def is_own_host(self, request: web.Request) -> bool:
        """Whether the requested host can be this one: protection against DNS rebinding.

        Where a token is required, a page of another host has no session, and a proxy may use any host name.
        """
        if not self._local or not self.open:
            return True
        try:
            return problems.is_loopback(request.host)
        except ValueError:  # no host is given
            return False

    def sign_in(self, token: str, caller: str) -> Session | None:
        """A session of the token's role; None: the token is wrong."""
        role = self.role_of(token, caller)
        if role is None:
            return None
        self._reports.signed_in(role, caller)
        return self.sessions.begin(role, _now(), token)

    def sign_out(self, request: web.Request) -> None:
        """End the browser's session."""
        session = self.session(request)
        if session is not None:
            self.sessions.end(session.key)
            self._reports.signed_out(session.role, request.remote or "")

    def session(self, request: web.Request) -> Session | None:
        """The browser's session, if there is one."""
        is_use = not request.path.startswith(_AUTOMATIC)
        session = self.sessions.find(request.cookies.get(COOKIE, ""), _now(), is_use=is_use)
        return session if session is not None and self.is_valid(session) else None

    def is_valid(self, session: Session) -> bool:
        """Whether it has not ended: by signing out, by its age, or because its token was replaced."""
        if not self.open and self._tokens().role_of(session.token) != session.role:
            self.sessions.end(session.key)
        return self.sessions.holds(session, _now())

    def guarded(self, handler: Handler, needed: Role = "operator") -> Handler:
        """Require a session; to change something also a form of this session, and the role `needed`."""

        async def answer(request: web.Request) -> web.StreamResponse:
            self.require_own_host(request)
            session = self.session(request)
            is_new = session is None and self.open and request.method in ("GET", "HEAD")
            if is_new:
                session = self.sessions.begin("operator", _now())
            if session is None and self.open:
                raise web.HTTPForbidden(text=_NOT_OWN)
            if session is None:
                raise web.HTTPSeeOther(_login_for(request))
            request[SESSION], request[MAY_LEAVE] = session, not self.open
            if request.method not in ("GET", "HEAD"):
                await _require_own_form(request, session)
                if needed == "operator" and session.role != "operator":
                    raise web.HTTPForbidden(text="this requires an operator's token\n")
            response = await handler(request)
            if is_new and not response.prepared:
                set_session_cookie(response, session, request)
            return response

        return answer

    def require_own_host(self, request: web.Request) -> None:
        """Refuse a request for another host."""
        if not self.is_own_host(request):
            raise web.HTTPMisdirectedRequest(text="this is not the requested host")


def local_path(text: str) -> str:
    """The path of a page of this relay, as a login keeps it; the first page for anything else."""
    is_local = _LOCAL_PATH.fullmatch(text) is not None and not text.startswith("/login")
    return text if is_local else "/"


def _login_for(request: web.Request) -> str:
    """The login that leads to the page afterwards: that of the form, where a form was sent."""
    wanted = request.raw_path if request.method in ("GET", "HEAD") else ""
    path = local_path(wanted)
    return "/login" if path == "/" else f"/login?to={quote(path, safe='/')}"


async def read_form(request: web.Request) -> Mapping[str, object]:
    """The fields of a form, as browsers send it; one that arrives too slowly is refused."""
    if request.content_type != _FORM_TYPE:
        raise web.HTTPUnsupportedMediaType(text=f"send the form as {_FORM_TYPE}\n")
    try:
        async with asyncio.timeout(FORM_SECONDS):
            return await request.post()
    except TimeoutError:
        raise web.HTTPRequestTimeout(text="the form was incomplete\n") from None
    except (web.RequestPayloadError, LookupError, ValueError):  # not a form
        raise web.HTTPBadRequest(text="the form cannot be read\n") from None


def require_own_site(request: web.Request) -> None:
    """Refuse what a page of another site sent, also a login: its session would be somebody else's."""
    if request.headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none"):
        raise web.HTTPForbidden(text="the form came from another site\n")
    origin = request.headers.get("Origin")
    if origin is not None and origin.partition("://")[2] != request.host:
        raise web.HTTPForbidden(text="the form came from another site\n")


async def _require_own_form(request: web.Request, session: Session) -> None:
    require_own_site(request)
    mark = (await read_form(request)).get(MARK)
    if not isinstance(mark, str) or not session.sent(mark):
        raise web.HTTPForbidden(text=_NOT_OWN)


def set_session_cookie(answer: web.StreamResponse, session: Session, request: web.Request) -> None:
    """Set the session cookie; `Secure` where a proxy reports that the browser used https."""
    is_secure = request.headers.get("X-Forwarded-Proto", request.scheme) == "https"
    answer.set_cookie(COOKIE, session.key, httponly=True, samesite="Strict", path="/", secure=is_secure)


async def add_headers(_: web.Request, answer: web.StreamResponse) -> None:
    """Add the security headers to a response."""
    for name, value in HEADERS.items():
        answer.headers.setdefault(name, value)
    answer.headers.pop("Server", None)


def _too_many_failures(wait: float) -> web.Response:
    headers = {"Retry-After": str(math.ceil(wait))}
    return web.Response(status=429, text="too many wrong tokens; retry later\n", headers=headers)


def _now() -> float:
    return asyncio.get_running_loop().time()
