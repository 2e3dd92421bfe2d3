"""Credential sources from settings: a tenant's own for ION, and the keys that ION calls the relay with."""

from collections.abc import Mapping
from pathlib import Path

from relay.config.sections import InboundKeySettings, OAuth1Settings, TenantSettings
from relay.config.settings import Settings
from relay.core.model import TenantId
from relay.ion.credentials import CredentialSource, IonApiFile, OAuth1Source
from relay.ion.oauth import Secret


def credentials_of(tenant: TenantSettings) -> CredentialSource:
    """What the tenant authenticates with: its .ionapi file, or OAuth 1.0a keys."""
    if tenant.ionapi_file is not None:
        return IonApiFile(tenant.ionapi_file)
    keys = tenant.oauth1
    assert keys is not None, "validation requires one of the two"
    assert keys.consumer_key is not None, "validation requires it"
    return OAuth1Source(keys.consumer_key, _secret(keys), keys.signature_method)


def inbound_sources(settings: Settings) -> Mapping[TenantId, OAuth1Source]:
    """The keys that ION calls with, of the tenants that this relay owns."""
    return {
        TenantId(name): OAuth1Source(keys.consumer_key, _secret(keys))
        for name, tenant in settings.tenants.items()
        if (keys := tenant.inbound) is not None and keys.consumer_key is not None and settings.owns(name)
    }


def _secret(keys: OAuth1Settings | InboundKeySettings) -> Secret | Path:
    if keys.consumer_secret is not None:
        return Secret(keys.consumer_secret.get_secret_value())
    assert keys.consumer_secret_file is not None, "validation requires one of the two"
    return keys.consumer_secret_file
