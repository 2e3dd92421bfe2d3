"""This file is the token service of the simulator's gateway: OAuth 2 grants, expiry, revocation."""

import base64
import binascii
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from urllib.parse import parse_qsl, unquote_plus

from relay.sandbox.responses import Reply, oauth_error, ok
from relay.sandbox.tenants import SandboxTenant

_MOST = 100_000
"""Tokens kept; beyond, the oldest are forgotten and read as unknown."""


@dataclass(slots=True)
class Grant:
    """A token's holder and its end (monotonic seconds)."""

    tenant: SandboxTenant
    ends: float
    revoked: bool = False


class Tokens:
    """All bearer tokens that were issued. `now` is a monotonic clock's seconds."""

    def __init__(self) -> None:
        self._grants: dict[str, Grant] = {}
        self.issued: dict[str, int] = {}

    def issue(self, tenant: SandboxTenant, now: float) -> str:
        """A new token for the tenant."""
        if len(self._grants) >= _MOST:
            del self._grants[next(iter(self._grants))]
        token = secrets.token_urlsafe(32)
        self._grants[token] = Grant(tenant, now + tenant.token_seconds)
        self.issued[tenant.tenant_id] = self.issued.get(tenant.tenant_id, 0) + 1
        return token

    def holder(self, token: str, now: float) -> tuple[SandboxTenant | None, str | None]:
        """Whose token it is (known also when it is no longer good), and what is wrong with it."""
        grant = self._grants.get(token)
        if grant is None:
            return None, "the bearer token is not known"
        if grant.revoked:
            return grant.tenant, "the bearer token was revoked"
        return grant.tenant, "the bearer token has expired" if now >= grant.ends else None

    def expire(self, tenant: SandboxTenant, now: float) -> None:
        """All of the tenant's tokens are over now."""
        for grant in self._grants.values():
            if grant.tenant is tenant:
                grant.ends = min(grant.ends, now)

    def revoke(self, tenant: SandboxTenant, token: str | None = None) -> None:
        """Revoke one of the tenant's tokens, or all."""
        for text, grant in self._grants.items():
            if grant.tenant is tenant and token in {None, text}:
                grant.revoked = True

    # --- the endpoints ---------------------------------------------------------------------------

    def token(self, tenant: SandboxTenant, headers: Mapping[str, str], body: bytes, now: float) -> Reply:
        """Answer a token request: the grants `password` and `client_credentials`."""
        form = _form(headers, body)
        if isinstance(form, Reply):
            return form
        if wrong := _client_problem(tenant, headers, form):
            return wrong
        if wrong := _grant_problem(tenant, form):
            return wrong
        life = max(1, int(tenant.token_seconds))
        reply = ok({"access_token": self.issue(tenant, now), "token_type": "Bearer", "expires_in": life})
        return replace(reply, headers={"Cache-Control": "no-store", "Pragma": "no-cache"})

    def revocation(self, tenant: SandboxTenant, headers: Mapping[str, str], body: bytes) -> Reply:
        """Answer a revocation request (RFC 7009): fine, also for a token that is not known."""
        form = _form(headers, body)
        if isinstance(form, Reply):
            return form
        if wrong := _client_problem(tenant, headers, form):
            return wrong
        if not form.get("token"):
            return oauth_error(400, "invalid_request", "token is missing")
        self.revoke(tenant, form["token"])
        return Reply(200, b"", 200)


def _form(headers: Mapping[str, str], body: bytes) -> dict[str, str] | Reply:
    kind = headers.get("Content-Type", "").split(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        return oauth_error(400, "invalid_request", "send a form: application/x-www-form-urlencoded")
    try:
        pairs = parse_qsl(body.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=100)
    except ValueError:
        return oauth_error(400, "invalid_request", "the form cannot be read")
    if len({name for name, _ in pairs}) != len(pairs):
        return oauth_error(400, "invalid_request", "a parameter is given twice")
    return dict(pairs)


def _grant_problem(tenant: SandboxTenant, form: dict[str, str]) -> Reply | None:
    match form.get("grant_type"):
        case "client_credentials":
            return None
        case "password":
            right = tenant.credentials
            if _same(form.get("username"), right.username) and _same(form.get("password"), right.password):
                return None
            return oauth_error(400, "invalid_grant", "username or password are not the service account's")
        case None:
            return oauth_error(400, "invalid_request", "grant_type is missing")
        case other:
            return oauth_error(400, "unsupported_grant_type", f"{other[:80]} is not offered")


def _client_problem(tenant: SandboxTenant, headers: Mapping[str, str], form: dict[str, str]) -> Reply | None:
    authorization = headers.get("Authorization")
    if authorization is None:
        given = form.get("client_id"), form.get("client_secret")
    elif "client_secret" in form:
        return oauth_error(400, "invalid_request", "client credentials are given twice: header and form")
    else:
        given = _basic(authorization)
    right = tenant.credentials
    if _same(given[0], right.client_id) and _same(given[1], right.client_secret):
        return None
    return oauth_error(401, "invalid_client", "client id or secret are wrong")


def _basic(authorization: str) -> tuple[str | None, str | None]:
    """Both as RFC 6749 wants them (form-encoded) and as most clients send them (as they are)."""
    scheme, _, value = authorization.partition(" ")
    if scheme.lower() != "basic":
        return None, None
    try:
        text = base64.b64decode(value.strip(), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return None, None
    client, colon, secret = text.partition(":")
    return (unquote_plus(client), unquote_plus(secret)) if colon and "%" in text else (client, secret)


def _same(given: str | None, right: str) -> bool:
    return given is not None and secrets.compare_digest(given.encode(), right.encode())
