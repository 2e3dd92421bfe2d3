"""Token service of the simulator's gateway: OAuth 2 grants, expiry, revocation."""

import base64
import binascii
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from urllib.parse import parse_qsl, unquote_plus

from relay.sandbox.responses import Response, fail_oauth, succeed
from relay.sandbox.tenants import SandboxTenant

_MAX_TOKENS = 100_000
"""Maximum number of tokens kept; older ones are unknown."""


@dataclass(slots=True)
class Grant:
    """A token's tenant and expiry (monotonic seconds).

    `revoked_for_posts`: ping, versions and acceptedDocuments still accept it, as where they are not checked.
    """

    tenant: SandboxTenant
    expires: float
    revoked: bool = False
    revoked_for_posts: bool = False


class Tokens:
    """All bearer tokens that were issued. `now` is always monotonic seconds."""

    def __init__(self) -> None:
        self._grants: dict[str, Grant] = {}
        self.issued: dict[str, int] = {}

    def issue(self, tenant: SandboxTenant, now: float) -> str:
        """Issue a new token for the tenant."""
        if len(self._grants) >= _MAX_TOKENS:
            del self._grants[next(iter(self._grants))]
        token = secrets.token_urlsafe(32)
        self._grants[token] = Grant(tenant, now + tenant.token_seconds)
        self.issued[tenant.tenant_id] = self.issued.get(tenant.tenant_id, 0) + 1
        return token

    def holder(self, token: str, call: str, now: float) -> tuple[SandboxTenant | None, str | None]:
        """The tenant of a token (also of one that is no longer valid), and what is wrong with it."""
        grant = self._grants.get(token)
        if grant is None:
            return None, "the bearer token is unknown"
        if grant.revoked or (grant.revoked_for_posts and call == "post"):
            return grant.tenant, "the bearer token was revoked"
        return grant.tenant, "the bearer token has expired" if now >= grant.expires else None

    def expire(self, tenant: SandboxTenant, now: float) -> None:
        """Expire all of the tenant's tokens now."""
        for grant in self._grants.values():
            if grant.tenant is tenant:
                grant.expires = min(grant.expires, now)

    def revoke(self, tenant: SandboxTenant, token: str | None = None) -> None:
        """Revoke one of the tenant's tokens, or all."""
        for text, grant in self._grants.items():
            if grant.tenant is tenant and token in {None, text}:
                grant.revoked = True

    def revoke_for_posts(self, tenant: SandboxTenant) -> None:
        """Revoke all of the tenant's tokens where posts check them, and only there."""
        for grant in self._grants.values():
            if grant.tenant is tenant:
                grant.revoked_for_posts = True

    # --- the endpoints ---------------------------------------------------------------------------

    def token(self, tenant: SandboxTenant, headers: Mapping[str, str], body: bytes, now: float) -> Response:
        """Respond to a token request: the grants `password` and `client_credentials`."""
        form = _read_form(headers, body)
        if isinstance(form, Response):
            return form
        if refusal := _check_client(tenant, headers, form):
            return refusal
        if refusal := _check_grant(tenant, form):
            return refusal
        life = max(1, int(tenant.token_seconds))
        response = succeed(
            {"access_token": self.issue(tenant, now), "token_type": "Bearer", "expires_in": life}
        )
        return replace(response, headers={"Cache-Control": "no-store", "Pragma": "no-cache"})

    def revocation(self, tenant: SandboxTenant, headers: Mapping[str, str], body: bytes) -> Response:
        """Respond to a revocation request (RFC 7009): a success, also for an unknown token."""
        form = _read_form(headers, body)
        if isinstance(form, Response):
            return form
        if refusal := _check_client(tenant, headers, form):
            return refusal
        if not form.get("token"):
            return fail_oauth(400, "invalid_request", "token is missing")
        self.revoke(tenant, form["token"])
        return Response(200, b"", 200)


def _read_form(headers: Mapping[str, str], body: bytes) -> dict[str, str] | Response:
    kind = headers.get("Content-Type", "").split(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        return fail_oauth(400, "invalid_request", "send a form: application/x-www-form-urlencoded")
    try:
        pairs = parse_qsl(body.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=100)
    except ValueError:
        return fail_oauth(400, "invalid_request", "the form cannot be read")
    if len({name for name, _ in pairs}) != len(pairs):
        return fail_oauth(400, "invalid_request", "a parameter is given twice")
    return dict(pairs)


def _check_grant(tenant: SandboxTenant, form: dict[str, str]) -> Response | None:
    match form.get("grant_type"):
        case "client_credentials":
            return None
        case "password":
            right = tenant.credentials
            if _is_same(form.get("username"), right.username) and _is_same(
                form.get("password"), right.password
            ):
                return None
            return fail_oauth(400, "invalid_grant", "username or password are not the service account's")
        case None:
            return fail_oauth(400, "invalid_request", "grant_type is missing")
        case other:
            return fail_oauth(400, "unsupported_grant_type", f"{other[:80]} is not supported")


def _check_client(tenant: SandboxTenant, headers: Mapping[str, str], form: dict[str, str]) -> Response | None:
    authorization = headers.get("Authorization")
    if authorization is None:
        given = form.get("client_id"), form.get("client_secret")
    elif "client_secret" in form:
        return fail_oauth(400, "invalid_request", "client credentials are given twice: header and form")
    else:
        given = _read_basic(authorization)
    right = tenant.credentials
    if _is_same(given[0], right.client_id) and _is_same(given[1], right.client_secret):
        return None
    return fail_oauth(401, "invalid_client", "client id or secret are wrong")


def _read_basic(authorization: str) -> tuple[str | None, str | None]:
    """Client id and secret, form-encoded as RFC 6749 requires, or unencoded as most clients send them."""
    scheme, _, value = authorization.partition(" ")
    if scheme.lower() != "basic":
        return None, None
    try:
        text = base64.b64decode(value.strip(), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return None, None
    client, colon, secret = text.partition(":")
    return (unquote_plus(client), unquote_plus(secret)) if colon and "%" in text else (client, secret)


def _is_same(given: str | None, right: str) -> bool:
    return given is not None and secrets.compare_digest(given.encode(), right.encode())
