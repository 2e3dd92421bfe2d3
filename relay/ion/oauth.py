"""OAuth 1.0a signatures, OAuth 2 token requests and responses, and `.ionapi` files.

Pure: nonce, time and file contents are arguments. OAuth 1.0a two-legged (RFC 5849) for ION reached
directly, OAuth 2 (RFC 6749) from an `.ionapi` file for the API gateway.
"""

import base64
import hashlib
import hmac
import json
import string
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
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

from relay.ion.service_urls import url_problem


class CredentialError(Exception):
    """Credentials cannot be read or used. The text says which, why, and how to fix it; no secret."""


class Secret:
    """A text that is never printed by accident; `reveal()` returns it."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The text itself: for a request, never for a log."""
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
    method: SignatureMethod


class Signer:
    """Signs requests of one method to one URL; the constant beginning of the base string is hashed once.

    The URL's path is signed as it is sent, percent-escapes included; the body is never signed. The base
    string is oauthlib's; only the nonce and the timestamp are inserted here.
    """

    def __init__(self, keys: OAuth1Keys, http_method: Literal["GET", "POST"], url: str) -> None:
        placeholders = {"oauth_nonce": "nonce-goes-here", "oauth_timestamp": "timestamp-goes-here"}
        fixed = {
            "oauth_version": "1.0",
            "oauth_signature_method": keys.method,
            "oauth_consumer_key": keys.consumer_key,
        }
        query = collect_parameters(uri_query=urlsplit(url).query)
        pairs = [*query, *fixed.items(), *placeholders.items()]
        normalized = normalize_parameters(pairs)  # type: ignore[arg-type]  # the stub errs: it takes pairs
        base_string = signature_base_string(http_method, base_string_uri(url), normalized)
        begin, rest = _split_at(base_string, "oauth_nonce%3D", placeholders["oauth_nonce"])
        self._middle, self._end = _split_at(rest, "oauth_timestamp%3D", placeholders["oauth_timestamp"])
        key = f"{escape(keys.consumer_secret.reveal())}&"
        self._prefix_hmac = hmac.new(key.encode(), begin.encode(), _DIGESTS[keys.method])
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
        mac = self._prefix_hmac.copy()
        mac.update(f"{nonce}{self._middle}{timestamp}{self._end}".encode())
        return base64.b64encode(mac.digest()).decode("ascii")


def _split_at(text: str, name: str, placeholder: str) -> tuple[str, str]:
    before, _, after = text.partition(name + placeholder)
    return before + name, after


