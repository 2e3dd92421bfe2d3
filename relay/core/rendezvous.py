"""This file is which of several relays carries which tenant: rendezvous hashing, agreed on without a word.

Pure. Every relay that knows the same relays names the same one; when one comes or goes, only its own share
moves (Thaler and Ravishankar, "Using name-based mappings to increase hit rates", 1998).
"""

from collections.abc import Iterable
from hashlib import blake2b

from relay.core.model import TenantId


def owner_of(tenant: TenantId, relays: Iterable[str]) -> str:
    """The relay that should carry this tenant: the one with the highest weight. At least one must live."""
    return max(relays, key=lambda relay: (_weight(tenant, relay), relay))


def _weight(tenant: TenantId, relay: str) -> bytes:
    return blake2b(f"{relay}\0{tenant}".encode(), digest_size=8).digest()
