"""OAuth 1.0a signature checks of the simulator: two-legged, over the URL exactly as received.

RFC 5849 by way of oauthlib's signature functions. What ims-v3 leaves open is the simulator's choice: a
timestamp may be off by 300 s either way, and a nonce is valid once for a consumer key and timestamp.
"""

import hmac
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from oauthlib.oauth1.rfc5849 import signature


@dataclass(frozen=True, slots=True)
class _Secrets:
    """The secrets that oauthlib signs with: the consumer's, and no token's."""

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


class BadHeaderError(Exception):
    """The Authorization header cannot be read; the text says why."""


def read_parameters(authorization: str, url: str) -> list[tuple[str, str]]:
    """All parameters that are signed, of the header and the query, and the signature."""
    try:
        found: list[tuple[str, str]] = signature.collect_parameters(
            uri_query=urlsplit(url).query,
            headers={"Authorization": authorization},
            exclude_oauth_signature=False,
        )
    except ValueError as error:
        raise BadHeaderError(f"the Authorization header cannot be read: {error}") from error
    names = [name for name, _ in found if name.startswith("oauth_")]
    for name in names:
        if names.count(name) > 1:
            raise BadHeaderError(f"{name} is given twice")
    for name in _REQUIRED:
        if name not in names:
            raise BadHeaderError(f"{name} is missing")
    return found


class Signatures:
    """Checks signatures, and remembers nonces for as long as their timestamps are valid."""

    def __init__(self, window: float) -> None:
        self.window = window
        self._nonces: dict[int, set[int]] = {}

    def find_problem(
        self, method: str, url: str, found: list[tuple[str, str]], secret: str, now: float
    ) -> str | None:
        """What is wrong with a request with these parameters, or None. `now`: seconds since the epoch."""
        oauth = dict(found)
        if oauth.get("oauth_version", "1.0") != "1.0":
            return "oauth_version must be 1.0"
        if oauth.get("oauth_token"):
            return "oauth_token is given, but ION's OAuth 1.0a is two-legged: no token"
        if oauth["oauth_signature_method"] not in _METHODS:
            return f"oauth_signature_method must be one of {', '.join(_METHODS)}"
        stamp = oauth["oauth_timestamp"]
        if not (stamp.isascii() and stamp.isdigit() and len(stamp) <= 12):
            return "oauth_timestamp must be whole seconds since 1970"
        if abs(now - int(stamp)) > self.window:
            return f"oauth_timestamp is {now - int(stamp):.0f} s off, more than {self.window:.0f} s"
        wrong = _find_mismatch(method, url, found, oauth, secret)
        return wrong or self._find_replay(oauth["oauth_consumer_key"], int(stamp), oauth["oauth_nonce"], now)

    def _find_replay(self, key: str, stamp: int, nonce: str, now: float) -> str | None:
        used = self._nonces.get(stamp)
        if used is None:
            used = self._nonces[stamp] = set()
            for old in [old for old in self._nonces if now - old > self.window]:
                del self._nonces[old]
        mark = hash((key, nonce))  # 64 bits: a few hundred thousand nonces a second are far from colliding
        if mark in used:
            return "oauth_nonce was used before"
        used.add(mark)
        return None


def _find_mismatch(
    method: str, url: str, found: list[tuple[str, str]], oauth: dict[str, str], secret: str
) -> str | None:
    signed = [(name, value) for name, value in found if name != "oauth_signature"]
    normalized = signature.normalize_parameters(signed)  # type: ignore[arg-type]  # it takes pairs; the stub errs
    base = signature.signature_base_string(method, signature.base_string_uri(url), normalized)  # type: ignore[arg-type]
    right = _METHODS[oauth["oauth_signature_method"]](base, _Secrets(secret))
    if hmac.compare_digest(right.encode(), oauth["oauth_signature"].encode()):
        return None
    return f"the signature does not match; the signature base string here is {base}"
