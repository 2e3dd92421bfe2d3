"""This file is a running relay: the parts put together, signals and reloading, and how it ends."""

import asyncio
import os
import random
import socket
import sys
import time
import uuid
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial

import relay
from relay.config.settings import Settings, SettingsError
from relay.core.fair_share import FairShare
from relay.core.model import DocumentName, TenantId
from relay.core.ports import Control, Store, StoreError
from relay.core.protocol import Fault
from relay.core.validation import Problem
from relay.daemon.leases import LeaseHolder
from relay.daemon.maintenance import HEARTBEAT, Maintenance, TenantStates
from relay.daemon.signals import ProcessSignals
from relay.daemon.startup import opened
from relay.daemon.supervisor import ARRIVALS, LEASES, Post, Supervisor
from relay.daemon.systemd import SystemdNotifier
from relay.daemon.watchdog import Watchdog
from relay.daemon.wiring import TenantProfile, maintenance_rules_of, schedule_of, tenant_profiles
from relay.delivery import settler
from relay.delivery.context import Telemetry, TenantContext
from relay.delivery.limits import MAX_UNSETTLED
from relay.delivery.outbox_retry import OutboxRetry
from relay.delivery.settler import Settler
from relay.delivery.waiting import nap
from relay.delivery.worker import Worker
from relay.ion.client import IonClient
from relay.observability import logs, tracing
from relay.observability.incidents import Incidents, Tally
from relay.observability.liveness import Liveness, worker_name
from relay.observability.metrics import Meters
from relay.observability.tracing import Traces
from relay.reports.overview import Configured
from relay.web.application import web_thread
from relay.web.health import HealthSources
from relay.web.metrics_endpoint import OwnedTenants
from relay.web.relay_bridge import RelayBridge
from relay.web.thread import WebThread

_FOLDER_SECONDS, _FOLDER_SHARE = 3.0, 100.0
"""The folder of tenants is looked at so often; the rest between two looks is so many times as long as one."""

_LEAVE_SECONDS = 1.0
"""So long at least the outbox has to take the heartbeat back, also where the grace is over."""

_FLUSH_SECONDS = 2.0
"""So long the collector of traces has to take the last ones."""

_TICK_SECONDS = 0.5

_LOOK_SECONDS = 0.1
"""How often `--until-empty` looks whether anything is left."""

_SWITCH_SECONDS = 0.0003
"""A thread of the outbox waits at most so long for its turn beside a busy loop (decision 0013)."""

Load = Callable[[], Settings]


def run(settings: Settings, load: Load, *, until_empty: bool = False, within: float | None = None) -> int:
    """Carry messages until stopped, or until nothing is left; the exit code.

    `load` reads the settings again, at each SIGHUP; it raises SettingsError. Raises SettingsError where the
    web cannot listen, and StoreError where the outbox cannot be opened. `within`: seconds after which
    `until_empty` gives up, with exit code 1.
    """
    sys.setswitchinterval(_SWITCH_SECONDS)
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(_run(settings, load, until_empty=until_empty, within=within))


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:  # not Linux: the standard loop does the same, slower
        return None
    return uvloop.new_event_loop


async def _run(settings: Settings, load: Load, *, until_empty: bool, within: float | None) -> int:
    asked, log, service = ProcessSignals(), logs.logger(), SystemdNotifier()
    end = None if within is None else asyncio.get_running_loop().time() + within
    outbox = await opened(settings, log, service, asked.stop, end)
    if outbox is None:
        log.info("relay.ended")
        return 0
    try:
        return await Relay(settings, load, outbox, asked, service).run(until_empty=until_empty, end=end)
    finally:
        await outbox.close()


