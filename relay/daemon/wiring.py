"""Settings become rules and connections, and a tenant's profile becomes its worker."""

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from relay.config.credentials import credentials_of
from relay.config.problems import listed
from relay.config.sections import TenantSettings
from relay.config.settings import Settings
from relay.core.byte_budget import ByteBudget
from relay.core.fair_share import FairShare
from relay.core.model import DocumentName, LogicalId, TenantId
from relay.core.ports import Control, Store
from relay.core.protocol import Policy
from relay.core.retry import Schedule
from relay.daemon.maintenance import MaintenanceRules
from relay.daemon.telemetry import ProcessTelemetry, incidents_of
from relay.delivery.context import Telemetry, TenantContext, TenantRules
from relay.delivery.outbox_retry import OutboxRetry
from relay.delivery.settler import Settler
from relay.delivery.worker import Worker
from relay.ion.client import IonClient, IonConnection
from relay.ion.connections import Connections
from relay.observability import open_files
from relay.observability.liveness import worker_name

_DAY = 86400.0


@dataclass(frozen=True, slots=True)
class TenantProfile:
    """All that a tenant's worker and ION client are built from; equal profiles need no restart."""

    rules: TenantRules
    connection: IonConnection
    summary_seconds: float

    @property
    def longest_step(self) -> float:
        """Seconds that a call to ION may take: the wait under a rate limit, and the call itself."""
        limit = self.connection.rate_limit
        wait = 0.0 if limit is None else self.rules.max_in_flight / limit
        return self.connection.total_seconds + wait


def tenant_profiles(settings: Settings) -> dict[TenantId, TenantProfile]:
    """The profile of every tenant that this relay owns."""
    names = [TenantId(name) for name in settings.tenants if settings.owns(name)]
    return {name: _profile(settings, name) for name in names}


def schedule_of(settings: Settings) -> Schedule:
    """The retry delays."""
    return Schedule(settings.retry.initial_seconds, settings.retry.max_seconds)


def maintenance_rules_of(settings: Settings) -> MaintenanceRules:
    """Retention, and when to warn."""
    kept = settings.retention
    return MaintenanceRules(
        delivered_kept=kept.delivered_days * _DAY,
        payload_kept=None if kept.payload_days is None else kept.payload_days * _DAY,
        audit_kept=kept.audit_days * _DAY,
        warn_after=settings.warn_after_seconds,
    )


def _profile(settings: Settings, name: TenantId) -> TenantProfile:
    tenant = settings.tenants[name]
    return TenantProfile(
        _rules(settings, name, tenant),
        _connection(settings, name, tenant),
        settings.log.summary_seconds,
    )


def _rules(settings: Settings, name: TenantId, tenant: TenantSettings) -> TenantRules:
    return TenantRules(
        tenant_id=name,
        ordering=tenant.ordering,
        max_in_flight=tenant.max_in_flight,
        max_message_bytes=tenant.max_message_bytes,
        policy=Policy(tenant.on_rejected, settings.park_nothing, settings.retry.max_attempts),
        schedule=schedule_of(settings),
        park_after=settings.park_after_seconds,
        probe=settings.retry.probe_seconds,
        grace=settings.stop.grace_seconds,
        least_rate=settings.http.least_bytes_per_second,
        opaque=tenant.opaque,
        check=tenant.check_documents,
    )


def _connection(settings: Settings, name: TenantId, tenant: TenantSettings) -> IonConnection:
    return IonConnection(
        tenant_id=name,
        logical_id=LogicalId(tenant.logical_id),
        ion_url=tenant.ion_url,
        credentials=credentials_of(tenant),
        connect_seconds=settings.http.connect_seconds,
        read_seconds=settings.http.read_seconds,
        total_seconds=settings.http.total_seconds,
        least_rate=settings.http.least_bytes_per_second,
        rate_limit=tenant.rate_limit,
        deflate_from=settings.http.deflate_from_bytes,
        token_basic=tenant.oauth2.client_authentication == "basic",
        token_scope=tenant.oauth2.scope,
        network=tenant.network(settings.http),
        tokens_a_day=tenant.oauth2.tokens_a_day,
        ionapi_tenant=tenant.oauth2.ionapi_tenant,
        skipped=frozenset(listed(tenant.skipped_calls)),
        documents=frozenset(map(DocumentName, listed(tenant.documents))),
    )


def max_in_flight(settings: Settings) -> int:
    """The posts of all tenants together: by the settings, and by the limit of open files."""
    return min(settings.max_in_flight, open_files.open_files().connections or settings.max_in_flight)


def open_files_problem(settings: Settings) -> str | None:
    """What the limit of open files bounds; None: nothing."""
    wanted = sum(tenant.max_in_flight for tenant in settings.tenants.values())
    return open_files.open_files().bounds(min(settings.max_in_flight, wanted))


class WorkerBuilder:
    """Builds the workers of all tenants. `holds(tenant)`: whether a post may begin, where replicas share."""

    def __init__(
        self,
        outbox: Store,
        settler: Settler,
        fair_share: FairShare,
        memory: ByteBudget,
        connections: Connections | None,
        telemetry: ProcessTelemetry,
        holds: Callable[[TenantId], bool],
    ) -> None:
        self._outbox, self._settler, self._telemetry, self._holds = outbox, settler, telemetry, holds
        self._fair_share, self._memory, self._connections = fair_share, memory, connections

    def resize(self, settings: Settings) -> None:
        """Share by these settings from now on."""
        self._fair_share.resize(max_in_flight(settings))
        self._memory.resize(settings.max_bytes_in_memory)

    def build(self, tenant: TenantId, profile: TenantProfile, control: Control) -> Worker:
        """The tenant's worker."""
        to, stopping = self._telemetry, asyncio.Event()
        holds = partial(self._holds, tenant)
        meter = to.meters.of(tenant, profile.connection.tokens_a_day)
        liveness = to.liveness.component(worker_name(tenant), profile.longest_step)
        telemetry = Telemetry(
            log=to.log.bind(tenant=tenant),
            incidents=incidents_of(to.log, tenant, profile.summary_seconds),
            tally=to.tally,
            meter=meter,
            liveness=liveness,
            report=partial(to.states.report, tenant),
            traces=to.trace_export.traces,
        )
        context = TenantContext(
            outbox=self._outbox,
            outbox_retry=OutboxRetry(to.incidents, profile.rules.schedule, random.random, stopping),
            settler=self._settler,
            ion=IonClient(
                profile.connection,
                holds if self._outbox.leases else None,
                meter,
                liveness.begin,
                self._connections,
            ),
            fair_share=self._fair_share,
            memory=self._memory,
            holds=holds,
            chance=random.random,
            stopping=stopping,
            telemetry=telemetry,
        )
        return Worker(profile.rules, context, control)
