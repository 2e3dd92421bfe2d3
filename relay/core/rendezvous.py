"""Rendezvous hashing: which replica should own a tenant, without any coordination.

Pure. All replicas that know the same replicas choose the same one; when one joins or leaves, only its own
tenants move (Thaler and Ravishankar, "Using name-based mappings to increase hit rates", 1998).
"""

from collections.abc import Iterable
from hashlib import blake2b

from relay.core.model import TenantId


def owner_of(tenant: TenantId, replicas: Iterable[str]) -> str:
    """The replica with the highest weight for this tenant. Needs at least one replica."""
    return max(replicas, key=lambda replica: (_weight(tenant, replica), replica))


def _weight(tenant: TenantId, replica: str) -> bytes:
    return blake2b(f"{replica}\0{tenant}".encode(), digest_size=8).digest()
