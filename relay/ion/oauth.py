"""This file is what proves to ION who we are: signatures, token requests, when a token is too old.

Pure: nonce, time and file contents are handed in. OAuth 1.0a two-legged (RFC 5849) for ION reached
directly, OAuth 2 (RFC 6749) from an `.ionapi` file for the API gateway.
"""

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any, Literal, NoReturn
from urllib.parse import urlsplit

from oauthlib.oauth1.rfc5849.signature import (
    base_string_uri,
    collect_parameters,
    normalize_parameters,
    signature_base_string,
)
from oauthlib.oauth1.rfc5849.utils import escape
from oauthlib.oauth2 import BackendApplicationClient, LegacyApplicationClient


class CredentialError(Exception):
    """Credentials cannot be read or are not usable. The text says which, why, and the mend; no secret."""


class Secret:
    """A text that cannot be printed by accident; `reveal()` where it is used."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The text itself: for the wire, never for a log."""
        return self._text

    def __str__(self) -> str:
        return "***"

    def __repr__(self) -> str:
        return "***"

    def __format__(self, _: str) -> str:
        return "***"

    def __bool__(self) -> bool:
        return bool(self._text)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self._text.encode(), other._text.encode())

    def __hash__(self) -> int:
        return hash(self._text)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not pickled")


# --- OAuth 1.0a -----------------------------------------------------------------------------------

SignatureMethod = Literal["HMAC-SHA256", "HMAC-SHA1"]
_DIGESTS = {"HMAC-SHA256": hashlib.sha256, "HMAC-SHA1": hashlib.sha1}


@dataclass(frozen=True, slots=True)
class OAuth1Keys:
    """The consumer key and secret that ION issued for this application."""

    consumer_key: str
    consumer_secret: Secret
    method: SignatureMethod = "HMAC-SHA256"


class Signer:
    """Signs requests of one method to one URL; what is the same in all of them is hashed once.

    The URL's path is signed as it is sent, percent-escapes included; the body is never signed. The base
    string is oauthlib's; only the nonce and the time are put into their places here.
    """

    def __init__(self, keys: OAuth1Keys, http_method: Literal["GET", "POST"], url: str) -> None:
        holes = {"oauth_nonce": "nonce-goes-here", "oauth_timestamp": "timestamp-goes-here"}
        fixed = {
            "oauth_version": "1.0",
            "oauth_signature_method": keys.method,
            "oauth_consumer_key": keys.consumer_key,
        }
        query = collect_parameters(uri_query=urlsplit(url).query)
        pairs = [*query, *fixed.items(), *holes.items()]
        normalized = normalize_parameters(pairs)  # type: ignore[arg-type]  # the stub errs: it takes pairs
        base_string = signature_base_string(http_method, base_string_uri(url), normalized)
        begin, rest = _cut(base_string, "oauth_nonce%3D", holes["oauth_nonce"])
        self._between, self._end = _cut(rest, "oauth_timestamp%3D", holes["oauth_timestamp"])
        key = f"{escape(keys.consumer_secret.reveal())}&"
        self._begun = hmac.new(key.encode(), begin.encode(), _DIGESTS[keys.method])
        self._header = ", ".join(f'{name}="{escape(value)}"' for name, value in fixed.items())

    def header(self, nonce: str, timestamp: int) -> str:
        """The `Authorization` header. `nonce`: letters and digits; `timestamp`: seconds since 1970."""
        signature = self.signature(nonce, timestamp)
        escaped = signature.replace("+", "%2B").replace("/", "%2F").replace("=", "%3D")
        return (
            f'OAuth {self._header}, oauth_nonce="{nonce}", oauth_timestamp="{timestamp}", '
            f'oauth_signature="{escaped}"'
        )

    def signature(self, nonce: str, timestamp: int) -> str:
        """The signature alone, in base64."""
        whole = self._begun.copy()
        whole.update(f"{nonce}{self._between}{timestamp}{self._end}".encode())
        return base64.b64encode(whole.digest()).decode("ascii")


def _cut(text: str, name: str, hole: str) -> tuple[str, str]:
    before, _, after = text.partition(name + hole)
    return before + name, after


# --- OAuth 2 --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class IonApi:
    """An `.ionapi` file, as far as the relay needs it. Without an account it is a client_credentials one.

    `gateway`: the API gateway's base (`iu`); `token_url`: `pu` + `ot`.
    """

    tenant: str
    client_id: str
    client_secret: Secret
    gateway: str
    token_url: str
    account_key: Secret | None = None
    account_secret: Secret | None = None

    @property
    def service_url(self) -> str:
        """The messaging service behind the API gateway."""
        return f"{self.gateway}/{self.tenant}/IONSERVICES/api/ion/messaging/service"


_AGAIN = "download the .ionapi file again in ION API"


