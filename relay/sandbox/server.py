"""The ION simulator as a server, with the interface for those who test with it."""

import asyncio
import ssl
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from aiohttp import web

from relay.sandbox import connect
from relay.sandbox.conformance import ConformanceChecker, Violation
from relay.sandbox.control import ControlInterface, is_loopback
from relay.sandbox.faults import Fault, FaultPlan
from relay.sandbox.ims_api import Authenticator, ImsApi
from relay.sandbox.record import Request, RequestRecord, TakenMessage
from relay.sandbox.request import serve
from relay.sandbox.signatures import Signatures
from relay.sandbox.state import SimulatorState
from relay.sandbox.tenants import SandboxTenant, Tenants
from relay.sandbox.tokens import Tokens

MAX_MESSAGE_BYTES = 6 * 1024 * 1024
"""5 MB and 1 MB of buffer, ION's default."""
PAYLOAD_BYTES = 64 * 1024 * 1024


class Sandbox:
    """An ION simulator on 127.0.0.1. `port` 0: a free one, kept over `stop` and `start`.

    `max_message_bytes`: larger documents are answered 413. `payload_bytes`: how much payload the record keeps
    (0: none). `request_limit`: size of the request log. `tolerance` (seconds) and `hot_loop` (failed rounds a
    second): see conformance.py. `timestamp_window`: how many seconds an OAuth 1.0a timestamp may be off.
    `keep_alive_seconds`: idle connections are closed after it.
    """

    def __init__(
        self,
        tenants: Iterable[SandboxTenant] = (),
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        max_message_bytes: int = MAX_MESSAGE_BYTES,
        payload_bytes: int = PAYLOAD_BYTES,
        request_limit: int = 10_000,
        tolerance: float = 0.25,
        hot_loop: int = 10,
        timestamp_window: float = 300.0,
        keep_alive_seconds: float = 75.0,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        known, tokens = Tenants(tenants), Tokens()
        self.record = RequestRecord(payload_bytes, request_limit)
        self._ion = SimulatorState(
            known,
            tokens,
            Authenticator(known, tokens, Signatures(timestamp_window)),
            ImsApi(known, self.record),
            FaultPlan(known),
            ConformanceChecker(tolerance, hot_loop),
            self.record,
            max_message_bytes,
            "http" if tls is None else "https",
            self._notify,
        )
        self._control = ControlInterface(self._ion, local=is_loopback(host))
        self._host, self._port, self._tls, self._keep_alive = host, port, tls, keep_alive_seconds
        self._runner: web.ServerRunner | None = None
        self._waiting: list[asyncio.Event] = []

    # --- start and stop --------------------------------------------------------------------------

    async def start(self) -> Self:
        """Listen; OSError where the port is taken."""
        server = web.Server(
            self._serve,
            handler_cancellation=True,
            access_log=None,
            keepalive_timeout=self._keep_alive,
            lingering_time=2.0,
            auto_decompress=False,
        )
        runner = web.ServerRunner(server, shutdown_timeout=1.0)
        await runner.setup()
        try:
            site = web.TCPSite(runner, self._host, self._port, ssl_context=self._tls, backlog=1024)
            await site.start()
        except BaseException:
            await runner.cleanup()
            raise
        self._runner = runner
        self._port = runner.addresses[0][1]
        return self

    async def stop(self) -> None:
        """Close the port and all connections; record, violations, tokens and faults are kept."""
        runner, self._runner = self._runner, None
        if runner is None:
            return
        self._ion.end_delays()
        await runner.cleanup()

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def _serve(self, http: web.BaseRequest) -> web.StreamResponse:
        if http.raw_path.startswith("/_sandbox"):
            return await self._control.serve(http)
        return await serve(self._ion, http)

    # --- address and tenants ---------------------------------------------------------------

    @property
    def port(self) -> int:
        """The port it listens on."""
        return self._port

    @property
    def url(self) -> str:
        """Its address, without a trailing slash."""
        return f"{self._ion.scheme}://{self._host}:{self._port}"

    @property
    def tenants(self) -> Tenants:
        """All tenants; they can be added and changed while it runs."""
        self._ion.change_tenants(time.monotonic())
        return self._ion.tenants

    @property
    def tokens(self) -> Tokens:
        """The bearer tokens; `tokens.issued` counts them by tenant."""
        return self._ion.tokens

    def tenant(self, tenant_id: str) -> SandboxTenant:
        """One tenant. Raises KeyError where it does not exist."""
        found = self.tenants.get(tenant_id)
        if found is None:
            raise KeyError(tenant_id)
        return found

    def base_url(self, tenant_id: str) -> str:
        """The base URL of the tenant's Messaging Service, by its `auth`."""
        return connect.base_url(self.tenant(tenant_id), self.url)

    def ionapi(self, tenant_id: str) -> dict[str, object]:
        """The content of the tenant's `.ionapi` file."""
        return connect.ionapi(self.tenant(tenant_id), self.url)

    def environment(self, directory: Path) -> dict[str, str]:
        """The variables that point a relay here; writes the `.ionapi` files they name into the directory."""
        return connect.environment(self._ion.tenants, self.url, directory)

    # --- faults ----------------------------------------------------------------------------------

    def faults(self, **fields: Any) -> Fault:
        """Inject a fault, such as `faults(call="post", status=503, count=3)`. Raises FaultError."""
        return self.add_faults([fields])[0]

    def add_faults(self, faults: Iterable[Mapping[str, Any]]) -> list[Fault]:
        """Inject several faults, all or none. Raises FaultError, which names the field that is wrong."""
        now = time.monotonic()
        added = self._ion.faults.add(faults, now)
        self._ion.change_tenants(now)
        return added

    @property
    def injected_faults(self) -> list[Fault]:
        """All faults that were injected and not removed."""
        return self._ion.faults.faults

    def remove_fault(self, fault: Fault) -> None:
        """Remove one fault; what it changed of a tenant stays changed."""
        self._ion.faults.remove(fault.id)

    def clear_faults(self) -> None:
        """Remove all faults: normal operation. What they changed of a tenant stays changed."""
        self._ion.faults.clear()

    # --- the record ------------------------------------------------------------------------------

    @property
    def violations(self) -> list[Violation]:
        """What the conformance checker found."""
        return self._ion.conformance.violations

    def messages(self, tenant_id: str | None = None) -> list[TakenMessage]:
        """The messages that were taken, in the order of arrival; of one tenant or of all."""
        return self.record.messages(tenant_id)

    def requests(self, tenant_id: str | None = None, call: str | None = None) -> list[Request]:
        """The requests in the log, in the order they began."""
        return list(self.record.find_requests(tenant_id, call))

    def payload(self, tenant_id: str, message_id: str) -> bytes | None:
        """The document of a message, inflated, if it is still kept."""
        content = self.record.content(tenant_id, message_id)
        return None if content is None else content.document

    def clear_record(self) -> None:
        """Empty the record, the request log and the list of violations."""
        self.record.clear()
        self._ion.conformance.clear()

    async def until(self, fact: Callable[[], bool], within: float = 10.0) -> None:
        """Wait for a fact, checked after every request. Raises TimeoutError after `within` seconds."""
        event = asyncio.Event()
        self._waiting.append(event)
        try:
            async with asyncio.timeout(within):
                while not fact():
                    event.clear()
                    await event.wait()
        finally:
            self._waiting.remove(event)

    def _notify(self) -> None:
        for event in self._waiting:
            event.set()
