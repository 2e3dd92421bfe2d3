"""State that all requests to the simulator share: tenants, tokens, faults, conformance checker, record."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from relay.sandbox.conformance import ConformanceChecker
from relay.sandbox.fault_spec import FaultSpec
from relay.sandbox.faults import FaultPlan
from relay.sandbox.ims_api import Authenticator, ImsApi
from relay.sandbox.record import RequestRecord
from relay.sandbox.tenants import SandboxTenant, Tenants
from relay.sandbox.tokens import Tokens


@dataclass(slots=True)
class SimulatorState:
    """What all requests share. `scheme`: of the server's URL; `notify`: called after every request."""

    tenants: Tenants
    tokens: Tokens
    authenticator: Authenticator
    ims_api: ImsApi
    faults: FaultPlan
    conformance: ConformanceChecker
    record: RequestRecord
    max_message_bytes: int
    scheme: str
    notify: Callable[[], None]
    _delays: set["asyncio.Future[None]"] = field(default_factory=set["asyncio.Future[None]"])

    def change_tenants(self, now: float) -> None:
        """Make the changes whose time has come."""
        if self.faults.faults:
            for spec in self.faults.take_due_changes(now):
                self.change(spec, now)

    def change(self, spec: FaultSpec, now: float) -> None:
        """Make the changes of a fault to the tenants it is for."""
        for tenant in self.tenants:
            if spec.tenant in {"*", tenant.tenant_id}:
                self._change(tenant, spec, now)

    def _change(self, tenant: SandboxTenant, spec: FaultSpec, now: float) -> None:
        for document in spec.add:
            tenant.add(document)
        for document in spec.withdraw:
            tenant.withdraw(document)
        for name in ("connection_point", "token_seconds", "versions", "clock", "wrapper"):
            if (value := getattr(spec, name)) is not None:
                setattr(tenant, name, value)
        if spec.tokens == "expire":
            self.tokens.expire(tenant, now)
        elif spec.tokens == "revoke":
            self.tokens.revoke(tenant)
        elif spec.tokens == "revoke-for-posts":
            self.tokens.revoke_for_posts(tenant)

    async def delay(self, seconds: float) -> None:
        """Wait; a stop of the server ends the wait as a broken connection."""
        waker: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._delays.add(waker)
        try:
            async with asyncio.timeout(seconds):
                await waker
        except TimeoutError:
            return
        finally:
            self._delays.discard(waker)
        raise ConnectionAbortedError("the simulator stops")

    def end_delays(self) -> None:
        """End every wait, because the server stops."""
        for waker in self._delays:
            if not waker.done():
                waker.set_result(None)
