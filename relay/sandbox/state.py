"""This file is what all requests to the simulator share: its tenants, its faults, its judge, its record."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from relay.sandbox.conformance import ConformanceChecker
from relay.sandbox.fault_fields import FaultSpec
from relay.sandbox.faults import FaultPlan
from relay.sandbox.ims_api import Gatekeeper, ImsApi
from relay.sandbox.record import Record
from relay.sandbox.tenants import SandboxTenant, Tenants
from relay.sandbox.tokens import Tokens


@dataclass(slots=True)
class SimulatorState:
    """What all requests share. `scheme` is how the server is reached; `naps` are delays under way."""

    tenants: Tenants
    tokens: Tokens
    gatekeeper: Gatekeeper
    service: ImsApi
    sky: FaultPlan
    judge: ConformanceChecker
    record: Record
    max_message_bytes: int
    scheme: str = "http"
    news: Callable[[], None] = lambda: None
    naps: set["asyncio.Future[None]"] = field(default_factory=set["asyncio.Future[None]"])

    def change_tenants(self, now: float) -> None:
        """Carry out the changes whose time has come."""
        for rule in self.sky.due_changes(now) if self.sky.rules else ():
            self.change(rule.spec, now)

    def change(self, spec: FaultSpec, now: float) -> None:
        """Change the tenants that a rule means."""
        for tenant in self.tenants:
            if spec.changes and spec.tenant in {"*", tenant.tenant_id}:
                self._change(tenant, spec, now)

    def _change(self, tenant: SandboxTenant, spec: FaultSpec, now: float) -> None:
        for document in spec.add:
            tenant.add(document)
        for document in spec.withdraw:
            tenant.withdraw(document)
        if spec.connection_point is not None:
            tenant.connection_point = spec.connection_point
        if spec.token_seconds is not None:
            tenant.token_seconds = spec.token_seconds
        if spec.versions is not None:
            tenant.versions = spec.versions
        if spec.tokens == "expire":
            self.tokens.expire(tenant, now)
        elif spec.tokens == "revoke":
            self.tokens.revoke(tenant)

    async def nap(self, seconds: float) -> None:
        """Let time pass; a stop of the server ends it as a broken connection."""
        waker: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.naps.add(waker)
        try:
            async with asyncio.timeout(seconds):
                await waker
        except TimeoutError:
            return
        finally:
            self.naps.discard(waker)
        raise ConnectionAbortedError("the sandbox stops")
