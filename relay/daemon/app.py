"""A relay process: composition, start and stop."""

import asyncio
import os
import random
import socket
import sys
import time
import uuid
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from functools import partial

import relay
from relay.config.settings import Settings
from relay.core.byte_budget import ByteBudget
from relay.core.fair_share import FairShare
from relay.core.model import TenantId
from relay.core.ports import Store
from relay.daemon.lease_loop import LEASES, LeaseLoop
from relay.daemon.leases import LeaseHolder
from relay.daemon.maintenance import HEARTBEAT, Heartbeat, Maintenance
from relay.daemon.reload import Load, Reload
from relay.daemon.signals import ProcessSignals
from relay.daemon.startup import open_when_available
from relay.daemon.supervisor import Supervisor
from relay.daemon.systemd import SystemdNotifier
from relay.daemon.telemetry import ProcessTelemetry, TraceExport, incidents_of
from relay.daemon.tenant_states import TenantStates
from relay.daemon.until_empty import UntilEmpty
from relay.daemon.watchdog import Watchdog
from relay.daemon.wiring import (
    WorkerBuilder,
    maintenance_rules_of,
    max_in_flight,
    open_files_problem,
    schedule_of,
    tenant_profiles,
)
from relay.daemon.workers import ARRIVALS, Assignment, Workers
from relay.delivery import settler
from relay.delivery.limits import MAX_UNSETTLED
from relay.delivery.outbox_retry import OutboxRetry
from relay.delivery.settler import Settler
from relay.ion.connections import Connections
from relay.observability import logs, open_files
from relay.observability.incidents import Tally
from relay.observability.liveness import Liveness
from relay.observability.metrics import Meters
from relay.reports.overview import Configured
from relay.web.application import web_thread
from relay.web.health import HealthSources
from relay.web.metrics_endpoint import OwnedTenants
from relay.web.relay_bridge import RelayBridge
from relay.web.thread import WebThread

_DEREGISTER_SECONDS = 1.0
"""At least this time is given to delete the heartbeat, even when the grace is over."""

_SWITCH_SECONDS = 0.0003
"""A thread of the outbox waits at most this long for its turn beside a busy loop (decision 0013)."""


def run(settings: Settings, load: Load, *, until_empty: bool = False, within: float | None = None) -> int:
    """Deliver messages until stopped, or until nothing is left; the exit code.

    `load` reads the settings again, at each SIGHUP; it raises SettingsError. Raises SettingsError where the
    web cannot listen, and StoreError where the outbox cannot be opened. `within`: seconds after which
    `until_empty` gives up, with exit code 1.
    """
    sys.setswitchinterval(_SWITCH_SECONDS)
    open_files.raise_limit()
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(_run(settings, load, until_empty=until_empty, within=within))


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:  # not Linux: the standard loop does the same, slower
        return None
    return uvloop.new_event_loop


async def _run(settings: Settings, load: Load, *, until_empty: bool, within: float | None) -> int:
    signals, log, systemd = ProcessSignals(), logs.logger(), SystemdNotifier()
    end = None if within is None else asyncio.get_running_loop().time() + within
    outbox = await open_when_available(settings, log, systemd, signals.stop, end)
    if outbox is None:
        log.info("relay.ended")
        return 0
    try:
        return await Relay(settings, load, outbox, signals, systemd).run(until_empty=until_empty, end=end)
    finally:
        await outbox.close()


