"""What every component of the process reports to: log, incidents, meters, liveness, live states, traces."""

import asyncio
import os
from dataclasses import dataclass

from relay.core.answers import FaultOwner
from relay.core.model import TenantId
from relay.core.validation import Problem
from relay.daemon.tenant_states import TenantStates
from relay.observability import tracing
from relay.observability.incidents import Incidents, Tally
from relay.observability.liveness import Liveness
from relay.observability.logs import Log
from relay.observability.metrics import Meters
from relay.observability.tracing import Traces

_FLUSH_SECONDS = 2.0
"""At the end, the collector of traces has this time to take the last ones."""

_TICK_SECONDS = 0.5


def incidents_of(log: Log, tenant: TenantId | None, summary_seconds: float) -> Incidents:
    """The incidents of a tenant, or of the process itself, on the running loop's clock."""
    loop = asyncio.get_running_loop()
    return Incidents(log, tenant, loop.time, summary_seconds, loop.call_later)


class TraceExport:
    """The export of traces that OpenTelemetry's variables ask for; `traces` is None without them."""

    def __init__(self, incidents: Incidents) -> None:
        self._incidents = incidents
        self.traces: Traces | None = None

    def open(self) -> list[Problem]:
        """Start the export where it is asked for; what prevents it, if anything does."""
        loop = asyncio.get_running_loop()
        opened = tracing.open_traces(os.environ, lambda why: loop.call_soon_threadsafe(self._report, why))
        if isinstance(opened, Problem):
            return [opened]
        self.traces = opened
        return []

    async def close(self) -> None:
        """Flush what is left."""
        if self.traces is not None:
            await self.traces.close(_FLUSH_SECONDS)
            self._incidents.close()

    def _report(self, why_not: str | None) -> None:
        if why_not is None:
            self._incidents.resolved()
            return
        hint = "check the collector and the variable; RELAY_LOG__LEVEL=debug shows what it answers"
        self._incidents.report("traces", detail=why_not, fault=FaultOwner.COLLECTOR, hint=hint)


@dataclass(frozen=True, slots=True)
class ProcessTelemetry:
    """One for the process."""

    log: Log
    incidents: Incidents
    tally: Tally
    meters: Meters
    liveness: Liveness
    states: TenantStates
    trace_export: TraceExport

    async def tick(self) -> None:
        """Show that the loop runs, and by how much it is late; for ever."""
        clock = asyncio.get_running_loop().time
        while True:
            began = clock()
            await asyncio.sleep(_TICK_SECONDS)
            self.liveness.tick(max(clock() - began - _TICK_SECONDS, 0.0))

    def forget(self, tenant: TenantId) -> None:
        """The tenant is not configured any more."""
        self.states.forget(tenant)
        self.meters.forget(tenant)

    def close(self) -> None:
        """Write the last summary; no more timers."""
        self.tally.flush()
        self.incidents.close()
