"""The simulator's tenants: their ids, credentials, connection points and accepted documents."""

import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal

ConnectionPoint = Literal["active", "inactive", "missing"]
Auth = Literal["oauth1", "oauth2"]

DEFAULT_DOCUMENTS = ("Sync.SalesOrder", "Sync.Shipment", "Process.PurchaseOrder", "Orders_JSON")


@dataclass(frozen=True, slots=True)
class Credentials:
    """The credentials of a tenant's application: OAuth 2 for the gateway, OAuth 1.0a directly.

    `username` and `password` are the service account's keys (`saak` and `sask` of an `.ionapi` file).
    """

    client_id: str
    client_secret: str
    username: str
    password: str
    consumer_key: str
    consumer_secret: str

    @staticmethod
    def generate(tenant_id: str = "SANDBOX") -> "Credentials":
        """New credentials, as long and complex as real ones."""
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
    """A tenant. Fields may be changed while the simulator runs; the next response uses the new values.

    `logical_id`: what its credentials are tied to; `accepted`: the documents of its connection point;
    `auth`: which credentials a relay is configured with (the simulator accepts both); `service_account`:
    whether the `.ionapi` file has `saak` and `sask`; `token_seconds`: lifetime of new bearer tokens;
    `clock`: how many seconds the clock of its ION is ahead; `wrapper`: whether it is reached through an API
    suite that forwards posts only.
    """

    tenant_id: str
    logical_id: str = ""
    accepted: list[str] = field(default_factory=lambda: list(DEFAULT_DOCUMENTS))
    auth: Auth = "oauth2"
    service_account: bool = True
    connection_point: ConnectionPoint = "active"
    versions: tuple[str, ...] = ("v1", "v2", "v3")
    token_seconds: float = 7200.0
    clock: float = 0.0
    wrapper: bool = False
    credentials: Credentials = field(default_factory=Credentials.generate, repr=False)

    def __post_init__(self) -> None:
        self.tenant_id = self.tenant_id.upper()
        self.accepted = list(self.accepted)
        if not self.logical_id:
            self.logical_id = f"lid://sandbox.{self.tenant_id.lower()}.1"

    def add(self, document: str) -> None:
        """Add the document to the connection point."""
        if document not in self.accepted:
            self.accepted.append(document)

    def withdraw(self, document: str) -> None:
        """Remove the document from the connection point."""
        if document in self.accepted:
            self.accepted.remove(document)

    def as_json(self) -> dict[str, object]:
        """Its state without secrets, for the control interface."""
        return {
            "tenant_id": self.tenant_id,
            "logical_id": self.logical_id,
            "accepted": list(self.accepted),
            "auth": self.auth,
            "connection_point": self.connection_point,
            "versions": list(self.versions),
            "token_seconds": self.token_seconds,
            "clock": self.clock,
            "wrapper": self.wrapper,
        }


class Tenants:
    """All tenants, with look-up by what a request contains. Ids are compared without regard to case."""

    def __init__(self, tenants: Iterable[SandboxTenant]) -> None:
        self._by_id: dict[str, SandboxTenant] = {}
        self._by_consumer: dict[str, SandboxTenant] = {}
        for tenant in tenants:
            self.add(tenant)

    def add(self, tenant: SandboxTenant) -> None:
        """Add a tenant. Raises ValueError where its id exists already."""
        if tenant.tenant_id in self._by_id:
            raise ValueError(f"tenant {tenant.tenant_id} exists already")
        self._by_id[tenant.tenant_id] = tenant
        self._by_consumer[tenant.credentials.consumer_key] = tenant

    def __iter__(self) -> Iterator[SandboxTenant]:
        return iter(self._by_id.values())

    def get(self, tenant_id: str) -> SandboxTenant | None:
        """By tenant id."""
        return self._by_id.get(tenant_id) or self._by_id.get(tenant_id.upper())

    def by_consumer(self, consumer_key: str) -> SandboxTenant | None:
        """By OAuth 1.0a consumer key."""
        return self._by_consumer.get(consumer_key)

    def by_logical_id(self, logical_id: str) -> SandboxTenant | None:
        """By the logical id of its connection point."""
        return next((tenant for tenant in self if tenant.logical_id == logical_id), None)
