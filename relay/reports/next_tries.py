"""This file is the next tries: of which tenant or message, when, and why not before. The soonest first."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from relay.core.model import MessageId, TenantId
from relay.observability import error_codes
from relay.reports.delays import delayed, first_waiting
from relay.reports.message import surroundings
from relay.reports.overview import Configured, Source, look
from relay.reports.times import instant
from relay.reports.wait_reasons import Around, Rule, Wait, holding


@dataclass(frozen=True, slots=True)
class NextTry:
    """One try. `at` None: not by itself. `message_id` None: of the tenant's ION, for all of its messages."""

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
    """All of them; `running`: whether a relay is there to try."""

    now: datetime
    running: bool
    tries: Sequence[NextTry]

    def as_json(self) -> dict[str, Any]:
        """As `relay next --json` prints it."""
        return {"running": self.running, "tries": [one.as_json() for one in self.tries]}


async def next_tries(outbox: Source, configured: Configured, now: datetime) -> NextTries:
    """Of tenants whose messages wait, and of those among their first that wait a delay of their own."""
    overview = await look(outbox, configured, now)
    found: list[NextTry] = []
    for tenant in (tenant for tenant, count in overview.counts.items() if count.pending):
        around = surroundings(tenant, overview)
        wait = holding(tenant, around)
        found += _of_tenant(tenant, wait, around)
        if wait is None or wait.rule in ("backing-off", "opening"):  # else no message is tried at all
            found += await _of_messages(tenant, outbox, now)
    return NextTries(now, overview.running, sorted(found, key=_soonest))


def _soonest(one: NextTry) -> tuple[bool, float, TenantId]:
    return one.at is None, one.at.timestamp() if one.at else 0.0, one.tenant_id


def _of_tenant(tenant: TenantId, wait: Wait | None, around: Around) -> Iterator[NextTry]:
    reason = around.state.reason if around.state else ""
    if wait is not None:
        at = around.now if wait.rule == "opening" else wait.next_try
        yield NextTry(at, tenant, None, wait.rule, around.paused or reason or wait.text, wait.code)
    elif around.not_accepted:
        following = around.state.next_try if around.state else None
        yield NextTry(following, tenant, None, "not-accepted", reason, error_codes.NOT_ACCEPTED.code)


async def _of_messages(tenant: TenantId, outbox: Source, now: datetime) -> Sequence[NextTry]:
    return [
        NextTry(record.not_before, tenant, record.message_id, "back-off", record.reason or "")
        for record in await first_waiting(outbox, tenant)
        if delayed(record, now)
    ]
