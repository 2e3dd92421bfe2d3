"""The next tries: of which tenant or message, when, and why not before; the soonest first."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from relay.core.model import MessageId, TenantId
from relay.observability import error_codes
from relay.reports.delays import held_until, read_first_pending, waits_for_time
from relay.reports.overview import Configured, Overview, ReportStore, read_overview
from relay.reports.times import instant
from relay.reports.wait_reasons import Rule, WaitReason, tenant_wait_reason


@dataclass(frozen=True, slots=True)
class NextTry:
    """One try. `at` None: not until an operator acts. `message_id` None: all messages of the tenant."""

    at: datetime | None
    tenant_id: TenantId
    message_id: MessageId | None
    rule: Rule
    reason: str
    code: str | None = None
    """The run book's, where what is known says exactly which."""

    def as_json(self) -> dict[str, Any]:
        """As in `relay next --json`."""
        return {
            "at": instant(self.at),
            "tenant_id": self.tenant_id,
            "message_id": self.message_id,
            "rule": self.rule,
            "reason": self.reason,
            "code": self.code,
        }


@dataclass(frozen=True, slots=True)
class NextTries:
    """All next tries; `running`: whether a relay is running."""

    now: datetime
    running: bool
    tries: Sequence[NextTry]

    def as_json(self) -> dict[str, Any]:
        """As `relay next --json` prints it."""
        return {"running": self.running, "tries": [one.as_json() for one in self.tries]}


async def read_next_tries(outbox: ReportStore, configured: Configured, now: datetime) -> NextTries:
    """Tries of tenants with waiting messages, and of those of their first messages that back off."""
    overview = await read_overview(outbox, configured, now)
    found: list[NextTry] = []
    for tenant in (tenant for tenant, count in overview.counts.items() if count.pending):
        wait = tenant_wait_reason(tenant, overview.wait_context(tenant))
        found += _of_tenant(tenant, wait, overview)
        if wait is None or wait.rule in ("backing-off", "opening"):  # else no message is tried at all
            found += await _of_messages(tenant, outbox, overview)
    return NextTries(now, overview.running, sorted(found, key=_soonest))


def _soonest(one: NextTry) -> tuple[bool, float, TenantId]:
    return one.at is None, one.at.timestamp() if one.at else 0.0, one.tenant_id


def _of_tenant(tenant: TenantId, wait: WaitReason | None, overview: Overview) -> Iterator[NextTry]:
    state, reason = overview.states.get(tenant), overview.live_reason(tenant)
    if wait is not None:
        at = overview.at if wait.rule == "opening" else wait.next_try
        text = overview.paused(tenant) or reason or wait.text
        yield NextTry(at, tenant, None, wait.rule, text, wait.code)
    elif state is not None and state.documents:
        code = error_codes.NOT_ACCEPTED.code
        yield NextTry(state.next_try, tenant, None, "not-accepted", reason, code)


async def _of_messages(tenant: TenantId, outbox: ReportStore, overview: Overview) -> Sequence[NextTry]:
    context, now = overview.wait_context(tenant), overview.at
    records = await read_first_pending(outbox, tenant)
    held = held_until(records, context.ordering or "key", context.not_accepted, now)
    return [
        NextTry(until, tenant, record.message_id, "back-off", record.reason or "")
        for record, until in held
        if waits_for_time(record, now)
    ]
