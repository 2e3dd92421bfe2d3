"""This file is the tenants of the simulator: who they are, their credentials, and what they accept now."""

import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal

ConnectionPoint = Literal["active", "inactive", "missing"]
Auth = Literal["oauth1", "oauth2"]

DEFAULT_DOCUMENTS = ("Sync.SalesOrder", "Sync.Shipment", "Process.PurchaseOrder", "Orders_JSON")


@dataclass(frozen=True, slots=True)
class Credentials:
    """All that a tenant's application may prove itself with: OAuth 2 for the gateway, OAuth 1.0a directly.

    `username` and `password` are the service account's keys (`saak` and `sask` of an `.ionapi` file).
    """

    client_id: str
    client_secret: str
    username: str
    password: str
    consumer_key: str
    consumer_secret: str

    @staticmethod
    def fresh(tenant_id: str = "SANDBOX") -> "Credentials":
        """New ones; shaped like the real ones, so that nothing short or simple is taken for granted."""
        return Credentials(
            client_id=f"{tenant_id}~{secrets.token_urlsafe(24)}",
            client_secret=secrets.token_urlsafe(40),
            username=f"{tenant_id}#{secrets.token_urlsafe(30)}",
            password=secrets.token_urlsafe(40),
            consumer_key=secrets.token_hex(12),
            consumer_secret=secrets.token_urlsafe(30),
        )


@dataclass(slots=True)
class SandboxTenant:
    """A tenant. What is set here may be changed while the sandbox runs; the next answer follows it.

    `logical_id`: what its credentials are tied to; `accepted`: the documents of its connection point;
    `auth`: which credentials the sandbox hands out for it (it takes both); `service_account`: whether the
    `.ionapi` file carries `saak` and `sask`; `token_seconds`: life of new bearer tokens.
    """

    tenant_id: str
    logical_id: str = ""
    accepted: list[str] = field(default_factory=lambda: list(DEFAULT_DOCUMENTS))
    auth: Auth = "oauth2"
    service_account: bool = True
    connection_point: ConnectionPoint = "active"
    versions: tuple[str, ...] = ("v1", "v2", "v3")
    token_seconds: float = 7200.0
    credentials: Credentials = field(default_factory=Credentials.fresh, repr=False)

    def __post_init__(self) -> None:
        self.tenant_id = self.tenant_id.upper()
        self.accepted = list(self.accepted)
        if not self.logical_id:
            self.logical_id = f"lid://sandbox.{self.tenant_id.lower()}.1"

    def add(self, document: str) -> None:
        """An administrator adds the document to the connection point."""
        if document not in self.accepted:
            self.accepted.append(document)

    def withdraw(self, document: str) -> None:
        """An administrator takes the document off the connection point."""
        if document in self.accepted:
            self.accepted.remove(document)

    def as_json(self) -> dict[str, object]:
        """Its state, without secrets."""
        return {
            "tenant_id": self.tenant_id,
            "logical_id": self.logical_id,
            "accepted": list(self.accepted),
            "auth": self.auth,
            "connection_point": self.connection_point,
            "versions": list(self.versions),
            "token_seconds": self.token_seconds,
        }


class Tenants:
    """All tenants, found by what a request says of itself. Ids compare without regard to case."""

    def __init__(self, tenants: Iterable[SandboxTenant]) -> None:
        self._by_id: dict[str, SandboxTenant] = {}
        self._by_client: dict[str, SandboxTenant] = {}
        self._by_consumer: dict[str, SandboxTenant] = {}
        for tenant in tenants:
            self.add(tenant)

    def add(self, tenant: SandboxTenant) -> None:
        """One more; an id that is there already is a mistake of the caller."""
        if tenant.tenant_id in self._by_id:
            raise ValueError(f"tenant {tenant.tenant_id} is there already")
        self._by_id[tenant.tenant_id] = tenant
        self._by_client[tenant.credentials.client_id] = tenant
        self._by_consumer[tenant.credentials.consumer_key] = tenant

    def __iter__(self) -> Iterator[SandboxTenant]:
        return iter(self._by_id.values())

    def get(self, tenant_id: str) -> SandboxTenant | None:
        """By tenant id."""
        return self._by_id.get(tenant_id) or self._by_id.get(tenant_id.upper())

    def by_client(self, client_id: str) -> SandboxTenant | None:
        """By OAuth 2 client id."""
        return self._by_client.get(client_id)

    def by_consumer(self, consumer_key: str) -> SandboxTenant | None:
        """By OAuth 1.0a consumer key."""
        return self._by_consumer.get(consumer_key)

    def by_logical_id(self, logical_id: str) -> SandboxTenant | None:
        """By the logical id of its connection point."""
        return next((tenant for tenant in self if tenant.logical_id == logical_id), None)
