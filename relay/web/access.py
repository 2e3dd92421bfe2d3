"""This file is who may come in where: the headers of every answer, and the tokens of two roles.

The address that is listened on decides, not where a request comes from: off loopback a token is needed.
"""

import hmac
from dataclasses import dataclass
from typing import Literal

from aiohttp import web

from relay.ion.oauth import Secret
from relay.web.failures import Failures

Role = Literal["operator", "reader"]

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; "
    "img-src 'self' data:; connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
}
"""What every answer carries, whatever it is."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """What lets a caller in, by role. Both None: whoever reaches the address is the operator."""

    operator: Secret | None = None
    reader: Secret | None = None


class Access:
    """Tells callers' roles by the bearer tokens they show."""

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens
        self.failures = Failures()

    @property
    def open(self) -> bool:
        """Whether no token is asked for."""
        return self._tokens.operator is None and self._tokens.reader is None

    def role_of(self, token: str) -> Role | None:
        """The role that a token gives; compared in constant time."""
        given = token.encode()
        found: Role | None = None
        for role, secret in (("reader", self._tokens.reader), ("operator", self._tokens.operator)):
            if secret is not None and hmac.compare_digest(secret.reveal().encode(), given):
                found = "operator" if role == "operator" else "reader"
        return found

    def bearer(self, request: web.Request) -> Role | None:
        """The role of a caller that is a program: by its `Authorization: Bearer` header."""
        if self.open:
            return "operator"
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        return self.role_of(token.strip()) if scheme.lower() == "bearer" and token else None

    def refusal(self) -> web.Response:
        """To a program that shows no token, or a wrong one."""
        return web.Response(status=401, text="a token is needed\n", headers={"WWW-Authenticate": "Bearer"})


async def add_headers(_: web.Request, answer: web.StreamResponse) -> None:
    """Give an answer what every answer carries."""
    for name, value in HEADERS.items():
        answer.headers.setdefault(name, value)
    answer.headers.pop("Server", None)
