"""This file is what a tenant's credentials make possible: where to go, and how to prove oneself."""

import base64
import secrets
import time
from dataclasses import dataclass, field
from typing import Literal

from yarl import URL

from relay.core.model import LogicalId
from relay.core.replies import TokenRefused
from relay.ion import wire
from relay.ion.credentials import CredentialSource
from relay.ion.oauth import CredentialError, IonApi, OAuth1Keys, Signer, Token

_SHORTEST_CANARY = 4
"""Characters; hiding shorter secrets would make every text unreadable."""


@dataclass(frozen=True, slots=True)
class Target:
    """One of the service's calls: its URL, exactly as it goes out, and who signs it (OAuth 1 only)."""

    url: URL
    signer: Signer | None

    def authorisation(self, token: Token | None) -> str:
        """The `Authorization` header of one request."""
        if token is not None:
            return f"Bearer {token.text.reveal()}"
        assert self.signer is not None, "either a token or a signature"
        return self.signer.header(secrets.token_hex(16), int(time.time()))


@dataclass(frozen=True, slots=True)
class Access:
    """The four calls with these credentials. `canaries`: texts that are sent and must never be shown."""

    credentials: OAuth1Keys | IonApi
    ping: Target
    versions: Target
    accepted: Target
    post: Target
    canaries: tuple[str, ...] = field(repr=False)


def open_access(
    source: CredentialSource, ion_url: str | None, logical_id: LogicalId
) -> Access | TokenRefused:
    """Read the credentials; what cannot be used is as good as refused, and says why."""
    try:
        credentials = source.read()
        return _access(credentials, ion_url or _service_url(credentials), logical_id)
    except CredentialError as error:
        return TokenRefused(wire.one_line(str(error)))
    except ValueError:
        return TokenRefused("the ION URL cannot be used; check the setting, or the .ionapi file's iu")


def _service_url(credentials: OAuth1Keys | IonApi) -> str:
    if isinstance(credentials, IonApi):
        return credentials.service_url
    raise CredentialError("OAuth 1 keys need an ION URL; set the tenant's ION_URL")


def _access(credentials: OAuth1Keys | IonApi, base: str, logical_id: LogicalId) -> Access:
    def target(method: Literal["GET", "POST"], url: str) -> Target:
        signer = Signer(credentials, method, url) if isinstance(credentials, OAuth1Keys) else None
        return Target(URL(url, encoded=True), signer)

    return Access(
        credentials,
        target("GET", wire.ping_url(base)),
        target("GET", wire.versions_url(base)),
        target("GET", wire.accepted_documents_url(base, logical_id)),
        target("POST", wire.multipart_message_url(base)),
        tuple(text for text in _sent_secrets(credentials) if len(text) >= _SHORTEST_CANARY),
    )


def _sent_secrets(credentials: OAuth1Keys | IonApi) -> tuple[str, ...]:
    if isinstance(credentials, OAuth1Keys):
        return (credentials.consumer_secret.reveal(),)
    secret = credentials.client_secret.reveal()
    pair = base64.b64encode(f"{credentials.client_id}:{secret}".encode()).decode("ascii")
    account = (credentials.account_key, credentials.account_secret)
    return (pair, secret, *(part.reveal() for part in account if part is not None))