# --- OAuth 2 --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class IonApi:
    """The fields of an `.ionapi` file that the relay needs. No account: the grant is client_credentials.

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


_BLANKS = string.whitespace + "\u00a0\u200b\u200e\u200f\u2060\ufeff"
_HINT = "download the .ionapi file again in ION API"


def parse_ionapi(text: str) -> IonApi:
    """Read the text of an `.ionapi` file; unknown keys are ignored. Raises CredentialError."""
    try:
        found = json.loads(text.removeprefix("\ufeff"))
    except (ValueError, RecursionError):
        raise CredentialError(f"the .ionapi file is not JSON; {_HINT}") from None
    if not isinstance(found, dict):
        raise CredentialError(f"the .ionapi file is not a JSON object; {_HINT}")
    key, secret = _optional(found, "saak"), _optional(found, "sask")
    if (key is None) != (secret is None):
        missing = "saak" if key is None else "sask"
        raise CredentialError(f'the .ionapi file lacks "{missing}" of its service account; {_HINT}')
    return IonApi(
        tenant=_required(found, "ti"),
        client_id=_required(found, "ci"),
        client_secret=Secret(_required(found, "cs")),
        gateway=_service(found, "iu"),
        token_url=f"{_service(found, 'pu')}/{_required(found, 'ot').lstrip('/')}",
        account_key=Secret(key) if key is not None else None,
        account_secret=Secret(secret) if secret is not None else None,
    )


def _required(found: Mapping[str, Any], name: str) -> str:
    value = _optional(found, name)
    if value is None:
        raise CredentialError(f'the .ionapi file lacks "{name}"; {_HINT}')
    return value


def _optional(found: Mapping[str, Any], name: str) -> str | None:
    """Without the blanks around it, which are pasted along."""
    value = found.get(name)
    if isinstance(value, str):
        value = value.strip(_BLANKS)
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise CredentialError(f'"{name}" in the .ionapi file is not a string; {_HINT}')
    if not value.isprintable() or any(map(str.isspace, value)):
        raise CredentialError(
            f'"{name}" in the .ionapi file has a blank or a control character in it; {_HINT}'
        )
    return value


def _service(found: Mapping[str, Any], name: str) -> str:
    """Credentials and messages are never sent unencrypted, except within this machine."""
    value = _required(found, name)
    problem = url_problem(value)
    if problem is not None:
        raise CredentialError(f'"{name}" in the .ionapi file {problem.what}; {problem.hint}, or {_HINT}')
    return value.rstrip("/")


Credentials = OAuth1Keys | IonApi


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """A POST to the token service. Headers and form contain secrets and are not shown."""

    url: str
    headers: Mapping[str, str] = field(repr=False)
    form: bytes = field(repr=False)


def token_request(api: IonApi, *, basic: bool, scope: str | None) -> TokenRequest:
    """The password grant for a service account, client_credentials otherwise.

    `basic`: the client's credentials are sent as HTTP Basic instead of in the form.
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
        userpass = base64.b64encode(f"{api.client_id}:{secret}".encode()).decode("ascii")
        headers["Authorization"] = f"Basic {userpass}"
    return TokenRequest(api.token_url, headers, form.encode("ascii"))


@dataclass(frozen=True, slots=True)
class Token:
    """An access token and its lifetime in seconds, counted from before it was requested."""

    value: Secret
    lifetime: float


ASSUMED_LIFETIME = 3600.0
"""Seconds, where the token service sends no usable `expires_in`: half of the usual lifetime."""

_MAX_LIFETIME = 24 * 3600.0
_MAX_TOKEN_LENGTH = 6000
_RENEW_AT = 0.9


def read_token(body: bytes) -> Token | str:
    """The token in the token service's response, or what is wrong with that response."""
    found = _parse_object(body)
    text = found.get("access_token")
    if not isinstance(text, str) or not text:
        return "the access_token is no text" if "access_token" in found else "the answer has no access_token"
    if len(text) > _MAX_TOKEN_LENGTH or not all("!" <= letter <= "~" for letter in text):
        return "the access_token cannot be sent in a header"
    return Token(Secret(text), _lifetime(found.get("expires_in")))


def _lifetime(expires_in: object) -> float:
    """A number or a string; if it is missing or invalid, a cautious assumption."""
    if isinstance(expires_in, bool) or not isinstance(expires_in, int | float | str):
        return ASSUMED_LIFETIME
    try:
        lifetime = float(expires_in)
    except (ValueError, OverflowError):
        return ASSUMED_LIFETIME
    return min(lifetime, _MAX_LIFETIME) if lifetime > 0 else ASSUMED_LIFETIME


@dataclass(frozen=True, slots=True)
class TokenError:
    """An error of OAuth (RFC 6749, section 5.2): its code and its text; empty where there is none."""

    code: str = ""
    text: str = ""


def read_token_error(body: bytes, mask: Callable[[str], str] = str) -> TokenError:
    """The error in the token service's response. `mask`: applied to its texts before they are cut."""
    found = _parse_object(body)
    code = found.get("error")
    texts = [code, found.get("error_description")]
    text = ": ".join(mask(text)[:600] for text in texts if isinstance(text, str) and text)
    return TokenError(code if isinstance(code, str) else "", text)


def _parse_object(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def is_due_for_renewal(fetched_at: float, lifetime: float, now: float) -> bool:
    """Whether nine tenths of a token's lifetime are over: it is renewed before it expires."""
    return now >= fetched_at + _RENEW_AT * lifetime
