"""This file is how a caller that says it is ION is recognised: OAuth 1.0a, two-legged, each call once.

Pure: the time is handed in. RFC 5849 by way of oauthlib's signature functions; ION signs with the key that
the application issued for it (developer guide, "ION sends a message to an application"). How far clocks may
differ is not said there: `window` is a setting.
"""

import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlsplit

from oauthlib.oauth1.rfc5849 import signature

from relay.core.model import TenantId
from relay.ion.oauth import Secret

MOST_NONCES = 100_000
"""Calls within two windows that are remembered; beyond, calls are refused: a replay is never let in."""

_LONGEST = 250


@dataclass(frozen=True, slots=True)
class Key:
    """A consumer key that was issued for ION, and whose it is."""

    tenant_id: TenantId
    secret: Secret


@dataclass(frozen=True, slots=True)
class Call:
    """What was asked: `url` as the caller signed it, with scheme and host; the header as it came."""

    method: Literal["GET", "HEAD"]
    url: str
    authorization: str


@dataclass(frozen=True, slots=True)
class Refused:
    """Why a caller is not let in. `foreign`: its signature is right, but the tenant is another one."""

    why: Literal["nobody", "foreign", "crowd"]
    detail: str


@dataclass(frozen=True, slots=True)
class _Secrets:
    """What oauthlib signs with: the consumer's secret, and no token's."""

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

_NOBODY = Secret("so that an unknown key takes as long as a known one")

_Pairs = list[tuple[str, str]]


class InboundVerifier:
    """Lets ION in, and nobody else.

    `keys()`: those that hold now, by consumer key; `window`: seconds that two clocks may differ.
    """

    def __init__(self, keys: Callable[[], Mapping[str, Key]], window: float) -> None:
        self._keys, self._window = keys, window
        self._seen: dict[tuple[str, str, int], None] = {}

    def admit(self, call: Call, tenant: TenantId, now: float) -> Refused | None:
        """None: it is ION, and this is its tenant. `now`: seconds since 1970."""
        pairs = _pairs(call)
        if isinstance(pairs, Refused):
            return pairs
        oauth = dict(pairs)
        problem = _odd(oauth) or self._late(oauth["oauth_timestamp"], now)
        if problem is not None:
            return Refused("nobody", problem)
        key = self._keys().get(oauth["oauth_consumer_key"])
        if not _is_signed(call, pairs, oauth, key.secret if key is not None else _NOBODY) or key is None:
            return Refused("nobody", "the consumer key is unknown, or the signature is not its own")
        return self._again(oauth, now) or _elsewhere(key, tenant)

    def _late(self, stamp: str, now: float) -> str | None:
        if not (stamp.isascii() and stamp.isdigit() and len(stamp) <= 12):
            return "oauth_timestamp is not whole seconds since 1970"
        away = now - int(stamp)
        if abs(away) <= self._window:
            return None
        return f"oauth_timestamp is {abs(away):.0f} s {'old' if away > 0 else 'ahead'}; check both clocks"

    def _again(self, oauth: Mapping[str, str], now: float) -> Refused | None:
        """A nonce counts once for a key and a time (RFC 5849, section 3.3); forged calls don't come here."""
        mark = (oauth["oauth_consumer_key"], oauth["oauth_nonce"], int(oauth["oauth_timestamp"]))
        if mark in self._seen:
            return Refused("nobody", "this very call was made before")
        if len(self._seen) >= MOST_NONCES:
            self._forget(now)
        if len(self._seen) >= MOST_NONCES:
            return Refused("crowd", f"more than {MOST_NONCES} calls within {self._window:g} s")
        self._seen[mark] = None
        return None

    def _forget(self, now: float) -> None:
        """What is too old to be let in again."""
        self._seen = {mark: None for mark in self._seen if now - mark[2] <= self._window}


def _pairs(call: Call) -> _Pairs | Refused:
    """All parameters that take part, of the header and the query, the signature too."""
    if call.authorization[:6].lower() != "oauth ":
        return Refused("nobody", "there is no OAuth 1.0a signature in an Authorization header")
    try:
        found: _Pairs = signature.collect_parameters(
            uri_query=urlsplit(call.url).query,
            headers={"Authorization": call.authorization},
            exclude_oauth_signature=False,
        )
    except ValueError:
        return Refused("nobody", "the Authorization header or the query cannot be read")
    names = [name for name, _ in found if name.startswith("oauth_")]
    for name in names:
        if names.count(name) > 1:
            return Refused("nobody", "an oauth_ parameter is given twice")
    for name in _REQUIRED:
        if name not in names:
            return Refused("nobody", f"{name} is missing")
    return found


def _odd(oauth: Mapping[str, str]) -> str | None:
    if oauth.get("oauth_version", "1.0") != "1.0":
        return "oauth_version is not 1.0"
    if oauth.get("oauth_token"):
        return "oauth_token is given, but ION's calls are two-legged: no token"
    if oauth["oauth_signature_method"] not in _METHODS:
        return f"oauth_signature_method is not one of {', '.join(_METHODS)}"
    if not 1 <= len(oauth["oauth_nonce"]) <= _LONGEST:
        return f"oauth_nonce has not 1 to {_LONGEST} characters"
    return None


def _is_signed(call: Call, pairs: _Pairs, oauth: Mapping[str, str], secret: Secret) -> bool:
    signed = [pair for pair in pairs if pair[0] != "oauth_signature"]
    base = signature.signature_base_string(
        call.method,
        signature.base_string_uri(call.url),
        signature.normalize_parameters(signed),  # type: ignore[arg-type]  # the stub errs: it takes pairs
    )
    right = _METHODS[oauth["oauth_signature_method"]](base, _Secrets(secret.reveal()))
    return hmac.compare_digest(right.encode(), oauth["oauth_signature"].encode())


def _elsewhere(key: Key, tenant: TenantId) -> Refused | None:
    if key.tenant_id == tenant:
        return None
    return Refused("foreign", f"the consumer key is not that of tenant {tenant}")