class Relay:
    """One relay process."""

    def __init__(
        self, settings: Settings, load: Load, outbox: Store, asked: ProcessSignals, service: SystemdNotifier
    ) -> None:
        loop = asyncio.get_running_loop()
        self._settings, self._load, self._outbox = settings, load, outbox
        self._asked, self._service = asked, service
        self._name = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self._log = logs.logger()
        period, schedule = settings.log.summary_seconds, schedule_of(settings)
        self._incidents = Incidents(self._log, None, loop.time, period, loop.call_later)
        self._tally = Tally(self._log, period, loop.call_later)
        self._shares = FairShare(settings.max_in_flight)
        self._liveness = liveness = Liveness()
        self._watchdog = Watchdog(liveness, service, self._log)
        self._meters = Meters(settings.web.tenant_labels)
        self._settler = Settler(outbox, self._incidents, schedule, random.random, self._meters, liveness)
        leases = outbox.leases
        self._lease_holder = None if leases is None else LeaseHolder(leases, self._name, time.monotonic)
        self._is_started = False
        self._traces: Traces | None = None
        self._span_incidents = Incidents(self._log, None, loop.time, period, loop.call_later)
        self._supervisor = Supervisor(
            outbox,
            self._settler,
            self._log,
            self._incidents,
            schedule,
            random.random,
            self._lease_holder,
            liveness,
        )
        self._states = TenantStates(outbox, _utc_now)
        details = {"host": socket.gethostname(), "pid": str(os.getpid()), "version": relay.__version__}
        self._maintenance = Maintenance(self._name, details, outbox, self._log, self._incidents, liveness)

    async def run(self, *, until_empty: bool, end: float | None) -> int:
        """From the first line of the log to the last; the exit code. `end`: in the loop's time."""
        self._watchdog.start()
        web = None if until_empty else await self._serve()
        try:
            await self._start()
            code = await self._until_empty(end) if until_empty else await self._until_stopped()
        finally:
            code_of_end = await self._end()
            self._watchdog.stop()
            if web is not None:
                await web.stop()
        return code or code_of_end

    # --- starting --------------------------------------------------------------------------------------

    async def _serve(self) -> WebThread | None:
        """Health, metrics, the page, ION's calls: before anything begins, since a taken port ends it all."""
        vitals = HealthSources(
            self._liveness, self._hindrance, self._states.current, self._supervisor.accepted, self._configured
        )
        inside, owned = RelayBridge(asyncio.get_running_loop()), self._owned()
        thread = web_thread(lambda: self._settings, inside, vitals, self._meters, owned)
        if thread is not None:
            for setting, address in (await thread.start()).items():
                self._log.info("web.opened", setting=setting, address=address)
        return thread

    def _owned(self) -> OwnedTenants:
        return OwnedTenants(
            lambda: self._supervisor.tenants, self._supervisor.holds, lambda: self._outbox.mode
        )

    def _configured(self) -> Configured:
        return {TenantId(name): tenant.ordering for name, tenant in self._settings.tenants.items()}

    def _hindrance(self) -> str | None:
        """Why it would carry nothing now; asked from the web thread."""
        if self._asked.stop.is_set():
            return "the relay is stopping"
        if not self._is_started:
            return "the relay is starting"
        if self._lease_holder is not None and self._lease_holder.is_over:
            return "its leases are over: no heartbeat reached the outbox in time"
        return None

    async def _start(self) -> None:
        self._log.info("relay.started", version=relay.__version__, relay=self._name)
        for problem in [*self._settings.unknown, *self._open_traces()]:
            self._log.warning(
                "setting.ignored", setting=problem.field, reason=problem.what, hint=problem.hint
            )
        self._refuse(self._settings.broken)
        outbox_retry = OutboxRetry(
            self._incidents, schedule_of(self._settings), random.random, self._asked.stop
        )
        await outbox_retry.ask(
            self._maintenance.beat_once
        )  # before the first post: from here on a crash leaves a trace
        if await outbox_retry.ask(self._outbox.unclean):
            self._log.warning(
                "relay.recovered",
                reason="the relay before this one ended without settling its last posts",
                detail=f"at most {MAX_UNSETTLED} messages a tenant are sent again under the same message ids",
            )
        self._maintenance.care = maintenance_rules_of(self._settings)
        await self._supervisor.assign(*self._posts(self._settings))
        self._supervisor.keep("tick", self._tick)
        self._supervisor.keep("hint", self._supervisor.restart_ended)
        self._supervisor.keep(settler.NAME, self._settler.run)
        self._supervisor.keep(LEASES, self._supervisor.share)
        self._supervisor.keep(ARRIVALS, self._supervisor.listen)
        self._supervisor.keep("states", self._states.run)
        self._supervisor.keep(HEARTBEAT, partial(self._maintenance.beat, self._states))
        self._supervisor.keep("care", partial(self._maintenance.look_after, self._supervisor.stopping))
        self._supervisor.keep("lag", self._meters.watch_loop)
        self._supervisor.keep("reload", self._reload_when_asked)
        self._supervisor.keep("folder", self._watch_folder)
        self._is_started = True
        self._service.ready()

    def _open_traces(self) -> list[Problem]:
        """What hinders the traces that the environment asks for, if anything does."""
        loop = asyncio.get_running_loop()
        found = tracing.open_traces(os.environ, lambda why: loop.call_soon_threadsafe(self._spans_went, why))
        if isinstance(found, Problem):
            return [found]
        self._traces = found
        return []

    def _spans_went(self, why_not: str | None) -> None:
        if why_not is None:
            self._span_incidents.resolved()
            return
        hint = "check the collector and the variable; RELAY_LOG__LEVEL=debug shows what it answers"
        self._span_incidents.report("traces", detail=why_not, fault=Fault.COLLECTOR, hint=hint)

    async def _tick(self) -> None:
        """Show that the loop goes round, and by how much it is late."""
        clock = asyncio.get_running_loop().time
        while True:
            began = clock()
            await asyncio.sleep(_TICK_SECONDS)
            self._liveness.tick(max(clock() - began - _TICK_SECONDS, 0.0))

    def _refuse(self, problems: Iterable[Problem]) -> None:
        for problem in problems:
            self._log.error("settings.refused", setting=problem.field, reason=problem.what, hint=problem.hint)

    def _posts(self, settings: Settings) -> tuple[dict[TenantId, Post], Callable[[TenantId], bool]]:
        """The tenants to carry, and which of the others are left to another relay."""
        posts = {
            tenant: Post(profile, partial(self._worker, tenant, profile))
            for tenant, profile in tenant_profiles(settings).items()
        }
        apart = settings.apart.names  # a broken file was told already
        return posts, lambda tenant: tenant in apart or not settings.carries(tenant)

    def _worker(self, tenant: TenantId, profile: TenantProfile, control: Control) -> Worker:
        loop, stopping = asyncio.get_running_loop(), asyncio.Event()
        log, holds = self._log.bind(tenant=tenant), partial(self._supervisor.holds, tenant)
        meter = self._meters.of(tenant, profile.tokens_a_day)
        liveness = self._liveness.component(worker_name(tenant), profile.longest_step)
        may_send = holds if self._outbox.leases else None
        telemetry = Telemetry(
            log=log,
            incidents=Incidents(self._log, tenant, loop.time, profile.summary_seconds, loop.call_later),
            tally=self._tally,
            meter=meter,
            liveness=liveness,
            report=partial(self._states.report, tenant),
            traces=self._traces,
        )
        context = TenantContext(
            outbox=self._outbox,
            outbox_retry=OutboxRetry(self._incidents, profile.rules.schedule, random.random, stopping),
            settler=self._settler,
            ion=IonClient(profile.connection, may_send, meter, liveness.begin),
            fair_share=self._shares,
            holds=holds,
            chance=random.random,
            stopping=stopping,
            telemetry=telemetry,
        )
        return Worker(profile.rules, context, control)

    # --- new settings ------------------------------------------------------------------------------------

    async def _reload_when_asked(self) -> None:
        while True:
            await self._asked.reload.wait()
            self._asked.reload.clear()
            self._service.reloading()
            try:
                await self._reload_settings()
            finally:
                self._service.ready()

    async def _watch_folder(self) -> None:
        """A change in the folder of tenants counts like a SIGHUP: one look at all of it, in a thread."""
        tried, took = None, 0.0
        while True:
            await asyncio.sleep(max(_FOLDER_SECONDS, _FOLDER_SHARE * took))
            if self._settings.tenants_dir is None:
                continue
            began = time.monotonic()
            now = await asyncio.to_thread(self._settings.folder_signature)
            took = time.monotonic() - began
            if now not in (tried, self._settings.signature):
                tried = now
                self._asked.reload.set()

    async def _reload_settings(self) -> None:
        try:
            settings = await asyncio.to_thread(self._load)
        except SettingsError as error:
            self._refuse(error.problems)
            return
        before = self._settings
        if (settings.outbox, settings.lease_seconds) != (before.outbox, before.lease_seconds):
            name = "RELAY_OUTBOX__URL" if settings.outbox.url != before.outbox.url else "RELAY_OUTBOX__…"
            hint = "restart the relay to use another outbox or lease; the old settings go on"
            self._refuse([Problem(name, "it changed", hint)])
            return
        if (settings.web, settings.inbound) != (before.web, before.inbound):
            hint = "restart the relay to serve elsewhere or to others; what was served goes on"
            self._refuse([Problem("RELAY_WEB__…, RELAY_INBOUND__…", "they changed", hint)])
        self._refuse(settings.broken)
        self._settings = settings = settings.or_as_before(before)
        self._shares.resize(settings.max_in_flight)
        logs.configure(settings.log.level, settings.log.format)
        self._maintenance.care = maintenance_rules_of(settings)
        changed, removed = await self._supervisor.assign(*self._posts(settings))
        for tenant in removed:
            self._states.forget(tenant)
            self._meters.forget(tenant)
        self._log.info("settings.reloaded", changed=changed, removed=removed)

    # --- ending ------------------------------------------------------------------------------------------

    async def _until_stopped(self) -> int:
        await self._asked.stop.wait()
        return 0

    async def _until_empty(self, end: float | None) -> int:
        """Until nothing is due and nothing can become due by itself."""
        clock = asyncio.get_running_loop().time
        while not self._asked.stop.is_set():
            left = await self._left()
            if left is not None:
                return self._say_left(left)
            if end is not None and clock() >= end:
                self._log.error("relay.gave_up", reason="not everything was delivered in the given time")
                return 1
            await nap(self._asked.stop, _LOOK_SECONDS)
        return 0

    async def _left(self) -> dict[TenantId, str] | None:
        """Why what is left cannot go without a person, by tenant; None while something still can."""
        pending = [one for one in (await self._outbox.notification()).pending if self._settings.carries(one)]
        left: dict[TenantId, str] = {}
        for tenant in pending:
            reason = await self._stuck(tenant)
            if reason is None:
                return None
            left[tenant] = reason
        busy = any(self._settler.unsettled(tenant) for tenant in self._supervisor.tenants)
        return None if busy else left

    async def _stuck(self, tenant: TenantId) -> str | None:
        if tenant not in self._supervisor.tenants:
            return "no tenant of this name is configured"
        worker = self._supervisor.worker(tenant)
        if worker is None:
            return None
        if worker.stuck is not None:
            return worker.stuck
        documents: frozenset[DocumentName] = await self._outbox.documents(tenant)
        if worker.empty and documents and documents <= worker.withheld:
            return f"not accepted by ION: {', '.join(sorted(documents))}"
        if worker.empty:
            worker.arrived()
        return None

    def _say_left(self, left: dict[TenantId, str]) -> int:
        for tenant, reason in sorted(left.items()):
            self._log.error("tenant.stuck", tenant=tenant, reason=reason, hint="relay status")
        for tenant, count in sorted(self._settler.parked.items()):
            hint = f"relay messages list --tenant {tenant} --state parked"
            self._log.error("messages.parked", tenant=tenant, count=count, hint=hint)
        return 1 if left or self._settler.parked else 0

    async def _end(self) -> int:
        """Land, settle, leave; at once if a second signal comes."""
        self._service.stopping()
        clock = asyncio.get_running_loop().time
        grace = self._settings.stop.grace_seconds
        deadline = clock() + grace
        ending = asyncio.create_task(self._supervisor.stop(grace))
        hurried = asyncio.create_task(self._asked.at_once.wait())
        await asyncio.wait({ending, hurried}, return_when=asyncio.FIRST_COMPLETED)
        hurried.cancel()
        if not ending.done():
            ending.cancel()
            await self._supervisor.cut()
            self._log.warning("relay.ended", reason="a second signal: posts in flight were cut")
            return 1
        unsettled = ending.result()
        self._tally.flush()
        self._incidents.close()
        if unsettled:
            self._log.error(
                "relay.ended", reason=f"{unsettled} settlements could not be written", hint="see above"
            )
            return 1
        await self._leave(max(deadline - clock(), _LEAVE_SECONDS))
        if self._traces is not None:
            await self._traces.close(_FLUSH_SECONDS)
            self._span_incidents.close()
        self._log.info("relay.ended")
        return 0

    async def _leave(self, within: float) -> None:
        """Take the heartbeat back; it matters to status alone, and no end waits long for it."""
        with suppress(StoreError, TimeoutError):
            async with asyncio.timeout(within):
                await self._outbox.leave(self._name)


def _utc_now() -> datetime:
    return datetime.now(UTC)
