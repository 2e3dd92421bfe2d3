"""The URLs of ION's messaging service, and the `Authorization` header of each request."""

import base64
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from yarl import URL

from relay.core.model import LogicalId
from relay.core.replies import IonCall, TokenRefused, TokenUnavailable
from relay.ion import wire
from relay.ion.credentials import CredentialSource
from relay.ion.oauth import CredentialError, Credentials, IonApi, OAuth1Keys, Signer, Token
from relay.observability import open_files


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One of the service's calls: its URL, exactly as it is sent, and its signer (OAuth 1 only)."""

    url: URL
    signer: Signer | None

    def authorization(self, token: Token | None) -> str:
        """The `Authorization` header of one request."""
        if token is not None:
            return f"Bearer {token.value.reveal()}"
        assert self.signer is not None, "either a token or a signature"
        return self.signer.header(secrets.token_hex(16), int(time.time()))


@dataclass(frozen=True, slots=True)
class ServiceAddress:
    """The service's endpoints with these credentials.

    `secrets`: texts that are sent to the service or the token service, and must never be shown.
    """

    credentials: Credentials
    endpoints: Mapping[IonCall, Endpoint]
    secrets: tuple[str, ...] = field(repr=False)


def open_address(
    source: CredentialSource, ion_url: str | None, logical_id: LogicalId, tenant: str
) -> ServiceAddress | TokenRefused | TokenUnavailable:
    """Read the credentials. Unusable ones count as refused, with the reason.

    `tenant`: whose `.ionapi` file it is.
    """
    try:
        credentials = source.read()
        if isinstance(credentials, IonApi):
            _check_tenant(credentials, source, tenant)
        return _address(credentials, ion_url or _service_url(credentials), logical_id)
    except OSError:  # too many open files: nothing is wrong with the credentials
        return TokenUnavailable(f"the credentials cannot be read now: {open_files.described()}")
    except CredentialError as error:
        return TokenRefused(wire.one_line(str(error)))
    except ValueError:
        return TokenRefused("the ION URL cannot be used; check the setting, or the .ionapi file's iu")


def _check_tenant(credentials: IonApi, source: CredentialSource, tenant: str) -> None:
    """With another tenant's file, documents would reach that tenant."""
    if credentials.tenant.upper() != tenant.upper():
        (path,) = source.paths
        raise CredentialError(
            f"{path}: the .ionapi file is of {credentials.tenant[:60]}, not of {tenant}; download that of "
            f"{tenant} in ION API, or set OAUTH2__IONAPI_TENANT if it is meant to be another"
        )


def _service_url(credentials: Credentials) -> str:
    if isinstance(credentials, IonApi):
        return credentials.service_url
    raise CredentialError("OAuth 1 keys need an ION URL; set the tenant's ION_URL")


def _address(credentials: Credentials, base: str, logical_id: LogicalId) -> ServiceAddress:
    def endpoint(method: Literal["GET", "POST"], url: str) -> Endpoint:
        signer = Signer(credentials, method, url) if isinstance(credentials, OAuth1Keys) else None
        return Endpoint(URL(url, encoded=True), signer)

    return ServiceAddress(
        credentials,
        {
            "ping": endpoint("GET", wire.ping_url(base)),
            "versions": endpoint("GET", wire.versions_url(base)),
            "acceptedDocuments": endpoint("GET", wire.accepted_documents_url(base, logical_id)),
            "post": endpoint("POST", wire.multipart_message_url(base)),
        },
        _sent_secrets(credentials),
    )


def _sent_secrets(credentials: Credentials) -> tuple[str, ...]:
    if isinstance(credentials, OAuth1Keys):
        return (credentials.consumer_secret.reveal(),)
    secret = credentials.client_secret.reveal()
    basic = base64.b64encode(f"{credentials.client_id}:{secret}".encode()).decode("ascii")
    account = (credentials.account_key, credentials.account_secret)
    return (basic, secret, *(text.reveal() for text in account if text is not None))
