"""The health of the process, from before the outbox is opened until after it is closed.

The loop's tick, the watchdog that misses it, and the web side that reports it: a relay that waits for its
outbox is alive and not ready, and says why.
"""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from relay.config.settings import Settings
from relay.core.model import DocumentName, TenantId
from relay.core.ports import Mode
from relay.daemon.leases import LeaseHolder
from relay.daemon.signals import ProcessSignals
from relay.daemon.startup import Startup
from relay.daemon.systemd import SystemdNotifier
from relay.daemon.telemetry import ProcessTelemetry
from relay.daemon.watchdog import Watchdog
from relay.daemon.workers import Workers
from relay.reports.overview import Configured
from relay.web.application import web_thread
from relay.web.health import HealthSources
from relay.web.metrics_endpoint import OwnedTenants
from relay.web.relay_bridge import RelayBridge
from relay.web.thread import WebThread


@dataclass(frozen=True, slots=True)
class Running:
    """The components that need an open outbox, as far as health and metrics read them."""

    settings: Callable[[], Settings]
    workers: Workers
    lease_holder: LeaseHolder | None
    mode: Callable[[], Mode]


class ProcessHealth:
    """One for the process. `running`: set once the outbox is open."""

    def __init__(
        self,
        settings: Settings,
        telemetry: ProcessTelemetry,
        signals: ProcessSignals,
        systemd: SystemdNotifier,
        startup: Startup,
    ) -> None:
        self._settings, self._telemetry, self._signals, self._startup = settings, telemetry, signals, startup
        self._watchdog = Watchdog(telemetry.liveness, systemd, telemetry.log)
        self._ticking: asyncio.Task[None] | None = None
        self._web: WebThread | None = None
        self.running: Running | None = None

    async def open(self, *, serves: bool) -> None:
        """Before all else, since a port in use ends it all. `serves`: the ports. Raises SettingsError."""
        self._ticking = asyncio.create_task(self._telemetry.tick())
        self._watchdog.start()
        self._web = self._web_thread() if serves else None
        if self._web is not None:
            for setting, address in (await self._web.start()).items():
                self._telemetry.log.info("web.opened", setting=setting, address=address)

    async def close(self) -> None:
        """At the very end."""
        self._watchdog.stop()
        if self._web is not None:
            await self._web.stop()
        if self._ticking is not None:
            self._ticking.cancel()

    # --- what the web side reads ------------------------------------------------------------------------

    def _web_thread(self) -> WebThread | None:
        to = self._telemetry
        sources = HealthSources(
            to.liveness, self._hindrance, to.states.current, self._accepted, self._configured
        )
        owned = OwnedTenants(self._tenants, self._holds, self._mode)
        return web_thread(
            self._current_settings, RelayBridge(asyncio.get_running_loop()), sources, to.meters, owned
        )

    def _hindrance(self) -> str | None:
        """Why nothing would be delivered now; called from the web thread."""
        if self._signals.stop.is_set():
            return "the relay is stopping"
        holder = None if self.running is None else self.running.lease_holder
        if self._startup.hindrance is None and holder is not None and holder.is_over:
            return "its leases are over: no heartbeat reached the outbox in time"
        return self._startup.hindrance

    def _current_settings(self) -> Settings:
        return self._settings if self.running is None else self.running.settings()

    def _configured(self) -> Configured:
        tenants = self._current_settings().tenants
        return {TenantId(name): tenant.ordering for name, tenant in tenants.items()}

    def _accepted(self, tenant: TenantId) -> frozenset[DocumentName] | None:
        return None if self.running is None else self.running.workers.accepted(tenant)

    def _tenants(self) -> Iterable[TenantId]:
        return () if self.running is None else self.running.workers.tenants

    def _holds(self, tenant: TenantId) -> bool:
        return self.running is not None and self.running.workers.holds(tenant)

    def _mode(self) -> Mode:
        return "poll" if self.running is None else self.running.mode()
