"""This file is the ION simulator as a server: its start and stop, and what its user asks of it.

`async with Sandbox([SandboxTenant("ACME_PRD")]) as sandbox:` and `sandbox.url` is an ION.
"""

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
from relay.sandbox.control import Control
from relay.sandbox.faults import FaultPlan, Rule
from relay.sandbox.ims_api import Gatekeeper, ImsApi
from relay.sandbox.record import Record, Request, Taken
from relay.sandbox.request import serve
from relay.sandbox.signatures import Signatures
from relay.sandbox.state import SimulatorState
from relay.sandbox.tenants import SandboxTenant, Tenants
from relay.sandbox.tokens import Tokens

MAX_MESSAGE_BYTES = 6 * 1024 * 1024
"""5 MB and 1 MB of buffer, as ION has it by default."""


class Sandbox:
    """An ION simulator on 127.0.0.1. `port` 0: a free one, kept over `stop` and `start`.

    `max_message_bytes`: beyond it 413. `payload_bytes`: how much payload the record keeps (0: none).
    `request_limit`: how many requests the log holds. `tolerance` (seconds) and `hot_loop` (failed rounds a
    second): see judge.py. `keep_alive_seconds`: idle connections are closed after it.
    """

    def __init__(
        self,
        tenants: Iterable[SandboxTenant] = (),
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        max_message_bytes: int = MAX_MESSAGE_BYTES,
        payload_bytes: int = 64 * 1024 * 1024,
        request_limit: int = 10_000,
        tolerance: float = 0.25,
        hot_loop: int = 10,
        timestamp_window: float = 300.0,
        keep_alive_seconds: float = 75.0,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        everyone, tokens = Tenants(tenants), Tokens()
        self.record = Record(payload_bytes, request_limit)
        self._ion = SimulatorState(
            everyone,
            tokens,
            Gatekeeper(everyone, tokens, Signatures(timestamp_window)),
            ImsApi(everyone, self.record),
            FaultPlan(everyone),
            ConformanceChecker(tolerance, hot_loop),
            self.record,
            max_message_bytes,
            "http" if tls is None else "https",
            self._tell,
        )
        self._control = Control(self._ion)
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
        """Close the port and all connections; record, judge, tokens and faults stay for the next start."""
        runner, self._runner = self._runner, None
        if runner is None:
            return
        for waker in list(self._ion.naps):
            if not waker.done():
                waker.set_result(None)
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

    # --- where it is, and for whom ---------------------------------------------------------------

    @property
    def port(self) -> int:
        """The port it listens on."""
        return self._port

    @property
    def url(self) -> str:
        """Its address, without a slash at the end."""
        return f"{self._ion.scheme}://{self._host}:{self._port}"

    @property
    def tenants(self) -> Tenants:
        """All tenants; they can be changed while it runs, and added to."""
        self._ion.change_tenants(time.monotonic())
        return self._ion.tenants

    @property
    def tokens(self) -> Tokens:
        """The bearer tokens; `tokens.issued` counts them by tenant."""
        return self._ion.tokens

    def tenant(self, tenant_id: str) -> SandboxTenant:
        """One tenant; KeyError where it is not there."""
        found = self.tenants.get(tenant_id)
        if found is None:
            raise KeyError(tenant_id)
        return found

    def base_url(self, tenant_id: str) -> str:
        """The base of the tenant's Messaging Service, by its `auth`."""
        return connect.base_url(self.tenant(tenant_id), self.url)

    def ionapi(self, tenant_id: str) -> dict[str, object]:
        """The content of the tenant's `.ionapi` file."""
        return connect.ionapi(self.tenant(tenant_id), self.url)

    def environment(self, directory: Path) -> dict[str, str]:
        """The variables that point a relay here; writes the `.ionapi` files they name into the directory."""
        return connect.environment(self._ion.tenants, self.url, directory)

    # --- faults ---------------------------------------------------------------------------------

    def faults(self, **fields: Any) -> Rule:
        """Inject faults, e.g. `faults(call="post", status=503, count=3)`; the rule counts its strikes."""
        rule = self._ion.sky.order(fields, time.monotonic())
        self._ion.change_tenants(time.monotonic())
        return rule

    def order(self, rules: Iterable[Mapping[str, Any]]) -> list[Rule]:
        """Order several rules, all or none."""
        made = self._ion.sky.order_all(rules, time.monotonic())
        self._ion.change_tenants(time.monotonic())
        return made

    @property
    def rules(self) -> list[Rule]:
        """The rules that stand."""
        return self._ion.sky.rules

    def clear_faults(self) -> None:
        """Normal operation from now on; what rules changed stays changed."""
        self._ion.sky.clear()

    # --- what it saw -----------------------------------------------------------------------------

    @property
    def violations(self) -> list[Violation]:
        """What clients did against the guide."""
        return self._ion.judge.violations

    def messages(self, tenant_id: str | None = None) -> list[Taken]:
        """What was taken, in the order of arrival."""
        return self.record.messages(tenant_id)

    def requests(self, tenant_id: str | None = None, call: str | None = None) -> list[Request]:
        """The requests in the log, in the order they began."""
        return list(self.record.asked_for(tenant_id, call))

    def payload(self, tenant_id: str, message_id: str) -> bytes | None:
        """The document of a message, inflated, if it is still kept."""
        content = self.record.content(tenant_id, message_id)
        return None if content is None else content.document

    def forget(self) -> None:
        """Empty the record, the log and the list of violations; where the clients stand remains."""
        self.record.forget()
        self._ion.judge.forget()

    async def until(self, fact: Callable[[], bool], within: float = 10.0) -> None:
        """Wait until something is so; asked again after every request. TimeoutError after `within` s."""
        event = asyncio.Event()
        self._waiting.append(event)
        try:
            async with asyncio.timeout(within):
                while not fact():
                    event.clear()
                    await event.wait()
        finally:
            self._waiting.remove(event)

    def _tell(self) -> None:
        for event in self._waiting:
            event.set()