def parse_ionapi(text: str) -> IonApi:
    """Read an `.ionapi` file's text; unknown keys are passed over. Raises CredentialError."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        raise CredentialError(f"the .ionapi file is not JSON; {_AGAIN}") from None
    if not isinstance(found, dict):
        raise CredentialError(f"the .ionapi file is not a JSON object; {_AGAIN}")
    key, secret = _optional(found, "saak"), _optional(found, "sask")
    if (key is None) != (secret is None):
        lacking = "saak" if key is None else "sask"
        raise CredentialError(f'the .ionapi file lacks "{lacking}" of its service account; {_AGAIN}')
    return IonApi(
        tenant=_required(found, "ti"),
        client_id=_required(found, "ci"),
        client_secret=Secret(_required(found, "cs")),
        gateway=_secure(found, "iu").rstrip("/"),
        token_url=f"{_secure(found, 'pu').rstrip('/')}/{_required(found, 'ot').lstrip('/')}",
        account_key=Secret(key) if key is not None else None,
        account_secret=Secret(secret) if secret is not None else None,
    )


def _required(found: Mapping[str, Any], name: str) -> str:
    value = _optional(found, name)
    if value is None:
        raise CredentialError(f'the .ionapi file lacks "{name}"; {_AGAIN}')
    return value


def _optional(found: Mapping[str, Any], name: str) -> str | None:
    value = found.get(name)
    if value is None or value == "":
        return None
    if not isinstance(value, str) or not value.isprintable():
        raise CredentialError(f'"{name}" in the .ionapi file is not a text; {_AGAIN}')
    return value


def _secure(found: Mapping[str, Any], name: str) -> str:
    """Credentials and messages never travel unencrypted, except within this machine."""
    value = _required(found, name)
    if not is_secure(value):
        raise CredentialError(f'"{name}" in the .ionapi file is not an https URL; {_AGAIN}')
    return value


def is_secure(url: str) -> bool:
    """Whether this is a usable URL that is https, or http to this very machine."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return False
    return bool(host) and (parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(host or "")))


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """A POST to the token service. Headers and form hold secrets and are not shown."""

    url: str
    headers: Mapping[str, str] = field(repr=False)
    form: bytes = field(repr=False)


def token_request(api: IonApi, *, basic: bool = False, scope: str | None = None) -> TokenRequest:
    """Ask for a token: password grant for a service account, client_credentials otherwise.

    `basic`: the client's credentials go as HTTP Basic instead of in the form.
    """
    secret = api.client_secret.reveal()
    client = {} if basic else {"client_secret": secret}
    if api.account_key is not None and api.account_secret is not None:
        form = LegacyApplicationClient(api.client_id).prepare_request_body(
            username=api.account_key.reveal(),
            password=api.account_secret.reveal(),
            scope=scope,
            include_client_id=not basic,
            **client,
        )
    else:
        form = BackendApplicationClient(api.client_id).prepare_request_body(
            scope=scope, include_client_id=not basic, **client
        )
    headers = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
    if basic:
        pair = base64.b64encode(f"{api.client_id}:{secret}".encode()).decode("ascii")
        headers["Authorization"] = f"Basic {pair}"
    return TokenRequest(api.token_url, headers, form.encode("ascii"))


@dataclass(frozen=True, slots=True)
class Token:
    """An access token and its life in seconds, counted from before it was asked for."""

    text: Secret
    life: float


LIFE_UNSAID = 3600.0
"""Seconds a token is taken to live when the token service does not say: half of what is usual."""

_LONGEST_LIFE = 24 * 3600.0
_LONGEST_TOKEN = 6000
_RENEW_AT = 0.9


def read_token(reply: bytes) -> Token | str:
    """The token in the token service's answer, or what is wrong with that answer."""
    found = _object(reply)
    text = found.get("access_token")
    if not isinstance(text, str) or not text:
        return "the answer holds no access_token"
    if len(text) > _LONGEST_TOKEN or not all("!" <= letter <= "~" for letter in text):
        return "the access_token cannot be sent in a header"
    return Token(Secret(text), _life(found.get("expires_in")))


def _life(said: object) -> float:
    """`expires_in` as a number or a text; where it is missing or absurd, a cautious guess."""
    if isinstance(said, bool) or not isinstance(said, int | float | str):
        return LIFE_UNSAID
    try:
        life = float(said)
    except (ValueError, OverflowError):
        return LIFE_UNSAID
    return min(life, _LONGEST_LIFE) if life > 0 else LIFE_UNSAID


def read_refusal(reply: bytes) -> str:
    """What the token service says about a refusal (RFC 6749, section 5.2); empty if nothing readable."""
    found = _object(reply)
    said = [found.get("error"), found.get("error_description")]
    return ": ".join(text[:600] for text in said if isinstance(text, str) and text)


def _object(reply: bytes) -> dict[str, Any]:
    try:
        found = json.loads(reply)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def due_for_renewal(fetched_at: float, life: float, now: float) -> bool:
    """Whether nine tenths of a token's life are over: it is renewed before it expires."""
    return now >= fetched_at + _RENEW_AT * life
