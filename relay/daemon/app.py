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
from relay.config.secret_files import exposed_files
from relay.config.settings import Settings
from relay.core.byte_budget import ByteBudget
from relay.core.fair_share import FairShare
from relay.core.model import TenantId
from relay.core.ports import Store
from relay.daemon.activity_recorder import RECORDER, ActivityRecorder
from relay.daemon.clock_watch import CLOCK, ClockWatch
from relay.daemon.lease_loop import LEASES, LeaseLoop
from relay.daemon.leases import LeaseHolder
from relay.daemon.maintenance import HEARTBEAT, Heartbeat, Maintenance
from relay.daemon.process_health import ProcessHealth, Running
from relay.daemon.reload import Load, Reload
from relay.daemon.signals import ProcessSignals
from relay.daemon.start_reports import report_last_end, report_risks
from relay.daemon.startup import Startup, open_when_available
from relay.daemon.store_incidents import StoreIncidents
from relay.daemon.supervisor import Supervisor
from relay.daemon.systemd import SystemdNotifier
from relay.daemon.telemetry import ProcessTelemetry, TraceExport, incidents_of
from relay.daemon.tenant_states import TenantStates
from relay.daemon.until_empty import UntilEmpty
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
from relay.delivery.settlement_reports import SettlementReports
from relay.delivery.settler import Settler
from relay.ion.connections import Connections
from relay.observability import logs, open_files
from relay.observability.clocks import uptime
from relay.observability.incidents import Tally
from relay.observability.liveness import Liveness
from relay.observability.metrics import Meters

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
    signals, systemd, telemetry = ProcessSignals(), SystemdNotifier(), _telemetry(settings)
    end = None if within is None else asyncio.get_running_loop().time() + within
    startup = Startup(telemetry.incidents, schedule_of(settings), systemd, signals.stop, end)
    health = ProcessHealth(settings, telemetry, signals, systemd, startup)
    try:
        await health.open(serves=not until_empty)
        outbox = await open_when_available(settings, startup, telemetry.log)
        if outbox is None:
            telemetry.log.info("relay.ended")
            return 0
        try:
            running = Relay(settings, load, outbox, signals, systemd, telemetry)
            health.running = running.view
            return await running.run(startup, until_empty=until_empty, end=end)
        finally:
            await outbox.close()
    finally:
        startup.cancel()
        await health.close()


class Relay:
    """One relay process."""

    def __init__(
        self,
        settings: Settings,
        load: Load,
        outbox: Store,
        signals: ProcessSignals,
        systemd: SystemdNotifier,
        telemetry: ProcessTelemetry,
    ) -> None:
        self._outbox, self._signals, self._systemd = outbox, signals, systemd
        self._telemetry = to = telemetry
        schedule, name = schedule_of(settings), f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        more_incidents = partial(incidents_of, to.log, None, settings.log.summary_seconds)
        reports = SettlementReports(to.log, to.incidents, more_incidents())
        self._settler = Settler(outbox, reports, schedule, random.random, to.meters, to.liveness)
        self._supervisor = Supervisor(to.log, to.incidents, schedule, random.random, to.liveness)
        leases = outbox.leases
        self._lease_holder = None if leases is None else LeaseHolder(leases, name, uptime)
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
        self._clock_watch = ClockWatch(outbox, to.log, uptime, self._workers.reread, to.liveness)
        self._maintenance = Maintenance(
            outbox, to.log, maintenance_rules_of(settings), self._clock_watch.is_steady
        )
        self._store_incidents = StoreIncidents(outbox, more_incidents)
        self._activity = ActivityRecorder(outbox, to.meters.activity, time.time, more_incidents())
        self._reload = Reload(settings, load, self._apply, signals, to.log)
        outbox.when_changed(self._begin_anew)

    @property
    def view(self) -> Running:
        """What health and metrics read of it."""
        return Running(
            lambda: self._reload.settings, self._workers, self._lease_holder, lambda: self._outbox.mode
        )

    async def run(self, startup: Startup, *, until_empty: bool, end: float | None) -> int:
        """From `relay.started` to `relay.ended`; the exit code. `end`: in the loop's time."""
        try:
            await self._start(startup)
            code = await self._wait(until_empty=until_empty, end=end)
        finally:
            code_of_end = await self._end()
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

    async def _start(self, startup: Startup) -> None:
        to, settings = self._telemetry, self._reload.settings
        to.log.info(
            "relay.started",
            version=relay.__version__,
            relay=self._heartbeat.name,
            outbox=settings.outbox.place,
            tenants=sum(map(settings.owns, settings.tenants)),
        )
        for problem in [*settings.unknown, *to.trace_export.open()]:
            to.log.warning("setting.ignored", setting=problem.field, reason=problem.what, hint=problem.hint)
        for problem in exposed_files(settings, os.environ):
            to.log.warning("secrets.exposed", setting=problem.field, reason=problem.what, hint=problem.hint)
        bounded = open_files_problem(settings)
        if bounded is not None:
            to.log.warning("connections.limited", reason=bounded, hint=open_files.RAISE_HINT)
        self._reload.refuse(settings.broken)
        await startup.wait_for(self._heartbeat.beat)  # before the first post: from here on a crash is noticed
        await report_risks(settings, to.log)
        await report_last_end(self._outbox, startup, to.log)
        await self._apply(settings)
        for name, component in self._components().items():
            self._supervisor.supervise(name, component)
        startup.complete()

    def _begin_anew(self, reason: str) -> None:
        """The outbox is another one than before."""
        hint = "check what applications committed last: what the new store does not have is not sent"
        self._telemetry.log.warning("outbox.changed", reason=reason, hint=hint)
        self._telemetry.meters.outbox_changes.add(())
        self._workers.begin_anew()
        self._telemetry.states.rewrite()

    def _components(self) -> dict[str, Callable[[], Awaitable[None]]]:
        """What runs until the end, by the name that the log and /livez use."""
        to = self._telemetry
        components: dict[str, Callable[[], Awaitable[None]]] = {
            "restart": self._supervisor.restart_stalled,
            settler.NAME: self._settler.run,
            ARRIVALS: self._workers.listen,
            "states": partial(to.states.run, self._outbox),
            HEARTBEAT: partial(self._heartbeat.run, to.states.rewrite),
            CLOCK: self._clock_watch.run,
            "store incidents": self._store_incidents.run,
            RECORDER: self._activity.run,
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
        self._store_incidents.close()
        if unsettled:
            log.error("relay.ended", reason=f"{unsettled} settlements could not be written", hint="see above")
            return 1
        await self._activity.close(max(deadline - clock(), _DEREGISTER_SECONDS))
        await self._heartbeat.deregister(max(deadline - clock(), _DEREGISTER_SECONDS))
        await self._telemetry.trace_export.close()
        log.info("relay.ended")
        return 0


def _telemetry(settings: Settings) -> ProcessTelemetry:
    log, period = logs.logger(), settings.log.summary_seconds
    return ProcessTelemetry(
        log=log,
        incidents=incidents_of(log, None, period),
        tally=Tally(log, period, asyncio.get_running_loop().call_later),
        meters=Meters(settings.web.tenant_labels),
        liveness=Liveness(),
        states=TenantStates(lambda: datetime.now(UTC)),
        trace_export=TraceExport(incidents_of(log, None, period)),
    )