class Relay:
    """One relay process."""

    def __init__(
        self, settings: Settings, load: Load, outbox: Store, signals: ProcessSignals, systemd: SystemdNotifier
    ) -> None:
        self._outbox, self._signals, self._systemd = outbox, signals, systemd
        self._telemetry = to = _telemetry(settings, outbox)
        schedule, name = schedule_of(settings), f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self._settler = Settler(outbox, to.incidents, schedule, random.random, to.meters, to.liveness)
        self._supervisor = Supervisor(to.log, to.incidents, schedule, random.random, to.liveness)
        leases = outbox.leases
        self._lease_holder = None if leases is None else LeaseHolder(leases, name, time.monotonic)
        self._workers = Workers(
            outbox, self._settler, self._supervisor, to.log, to.liveness, self._lease_holder
        )
        self._memory = memory = ByteBudget(settings.max_bytes_in_memory)
        fair_share = FairShare(max_in_flight(settings))
        most = open_files.open_files().connections
        connections = None if most is None else Connections(most)
        self._builder = WorkerBuilder(
            outbox, self._settler, fair_share, memory, connections, to, self._workers.holds
        )
        self._heartbeat = Heartbeat(name, outbox, to.log, to.incidents, to.liveness)
        self._maintenance = Maintenance(outbox, to.log, maintenance_rules_of(settings))
        self._reload = Reload(settings, load, self._apply, signals, to.log)
        self._is_started = False

    async def run(self, *, until_empty: bool, end: float | None) -> int:
        """From the first line of the log to the last; the exit code. `end`: in the loop's time."""
        watchdog = Watchdog(self._telemetry.liveness, self._systemd, self._telemetry.log)
        watchdog.start()
        web = None if until_empty else await self._serve()
        try:
            await self._start()
            code = await self._wait(until_empty=until_empty, end=end)
        finally:
            code_of_end = await self._end()
            watchdog.stop()
            if web is not None:
                await web.stop()
        return code or code_of_end

    async def _wait(self, *, until_empty: bool, end: float | None) -> int:
        stop = self._signals.stop
        if not until_empty:
            await stop.wait()
            return 0
        waiter = UntilEmpty(self._outbox, self._settler, self._workers, self._owns, self._telemetry.log)
        return await waiter.wait(stop, end)

    def _owns(self, tenant: str) -> bool:
        return self._reload.settings.owns(tenant)

    # --- starting --------------------------------------------------------------------------------------

    async def _serve(self) -> WebThread | None:
        """Health, metrics, the page, ION's calls: before all else, since a port in use ends it all."""
        to, workers = self._telemetry, self._workers
        sources = HealthSources(
            to.liveness, self._why_not_ready, to.states.current, workers.accepted, self._configured
        )
        owned = OwnedTenants(lambda: workers.tenants, workers.holds, lambda: self._outbox.mode)
        bridge = RelayBridge(asyncio.get_running_loop())
        thread = web_thread(lambda: self._reload.settings, bridge, sources, to.meters, owned)
        if thread is not None:
            for setting, address in (await thread.start()).items():
                to.log.info("web.opened", setting=setting, address=address)
        return thread

    def _configured(self) -> Configured:
        return {TenantId(name): tenant.ordering for name, tenant in self._reload.settings.tenants.items()}

    def _why_not_ready(self) -> str | None:
        """Why nothing would be delivered now; called from the web thread."""
        if self._signals.stop.is_set():
            return "the relay is stopping"
        if not self._is_started:
            return "the relay is starting"
        if self._lease_holder is not None and self._lease_holder.is_over:
            return "its leases are over: no heartbeat reached the outbox in time"
        return None

    async def _start(self) -> None:
        to, settings = self._telemetry, self._reload.settings
        to.log.info("relay.started", version=relay.__version__, relay=self._heartbeat.name)
        for problem in [*settings.unknown, *to.trace_export.open()]:
            to.log.warning("setting.ignored", setting=problem.field, reason=problem.what, hint=problem.hint)
        bounded = open_files_problem(settings)
        if bounded is not None:
            to.log.warning("connections.limited", reason=bounded, hint=open_files.RAISE_HINT)
        self._reload.refuse(settings.broken)
        outbox_retry = OutboxRetry(to.incidents, schedule_of(settings), random.random, self._signals.stop)
        await outbox_retry.ask(self._heartbeat.beat)  # before the first post: from here on a crash is noticed
        if await outbox_retry.ask(self._outbox.unclean):
            to.log.warning(
                "relay.recovered",
                reason="the relay before this one ended without settling its last posts",
                detail=f"at most {MAX_UNSETTLED} messages a tenant are sent again under the same message ids",
            )
        await self._apply(settings)
        for name, component in self._components().items():
            self._supervisor.supervise(name, component)
        self._is_started = True
        self._systemd.ready()

    def _components(self) -> dict[str, Callable[[], Awaitable[None]]]:
        """What runs until the end, by the name that the log and /livez use."""
        to = self._telemetry
        components: dict[str, Callable[[], Awaitable[None]]] = {
            "tick": to.tick,
            "restart": self._supervisor.restart_stalled,
            settler.NAME: self._settler.run,
            ARRIVALS: self._workers.listen,
            "states": to.states.run,
            HEARTBEAT: partial(self._heartbeat.run, to.states.rewrite),
            "maintenance": partial(self._maintenance.run, self._workers.stopping),
            "lag": partial(to.meters.watch_loop, lambda: self._memory.taken),
            "reload": partial(self._reload.run, self._systemd),
            "tenants directory": self._reload.watch_directory,
        }
        if self._lease_holder is not None:
            components[LEASES] = LeaseLoop(
                self._lease_holder,
                self._workers,
                self._supervisor,
                to.log,
                to.incidents,
                random.random,
                to.liveness,
            ).run
        return components

    async def _apply(self, settings: Settings) -> tuple[list[TenantId], list[TenantId]]:
        """Put the settings into effect: (tenants added or changed, removed)."""
        self._builder.resize(settings)
        self._maintenance.rules = maintenance_rules_of(settings)
        assignments = {
            tenant: Assignment(profile, partial(self._builder.build, tenant, profile))
            for tenant, profile in tenant_profiles(settings).items()
        }
        directory = settings.directory.names  # a broken file there was reported already
        changed, removed = await self._workers.assign(
            assignments, lambda tenant: tenant in directory or not settings.owns(tenant)
        )
        for tenant in removed:
            self._telemetry.forget(tenant)
        return changed, removed

    # --- ending ------------------------------------------------------------------------------------------

    async def _end(self) -> int:
        """Complete posts, settle, deregister; at once if a second signal comes."""
        self._systemd.stopping()
        log, clock = self._telemetry.log, asyncio.get_running_loop().time
        grace = self._reload.settings.stop.grace_seconds
        deadline = clock() + grace
        ending = asyncio.create_task(self._workers.stop(grace))
        hurried = asyncio.create_task(self._signals.stop_now.wait())
        await asyncio.wait({ending, hurried}, return_when=asyncio.FIRST_COMPLETED)
        hurried.cancel()
        if not ending.done():
            ending.cancel()
            await self._supervisor.cancel()
            log.warning("relay.ended", reason="a second signal: posts in flight were cut")
            return 1
        unsettled = ending.result()
        self._telemetry.close()
        if unsettled:
            log.error("relay.ended", reason=f"{unsettled} settlements could not be written", hint="see above")
            return 1
        await self._heartbeat.deregister(max(deadline - clock(), _DEREGISTER_SECONDS))
        await self._telemetry.trace_export.close()
        log.info("relay.ended")
        return 0


def _telemetry(settings: Settings, outbox: Store) -> ProcessTelemetry:
    log, period = logs.logger(), settings.log.summary_seconds
    return ProcessTelemetry(
        log=log,
        incidents=incidents_of(log, None, period),
        tally=Tally(log, period, asyncio.get_running_loop().call_later),
        meters=Meters(settings.web.tenant_labels),
        liveness=Liveness(),
        states=TenantStates(outbox, lambda: datetime.now(UTC)),
        trace_export=TraceExport(incidents_of(log, None, period)),
    )
