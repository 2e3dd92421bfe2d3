"""Verification of the calls that ION makes to the relay: OAuth 1.0a, two-legged, with replay protection.

Pure: the time is an argument. RFC 5849 with oauthlib's signature functions; ION signs with the key that the
application issued for it (developer guide, "ION sends a message to an application"). The guide does not say
how far clocks may differ: `window` is a setting.
"""

import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlsplit

from oauthlib.oauth1.rfc5849 import signature

from relay.core.model import TenantId
from relay.ion.oauth import Secret

MAX_NONCES = 100_000
"""Calls remembered within two windows. Beyond that, calls are refused: a replay must never be accepted."""

_MAX_NONCE_LENGTH = 250


@dataclass(frozen=True, slots=True)
class Key:
    """The tenant and the consumer secret of a consumer key that was issued for ION."""

    tenant_id: TenantId
    secret: Secret


@dataclass(frozen=True, slots=True)
class SignedRequest:
    """`url`: as the caller signed it, with scheme and host. `authorization`: the header as received."""

    method: Literal["GET", "HEAD"]
    url: str
    authorization: str


RefusalReason = Literal["unauthenticated", "wrong-tenant", "too-many-calls"]
"""`wrong-tenant`: the signature is valid, but the key is another tenant's."""


@dataclass(frozen=True, slots=True)
class Refused:
    """Why a call is refused; `detail` is for the caller and the log."""

    why: RefusalReason
    detail: str


@dataclass(frozen=True, slots=True)
class _SigningSecrets:
    """What oauthlib signs with: the consumer's secret, and no token secret."""

    client_secret: str
    resource_owner_secret: str = ""


_METHODS: dict[str, Callable[[str, Any], str]] = {
    "HMAC-SHA256": signature.sign_hmac_sha256_with_client,
    "HMAC-SHA1": signature.sign_hmac_sha1_with_client,
}
_REQUIRED = (
    "oauth_consumer_key",
    "oauth_signature_method",
    "oauth_signature",
    "oauth_timestamp",
    "oauth_nonce",
)

_UNREADABLE = "the Authorization header or the query cannot be read"
_DUMMY_SECRET = Secret("so that an unknown key takes as long as a known one")

_Parameters = list[tuple[str, str]]


class InboundVerifier:
    """Accepts ION's calls, and refuses all others.

    `keys()`: the current ones, by consumer key. `window`: seconds that the two clocks may differ.
    """

    def __init__(self, keys: Callable[[], Mapping[str, Key]], window: float) -> None:
        self._keys, self._window = keys, window
        self._nonces: dict[tuple[str, str, int], None] = {}

    def verify(self, request: SignedRequest, tenant: TenantId, now: float) -> Refused | None:
        """None: ION made this call, for this tenant. `now`: seconds since 1970."""
        parameters = _collect_parameters(request)
        if isinstance(parameters, Refused):
            return parameters
        oauth = dict(parameters)
        problem = _protocol_problem(oauth) or self._timestamp_problem(oauth["oauth_timestamp"], now)
        if problem is not None:
            return Refused("unauthenticated", problem)
        key = self._keys().get(oauth["oauth_consumer_key"])
        secret = key.secret if key is not None else _DUMMY_SECRET
        try:
            is_signed = _is_signed(request, parameters, oauth, secret)
        except ValueError:  # bytes that are no text
            return Refused("unauthenticated", _UNREADABLE)
        if not is_signed or key is None:
            return Refused(
                "unauthenticated", "the consumer key is unknown, or the signature is not valid for it"
            )
        return self._use_nonce(oauth, now) or _tenant_refusal(key, tenant)

    def _timestamp_problem(self, timestamp: str, now: float) -> str | None:
        if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) <= 12):
            return "oauth_timestamp is not whole seconds since 1970"
        age = now - int(timestamp)
        if abs(age) <= self._window:
            return None
        direction = "in the past" if age > 0 else "in the future"
        return f"oauth_timestamp is {abs(age):.0f} s {direction}; check both clocks"

    def _use_nonce(self, oauth: Mapping[str, str], now: float) -> Refused | None:
        """A nonce is valid once for a key and a timestamp (RFC 5849, 3.3). Forged calls do not use it up."""
        nonce = (oauth["oauth_consumer_key"], oauth["oauth_nonce"], int(oauth["oauth_timestamp"]))
        if nonce in self._nonces:
            return Refused("unauthenticated", "this call was made before: its nonce is used")
        if len(self._nonces) >= MAX_NONCES:
            self._remove_expired(now)
        if len(self._nonces) >= MAX_NONCES:
            return Refused("too-many-calls", f"more than {MAX_NONCES} calls within {self._window:g} s")
        self._nonces[nonce] = None
        return None

    def _remove_expired(self, now: float) -> None:
        """Their timestamps are refused anyway."""
        self._nonces = {nonce: None for nonce in self._nonces if now - nonce[2] <= self._window}


def _collect_parameters(request: SignedRequest) -> _Parameters | Refused:
    """All signed parameters, of the header and the query, and the signature."""
    if request.authorization[:6].lower() != "oauth ":
        return Refused("unauthenticated", "there is no OAuth 1.0a signature in an Authorization header")
    try:
        found: _Parameters = signature.collect_parameters(
            uri_query=urlsplit(request.url).query,
            headers={"Authorization": request.authorization},
            exclude_oauth_signature=False,
        )
    except ValueError:
        return Refused("unauthenticated", _UNREADABLE)
    names = [name for name, _ in found if name.startswith("oauth_")]
    for name in names:
        if names.count(name) > 1:
            return Refused("unauthenticated", "an oauth_ parameter is given twice")
    for name in _REQUIRED:
        if name not in names:
            return Refused("unauthenticated", f"{name} is missing")
    return found


def _protocol_problem(oauth: Mapping[str, str]) -> str | None:
    if oauth.get("oauth_version", "1.0") != "1.0":
        return "oauth_version is not 1.0"
    if oauth.get("oauth_token"):
        return "oauth_token is given, but ION's calls are two-legged: no token"
    if oauth["oauth_signature_method"] not in _METHODS:
        return f"oauth_signature_method is not one of {', '.join(_METHODS)}"
    if not 1 <= len(oauth["oauth_nonce"]) <= _MAX_NONCE_LENGTH:
        return f"oauth_nonce does not have 1 to {_MAX_NONCE_LENGTH} characters"
    return None


def _is_signed(
    request: SignedRequest, parameters: _Parameters, oauth: Mapping[str, str], secret: Secret
) -> bool:
    signed = [pair for pair in parameters if pair[0] != "oauth_signature"]
    base = signature.signature_base_string(
        request.method,
        signature.base_string_uri(request.url),
        signature.normalize_parameters(signed),  # type: ignore[arg-type]  # the stub errs: it takes pairs
    )
    expected = _METHODS[oauth["oauth_signature_method"]](base, _SigningSecrets(secret.reveal()))
    return hmac.compare_digest(expected.encode(), oauth["oauth_signature"].encode())


def _tenant_refusal(key: Key, tenant: TenantId) -> Refused | None:
    if key.tenant_id == tenant:
        return None
    return Refused("wrong-tenant", f"the consumer key is not that of tenant {tenant}")
